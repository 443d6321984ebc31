"""The table that is coded: a project's human file or a coding sheet. Other columns and rows are never changed.

read_table(…)     its rows, and the cells of coders and labels
write_cells(…)    writes single cells; the table as it was before is kept as a version
"""

import csv
import datetime as dt
import hashlib
import io
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

from edgedistill.data.project_tables import read_project_table
from edgedistill.data.tables import Columns, read_uncoded
from edgedistill.data.types import Response, SetAside, canonical_code
from edgedistill.errors import DataError
from edgedistill.project.schema import Project
from edgedistill_serve.grading.delimited import parse_records
from edgedistill_serve.grading.dialects import Dialect
from edgedistill_serve.grading.formula_cells import escape_cell, unescape_cell
from edgedistill_serve.grading.header_rows import HEADER_FIRST, HeaderRows, read_header
from edgedistill_serve.grading.table_reader import (
    PARQUET_SUFFIX,
    TableRow,
    read_parquet_types,
    read_rows,
)
from edgedistill_serve.grading.table_writer import table_writer
from edgedistill_serve.task.task import Task, list_some, quote_label

Cells: TypeAlias = Mapping[str, Mapping[str, str]]
"""Values by column and id."""

WRITABLE = (".csv", ".tsv", ".jsonl", ".ndjson", PARQUET_SUFFIX)
"""The suffixes of tables that can be written."""
_BOM = b"\xef\xbb\xbf"
_SEPARATOR_LINE = re.compile(r'"?[sS][eE][pP]=[^\r\n"]"?(?:\r\n|\r|\n)')
_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class TableForm:
    """How a table is written again as it was read.

    Attributes:
        named: By key, such as ``label``, its column, where the project file names one.
        id_prefix: What stands before the row number in ids that are row numbers; None if a column has the ids.
        dialect: How its text is read; None for Parquet.
        header: Where its header is.
    """

    named: Mapping[str, str]
    id_prefix: str | None
    dialect: Dialect | None
    header: HeaderRows

    def ident(self, row: int, values: Mapping[str, str]) -> str:
        """Return the id of a row, given its cells by column."""
        if self.id_prefix is not None:
            return f"{self.id_prefix}:{row}"
        return values[self.named.get("id", "id")].strip()

    def in_file(self, cells: "Cells") -> "Cells":
        """Return cells by the columns of the file."""
        return {self.named.get(column, column): by_id for column, by_id in cells.items()}


@dataclass(frozen=True, slots=True)
class CodingTable:
    """The rows of a table that can be coded.

    Attributes:
        path: The file.
        columns: Its columns, and the keys of the columns that the project file names.
        form: How it is written.
        responses: By id, in file order; texts are redacted as the task requires.
        texts: The SHA-256 of each response as it is in the file (first 16 hexadecimal digits), by id.
        set_aside: Rows that cannot be coded, such as blank responses.
    """

    path: Path
    columns: tuple[str, ...]
    form: TableForm
    responses: Mapping[str, Response]
    texts: Mapping[str, str]
    set_aside: tuple[SetAside, ...]
    _rows: Mapping[str, TableRow]

    def cell(self, column: str, ident: str) -> str:
        """Return a cell without surrounding white space; empty if there is no such column."""
        return self._rows[ident].values.get(column, "").strip()

    def codes(self, column: str, task: Task, written: Mapping[str, str]) -> dict[str, str]:
        """Return the codes of a column by id, in their canonical form, without blank and known cells.

        Args:
            column: The column.
            task: Its labels.
            written: Cells that this program has written, by id; an equal cell is absent from the result.

        Raises:
            DataError: A cell is not a code of the task; the message names the rows.
        """
        codes: dict[str, str] = {}
        faults: list[str] = []
        for ident in self.responses:
            text = self.cell(column, ident)
            try:
                if text and text != written.get(ident):
                    codes[ident] = canonical_code(text, task)
            except DataError:
                faults.append(f"row {self._rows[ident].row}: {quote_label(text)} is not a label of the task")
        if faults:
            raise DataError(
                f"the column {column!r} has unknown codes: {list_some(faults, separator='; ')}",
                where=self.path.name,
                hint=f"The labels are {', '.join(task.names)}. Correct the cells, or empty them.",
            )
        return codes


def read_table(project: Project, path: Path) -> CodingTable:
    """Read a table that is to be coded: the columns ``id``, the task's inputs, and any others.

    Args:
        project: It says how its table is read; a coding sheet has the columns of the keys.
        path: The table.

    Raises:
        DataError: The file cannot be read or written, a column is missing, or an id is empty or a duplicate.
    """
    if path.suffix.lower() not in WRITABLE:
        raise DataError(
            f"codes cannot be written to a {path.suffix} file",
            where=path.name,
            hint="Save the table as CSV UTF-8, and name that file in the project file.",
        )
    table, data = read_project_table(project, path), project.data
    columns = Columns(project.task.task, data.group_by, data.max_characters)
    read = read_uncoded(path.name, table.rows, columns)
    by_number = {row.row: row for row in table.rows}
    by_id = {response.id: by_number[response.row] for response in read.rows}
    texts = {ident: hashlib.sha256(row.values["response"].encode()).hexdigest()[:16] for ident, row in by_id.items()}
    responses = {response.id: response for response in read.rows}
    form = TableForm(table.named, table.id_prefix, table.dialect, table.header)
    names = tuple(dict.fromkeys((*table.columns, *table.named)))
    return CodingTable(path, names, form, responses, texts, read.set_aside, by_id)


