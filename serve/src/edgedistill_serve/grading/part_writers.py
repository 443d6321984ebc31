"""The bytes of parts of a graded table, and of a table that is put together from them."""

import csv
import io
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, BinaryIO, Protocol, cast

import msgspec

from edgedistill_serve.grading.columns import Column, Kind, arrow_column, arrow_field, records, texts
from edgedistill_serve.grading.formula_cells import escape_cell
from edgedistill_serve.grading.table_formats import DELIMITERS, TableFormat
from edgedistill_serve.grading.table_reader import import_pyarrow
from edgedistill_serve.scoring.score import Columns as AddedColumns

ROW_GROUP_ROWS = 2**16
"""Rows of a row group of a Parquet file that is put together from parts."""


class PartWriter(Protocol):
    """Writes the rows of one part."""

    header_bytes: int
    """Bytes at the beginning of the part that are not rows."""

    def write(self, columns: Mapping[str, Column]) -> None:
        """Write rows: the columns of the source and the added ones."""

    def finish(self) -> None:
        """Write what is left."""


def part_writer(file: BinaryIO, form: TableFormat, kinds: Mapping[str, Kind], added: AddedColumns) -> PartWriter:
    """Begin a part.

    Args:
        file: An empty file.
        form: The format.
        kinds: The columns of the source, with their types.
        added: The columns of the scores.
    """
    columns = {**kinds, **added}
    if form.kind == "parquet":
        return _ParquetPart(file, columns)
    if form.kind == "jsonl":
        return _JsonPart(file, form.compression)
    return _DelimitedPart(file, tuple(columns), DELIMITERS[form.kind], form.compression)


class _DelimitedPart:
    def __init__(self, file: BinaryIO, names: Sequence[str], delimiter: str, compression: str) -> None:
        self._file, self._delimiter = file, delimiter
        with compressed(file, compression) as header:
            self._records(header, [map(escape_cell, names)])
        self.header_bytes = file.tell()
        self._opened = ExitStack()
        self._rows = self._opened.enter_context(compressed(file, compression))

    def write(self, columns: Mapping[str, Column]) -> None:
        self._records(self._rows, zip(*map(_cells, columns.values()), strict=True))

    def _records(self, file: BinaryIO, rows: Any) -> None:
        text = io.StringIO(newline="")
        # With this line terminator, every version of Python quotes carriage returns and line feeds.
        csv.writer(text, delimiter=self._delimiter, lineterminator="\r\n").writerows(rows)
        file.write(text.getvalue().encode())

    def finish(self) -> None:
        self._opened.close()


def _cells(column: Column) -> list[Any]:
    """Return a column as cells; numbers and None are left to the writer, which writes numbers as `repr` does."""
    kinds = set(map(type, column)) if isinstance(column, list) else {object}
    if kinds <= {int, float, type(None)} and not any(value != value for value in column):  # NaN
        return list(column)
    return list(map(escape_cell, texts(column)))


class _JsonPart:
    header_bytes = 0

    def __init__(self, file: BinaryIO, compression: str) -> None:
        self._opened = ExitStack()
        self._rows = self._opened.enter_context(compressed(file, compression))
        self._encoder = msgspec.json.Encoder(enc_hook=str)

    def write(self, columns: Mapping[str, Column]) -> None:
        self._rows.write(b"".join(self._encoder.encode(row) + b"\n" for row in records(columns)))

    def finish(self) -> None:
        self._opened.close()


class _ParquetPart:
    header_bytes = 0

    def __init__(self, file: BinaryIO, columns: Mapping[str, Kind]) -> None:
        self._pa = import_pyarrow("the output")
        self._file, self._columns = file, columns
        self._schema = self._pa.schema([arrow_field(name, kind) for name, kind in columns.items()])
        self._batches: list[Any] = []

    def write(self, columns: Mapping[str, Column]) -> None:
        arrays = [arrow_column(columns[name], kind) for name, kind in self._columns.items()]
        self._batches.append(self._pa.Table.from_arrays(arrays, schema=self._schema))

    def finish(self) -> None:
        pa = self._pa
        # The bytes must not depend on the batches, in which the rows were read.
        table = pa.concat_tables([self._schema.empty_table(), *self._batches]).unify_dictionaries().combine_chunks()
        with pa.parquet.ParquetWriter(self._file, self._schema) as writer:
            writer.write_table(table, row_group_size=max(1, len(table)))


class _Gzip:
    """A gzip stream without a time and a name, so that equal rows have equal bytes."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._compressor = file, zlib.compressobj(wbits=zlib.MAX_WBITS | 16)

    def write(self, data: bytes) -> None:
        self._file.write(self._compressor.compress(data))

    def finish(self) -> None:
        self._file.write(self._compressor.flush())


@contextmanager
def compressed(file: BinaryIO, compression: str) -> Iterator[BinaryIO]:
    """Write compressed bytes to a file: a stream of their own, so that streams one after the other are a file."""
    if compression == ".gz":
        # Not `gzip.GzipFile`, which writes to the file when it is deleted after an error.
        stream = _Gzip(file)
        yield cast("BinaryIO", stream)
        stream.finish()
    elif compression == ".zst":
        pa = import_pyarrow("the output", "Files with Zstandard compression")
        buffer = pa.BufferOutputStream()
        with pa.CompressedOutputStream(buffer, "zstd") as stream:
            yield stream
        file.write(buffer.getvalue())
    else:
        yield file


def put_together(
    form: TableFormat, parts: Sequence[tuple[Callable[[], BinaryIO], int]], target: BinaryIO, *, rows: int
) -> None:
    """Write one table with the rows of all parts.

    Args:
        form: The format of the parts and of the table.
        parts: Opens each part, and its ``header_bytes``.
        target: The file to write.
        rows: Rows of all parts, for a check.

    Raises:
        OSError: The target cannot be written.
    """
    if form.kind == "parquet":
        _join_parquet([opener for opener, _ in parts], target, rows)
        return
    for number, (opener, header_bytes) in enumerate(parts):
        with opener() as part:
            part.read(header_bytes if number else 0)
            while block := part.read(2**20):
                target.write(block)


def _join_parquet(parts: Sequence[Callable[[], BinaryIO]], target: BinaryIO, rows: int) -> None:
    pa = import_pyarrow("the output")
    written = 0
    with ExitStack() as opened:
        writer = None
        waiting: list[Any] = []
        for number, opener in enumerate(parts, start=1):
            with opener() as part:
                table = pa.parquet.ParquetFile(part).read()
            waiting.append(table)
            written += len(table)
            if writer is None:
                writer = opened.enter_context(pa.parquet.ParquetWriter(target, table.schema))
            if sum(map(len, waiting)) >= ROW_GROUP_ROWS or number == len(parts):
                joined = pa.concat_tables(waiting).unify_dictionaries()
                writer.write_table(joined, row_group_size=max(1, len(joined)))
                waiting = []
    if written != rows:
        raise OSError(f"the parts have {written} rows and not {rows}")
