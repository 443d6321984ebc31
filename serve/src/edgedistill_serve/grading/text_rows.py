"""Rows of CSV, TSV and JSONL text, in constant memory. A malformed row is set aside with its reason.

No row is longer than `MAX_ROW_CHARACTERS`, so that a double quote that is never closed, or a file without line breaks,
takes no more memory than that. After a row whose double quotes do not match, reading goes on at its second line: every
character is read at most twice.
"""

import codecs
import csv
import io
import json
import re
from collections import Counter, deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any, BinaryIO, TextIO, TypeAlias

import msgspec

from edgedistill_serve.errors import DataError
from edgedistill_serve.grading.column_names import column_letters
from edgedistill_serve.grading.delimited import parse_records
from edgedistill_serve.grading.formula_cells import ESCAPE, unescape_cell
from edgedistill_serve.grading.header_rows import HeaderRows, read_header
from edgedistill_serve.task.task import first_repeated

MAX_ROW_CHARACTERS = 2**23
"""Characters of a row, also if it has several lines. Longer rows are set aside."""

_CHUNK_BYTES = 2**17
_KEY_ENDS = re.compile(r'"\s*:')
_NOT_TEXT = "\udcff"
"""Stands for bytes that are not text in the file's encoding. It cannot be in a valid text."""


@dataclass(frozen=True, slots=True)
class TableRow:
    """One row of a table file.

    Attributes:
        row: Row number. In CSV and TSV the header is row 1 and a record counts once, also if its cells contain line
            breaks, as in a spreadsheet. In JSONL it is the line number; in Parquet the first row is 1.
        values: All values as text, by column. Null is ``""``; values of other types are JSON text.
        raw: The values with their types in the file: text in CSV and TSV, any JSON value in JSONL, any type in Parquet.
    """

    row: int
    values: dict[str, str] = field(repr=False)
    raw: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """A row that cannot be read.

    Attributes:
        row: Its number, as in `TableRow`.
        error: Why; the error has the file and the row.
    """

    row: int
    error: DataError


ReadRow: TypeAlias = TableRow | RejectedRow