def write_cells(table: CodingTable, cells: Cells, versions: Path) -> str:
    """Write cells of a table, and keep the table as it was before.

    The new table replaces the old one in one step; after a failure the old one is unchanged. Missing columns are added
    at the end, with empty cells. All other values stay as they are, byte order mark and line breaks included.

    Args:
        table: The table.
        cells: Values by column or key, and by id. Ids that the table does not have are ignored.
        versions: The folder of versions; created if it does not exist.

    Returns:
        Name of the version.

    Raises:
        DataError: A file cannot be read or written.
    """
    path, form, cells = table.path, table.form, table.form.in_file(cells)
    try:
        versions.mkdir(parents=True, exist_ok=True)
        for _ in range(_ATTEMPTS):
            before = path.read_bytes()
            version = versions / f"{path.stem}.{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%S.%fZ}{path.suffix}"
            _write_synced(version, before)
            shutil.copymode(path, version)
            if path.suffix.lower() == PARQUET_SUFFIX:
                _rewrite_parquet(path, cells, form)
                return version.name
            after = _rewrite(path, before, cells, form)
            # Another program may have saved the table in the meantime; its changes must not be lost.
            if path.read_bytes() == before:
                _replace(path, after)
                return version.name
    except OSError as error:
        raise DataError(
            f"the table cannot be written ({error.strerror or error}); the codes are safe in the journal",
            where=str(path),
            hint="Free space or correct the permissions, then write it again.",
        ) from None
    raise DataError("the table changes again and again", where=str(path), hint="Close it in other programs.")


def _rewrite(path: Path, data: bytes, cells: Cells, form: TableForm) -> bytes:
    if form.dialect is not None and form.dialect.delimiter:
        return _rewrite_delimited(path, data, cells, form, form.dialect)
    return b"".join(_rewrite_json_lines(path, data, cells, form))


def _rewrite_delimited(path: Path, data: bytes, cells: Cells, form: TableForm, dialect: Dialect) -> bytes:
    mark = _BOM if data.startswith(_BOM) else b""
    text = data.removeprefix(_BOM).decode(dialect.encoding)
    first = _SEPARATOR_LINE.match(text)
    prefix = first[0] if first else ""
    body = text[len(prefix) :]
    line_break = "\r\n" if "\r\n" in body else "\n"
    records = enumerate(parse_records(io.StringIO(body, newline=""), dialect.delimiter), start=1)
    kept = [(number, record) for number, record in records if record or number < form.header.header_row]
    header = next(record for number, record in kept if number == form.header.header_row)
    width = len(header)
    # Another program may have added columns since the table was read.
    names = read_header([(1, [*map(unescape_cell, header)])], HEADER_FIRST, path.name, list).names
    added = [column for column in cells if column not in names]
    places = {name: place for place, name in enumerate((*names, *[""] * (width - len(names)), *added))}
    lines = []
    for number, record in kept:
        values = [*record, *[""] * (width + len(added) - len(record))] if number > form.header.header_row else [*record]
        if number == form.header.header_row:
            values += map(escape_cell, added)
        elif number > form.header.header_row:
            ident = form.ident(number, dict(zip(names, map(unescape_cell, record), strict=False)))
            for column, by_id in cells.items():
                if ident in by_id:
                    values[places[column]] = escape_cell(by_id[ident])
        lines.append(_line(values, dialect.delimiter))
    try:
        return mark + (prefix + line_break.join([*lines, ""])).encode(dialect.encoding)
    except UnicodeEncodeError as error:
        raise DataError(
            f"{error.object[error.start]!r} cannot be written in {dialect.encoding_name}; the journal has the codes",
            where=path.name,
            hint="Save the table as CSV UTF-8, then write it again.",
        ) from None


def _line(values: Sequence[str], delimiter: str) -> str:
    """Return a record without its line break; cells that have been read are written as they were."""
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter, lineterminator="\r\n").writerow(values)
    return text.getvalue().removesuffix("\r\n")


def _rewrite_json_lines(path: Path, data: bytes, cells: Cells, form: TableForm) -> Iterator[bytes]:
    mark = _BOM if data.startswith(_BOM) else b""
    yield mark
    lines = [line for line in data.removeprefix(_BOM).split(b"\n") if line.strip()]
    # Ids as the reader converts them; a file that has changed since is rewritten again.
    idents = [form.ident(row.row, row.values) for row in read_rows(path)]
    for line, ident in zip(lines, idents, strict=False):
        row: dict[str, Any] = json.loads(line)
        for column, by_id in cells.items():
            if ident in by_id:
                row[column] = by_id[ident]
            row.setdefault(column, "")
        yield json.dumps(row, ensure_ascii=False).encode() + b"\n"


def _rewrite_parquet(path: Path, cells: Cells, form: TableForm) -> None:
    types = read_parquet_types(path)
    rows = list(read_rows(path))
    # A column of another type, such as numbers, becomes one of texts, as labels are.
    columns = {name: None if name in cells else kind for name, kind in types.items()}
    added = [name for name in cells if name not in types]
    with table_writer(path, columns, dict.fromkeys(added, str), overwrite=True) as write:
        for row in rows:
            ident = form.ident(row.row, row.values)
            new = {name: by_id[ident] for name, by_id in cells.items() if ident in by_id}
            write(replace(row, values={**row.values, **new}), {name: new.get(name, "") for name in added})


def _write_synced(path: Path, data: bytes) -> None:
    try:
        with path.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        with suppress(OSError):  # the first error is the one to report
            path.unlink(missing_ok=True)
        raise


def _replace(path: Path, data: bytes) -> None:
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.unlink(missing_ok=True)
    _write_synced(part, data)
    shutil.copymode(path, part)
    part.replace(path)