def _mark(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return _NOT_TEXT, error.end


codecs.register_error("edgedistill-mark", _mark)


def open_text(file: BinaryIO, encoding: str, newline: str = "") -> io.TextIOWrapper:
    """Return the text of a file, line breaks unchanged; bytes that are not text in its encoding are marked."""
    text = io.TextIOWrapper(file, encoding=encoding, errors="edgedistill-mark", newline=newline)
    text._CHUNK_SIZE = _CHUNK_BYTES  # type: ignore[attr-defined]  # 8 KiB are too few for one-line files
    return text


class DelimitedText:
    """The header and the rows of a CSV or TSV text.

    Args:
        text: As `open_text` returns it.
        name: Name of the file, for messages.
        delimiter: One character.
        encoding: Name of the encoding, for messages.
        rows: Where the header is, if it is to be looked for: then unnamed columns at the end are left out, and repeated
            names are numbered. None: the first row is the header, as it stands.
        needed: Columns that are needed, with ``rows``.

    Attributes:
        header: The names of the columns.
        question_texts: By column, the texts of Qualtrics' second header row, with ``rows``; empty for other tables.
        notes: What was assumed about the header, with ``rows``.
        first_row: The first row after header rows that were recognised by their cells, with ``rows``; or None.

    Raises:
        DataError: The header row is malformed or empty.
    """

    def __init__(
        self,
        text: TextIO,
        name: str,
        delimiter: str,
        encoding: str = "UTF-8",
        *,
        rows: HeaderRows | None = None,
        needed: Collection[str] = (),
    ) -> None:
        self._name, self._encoding, self._delimiter = name, encoding, delimiter
        self._lines = _RecordLines(text)
        self._well_quoted = re.compile(_FIELDS.replace(",", re.escape(delimiter)))
        self._records = self._read()
        self.notes: tuple[str, ...] = ()
        self.question_texts: tuple[str, ...] = ()
        self.first_row: int | None = None
        if rows is not None:
            found = read_header(self._records, rows, name, _readable, needed)
            self.header, self._width, self._records = found.names, found.width, found.records
            self.notes, self.question_texts, self.first_row = found.notes, found.texts, found.first_row
            return
        first = next(self._records, (1, []))[1]
        if isinstance(first, DataError):
            raise first
        if not any(first):
            raise DataError("the file is empty: there is no header row", where=name)
        self.header, self._width = tuple(first), len(first)

    def rows(self) -> Iterator[ReadRow]:
        """Yield the rows after the header. Empty lines at the end are no rows."""
        empty: list[int] = []
        for number, record in self._records:
            if not record and self._width > 1:
                empty.append(number)
                continue
            yield from (self._rejected(each, "the row is empty", "Delete the empty line.") for each in empty)
            empty = []
            yield self._row(number, record or [""])

    def _row(self, number: int, cells: list[str] | DataError) -> ReadRow:
        if isinstance(cells, DataError):
            return RejectedRow(number, cells)
        if len(cells) != self._width:
            return self._rejected(
                number,
                f"the number of fields is {len(cells)}, the header has {self._width}",
                "Put fields that contain a separator or a line break between double quotes.",
            )
        if self._width > len(self.header):
            cells, others = cells[: len(self.header)], cells[len(self.header) :]
            if place := next((place for place, cell in enumerate(others, len(cells)) if cell.strip()), None):
                return self._rejected(
                    number, f"the column {column_letters(place)} has a value and no name", "Name it in the header row."
                )
        values = dict(zip(self.header, cells, strict=True))
        return TableRow(number, values, values)

    def _rejected(self, number: int, what: str, hint: str) -> RejectedRow:
        return RejectedRow(number, self._error(number, what, hint))

    def _error(self, number: int, what: str, hint: str) -> DataError:
        return DataError(what, where=f"{self._name}, row {number}", hint=hint)

    def _read(self) -> Iterator[tuple[int, list[str] | DataError]]:
        """Yield the fields of every record; an empty line has no fields."""
        reader = parse_records(self._lines, self._delimiter)
        number = 0
        while True:
            number += 1
            self._lines.start_record()
            try:
                record = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                self._lines.go_back_to_second_line()
                yield number, self._not_text(number) or self._quoting_error(number, str(error))
            except _TooLong:
                self._lines.go_back_to_second_line()
                yield number, too_long(self._name, number)
            else:
                yield number, self._checked(number, record)

    def _checked(self, number: int, record: list[str]) -> list[str] | DataError:
        text = "".join(self._lines.record)
        if _NOT_TEXT in text:
            return not_text(self._name, number, self._encoding)
        if '"' in text and any('"' in cell for cell in record) and not self._well_quoted.fullmatch(text):
            return self._quoting_error(number, "a double quote inside a field that is not quoted")
        return list(map(unescape_cell, record)) if ESCAPE in text else record

    def _not_text(self, number: int) -> DataError | None:
        if any(_NOT_TEXT in line for line in self._lines.record):
            return not_text(self._name, number, self._encoding)
        return None

    def _quoting_error(self, number: int, reason: str) -> DataError:
        return self._error(
            number,
            f"the double quotes of the row that starts here do not match ({reason})",
            'Put the field between double quotes, and double each quote inside it: "he said ""yes""".',
        )


_FIELD = r'(?:"(?:[^"]++|"")*+"|[^",\r\n]*+)'
_FIELDS = rf"{_FIELD}(?:,{_FIELD})*+[\r\n]*+"


class _TooLong(Exception):
    """A row has more than `MAX_ROW_CHARACTERS`."""


class _RecordLines(Iterator[str]):
    """The lines of a text, of which those of the current record are kept and can be read again."""

    def __init__(self, text: TextIO) -> None:
        self._text = text
        self._again: deque[str] = deque()
        self._characters = 0
        self.record: list[str] = []

    def start_record(self) -> None:
        self.record, self._characters = [], 0

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else self._text.readline(MAX_ROW_CHARACTERS + 1)
        if not line:
            raise StopIteration
        self.record.append(line)
        self._characters += len(line)
        if self._characters > MAX_ROW_CHARACTERS:
            raise _TooLong
        return line

    def go_back_to_second_line(self) -> None:
        """Continue after the first line of the current record, to its end if it is too long."""
        first, *others = self.record
        if not others and not first.endswith(("\r", "\n")):
            skip_line(self._text)
        self._again.extendleft(reversed(others))


def skip_line(text: TextIO) -> None:
    """Read to the end of the line without keeping it."""
    while (line := text.readline(MAX_ROW_CHARACTERS)) and not line.endswith(("\r", "\n")):
        pass


def json_rows(text: TextIO, name: str, encoding: str = "UTF-8") -> Iterator[ReadRow]:
    r"""Yield the JSON objects of a text, one on each line.

    Args:
        text: As `open_text` returns it, with the line break ``"\n"``.
        name: Name of the file, for messages.
        encoding: Name of the encoding, for messages.

    Raises:
        DataError: There are no lines with content.
    """
    is_empty = True
    for number, line in enumerate(iter(lambda: text.readline(MAX_ROW_CHARACTERS + 1), ""), start=1):
        if len(line) > MAX_ROW_CHARACTERS:
            if not line.endswith("\n"):
                skip_line(text)
            is_empty = False
            yield RejectedRow(number, too_long(name, number))
            continue
        if not line.strip():
            continue
        is_empty = False
        try:
            raw = _json_object(line, name, number, encoding)
        except DataError as error:
            yield RejectedRow(number, error.unraised_copy())
        else:
            yield typed_row(number, raw)
    if is_empty:
        raise DataError("the file is empty", where=name)


def _json_object(line: str, name: str, number: int, encoding: str) -> dict[str, Any]:
    where = f"{name}, row {number}"
    if _NOT_TEXT in line:
        raise not_text(name, number, encoding)
    try:
        value = msgspec.json.decode(line)
        # Every key is followed by a colon, so that most lines need not be read a second time.
        keys = len(value) if isinstance(value, dict) else 0
        is_suspect = line.count(":") > keys and len(_KEY_ENDS.findall(line)) > keys
        repeated = _repeated_key(line) if is_suspect else None
    except (UnicodeError, msgspec.DecodeError, RecursionError) as error:
        if _has_lone_surrogate(line):
            raise DataError(
                "the line is not valid JSON: an escape stands for half a character (a lone surrogate)",
                where=where,
                hint="Decode the text again from its source.",
            ) from None
        raise DataError(
            f"the line is not valid JSON ({error})", where=where, hint="Write one JSON object per line."
        ) from None
    if not isinstance(value, dict):
        raise DataError("the line is not a JSON object", where=where, hint="Write one JSON object per line.")
    if repeated is not None:
        raise DataError(f"the key {repeated!r} is repeated", where=where, hint="Write every key of an object once.")
    return value


def _repeated_key(line: str) -> str | None:
    """Return a key that an object of a line has twice, of which a reader keeps the last; None if there is none."""
    repeated: list[str] = []

    def check(pairs: list[tuple[str, Any]]) -> None:
        if len({key for key, _ in pairs}) < len(pairs):
            repeated.append(next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1))

    json.loads(line, object_pairs_hook=check)
    return repeated[0] if repeated else None


def _has_lone_surrogate(line: str) -> bool:
    """Return whether a line of JSON has the escape of a surrogate that is not half of a pair."""
    try:
        json.dumps(json.loads(line), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    except (ValueError, RecursionError):
        return False
    return False


def too_long(name: str, number: int) -> DataError:
    """Return the error of a row with more than `MAX_ROW_CHARACTERS`."""
    return DataError(
        f"the row that starts here is longer than {MAX_ROW_CHARACTERS:,} characters",
        where=f"{name}, row {number}",
        hint="Check for a double quote that is not closed, or for line breaks that are missing.",
    )


def not_text(name: str, number: int, encoding: str) -> DataError:
    """Return the error of a row with bytes that its encoding does not have."""
    hint = "Save the file as UTF-8." if encoding == "UTF-8" else "Save the file as UTF-8, or state its encoding."
    return DataError(f"the text is not valid {encoding}", where=f"{name}, row {number}", hint=hint)


def typed_row(number: int, raw: Mapping[str, Any]) -> TableRow:
    """Return a row from values of any type."""
    return TableRow(number, {column: value_text(value) for column, value in raw.items()}, raw)


def value_text(value: Any) -> str:
    """Return a value as the text of a CSV cell: null is empty, dates and decimals are strings, others are JSON."""
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, bool):
        return "true" if value else "false"
    encoded = msgspec.json.encode(value, enc_hook=str)
    # In JSON, dates and decimals are strings, and NaN is null.
    return str(msgspec.json.decode(encoded) or "") if encoded[:1] in b'"n' else encoded.decode()


def check_header(header: tuple[str, ...], where: str) -> None:
    """Check that the columns of a table have different names.

    Raises:
        DataError: They do not.
    """
    repeated = first_repeated(header)
    if repeated == "":
        letters = [column_letters(place) for place, column in enumerate(header) if not column]
        raise DataError(
            f"the columns {', '.join(letters[:-1])} and {letters[-1]} have no name",
            where=where,
            hint="Name them, or delete them if they are empty.",
        )
    if repeated is not None:
        raise DataError(f"two columns have the name {repeated!r}", where=where, hint="Rename or delete one of them.")


def _readable(cells: "list[str] | DataError") -> list[str]:
    return [] if isinstance(cells, DataError) else cells


def read_first_records(text: str, delimiter: str, count: int) -> list[list[str]]:
    """Return the cells of the first rows of a text, up to one that is malformed or cut."""
    records: list[list[str]] = []
    with suppress(csv.Error):
        records.extend(
            list(map(unescape_cell, cells)) for cells in islice(parse_records(_lines(text), delimiter), count)
        )
    return records


def read_record(text: str, delimiter: str, number: int = 1) -> list[str]:
    """Return the cells of one row of a text, by default of the first; none if it or one before is malformed."""
    return next(iter(read_first_records(text, delimiter, number)[number - 1 :]), [])


def _lines(text: str) -> Iterable[str]:
    return chain(io.StringIO(text, newline=""))
