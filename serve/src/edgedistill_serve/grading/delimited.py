"""The one dialect of CSV and TSV that the project writes and reads again, for every text: RFC 4180 in UTF-8.

A cell with a separator, a double quote or any line break (a carriage return alone, too) is quoted. Texts that a
spreadsheet would evaluate are escaped; see `edgedistill_serve.grading.formula_cells`.

write_records(file, records)   what `read_records` returns again, exactly
read_records(lines)            the cells of every record
"""

import csv
from collections.abc import Iterable, Iterator
from typing import Protocol

from edgedistill_serve.grading.formula_cells import escape_cell, unescape_cell

MAX_CELL_CHARACTERS = 2**27
"""Cells with more characters are refused. Python's own limit is 131,072, which a long text exceeds."""


class TextSink(Protocol):
    """Something that texts can be written to."""

    def write(self, text: str, /) -> object:
        """Write a text."""


def write_records(file: TextSink, records: Iterable[Iterable[object]], delimiter: str = ",") -> None:
    """Write records.

    Args:
        file: A file that translates no line breaks.
        records: The cells of each record; None is an empty cell, and a number is written as `str` does.
        delimiter: A comma, or a tab.
    """
    # With this line terminator, every version of Python quotes carriage returns and line feeds.
    writer = csv.writer(file, delimiter=delimiter, lineterminator="\r\n")
    writer.writerows(map(escape_cell, cells) for cells in records)


def read_records(lines: Iterable[str], delimiter: str = ",") -> Iterator[list[str]]:
    """Yield the cells of each record that `write_records` wrote.

    Args:
        lines: A file opened with ``newline=""``, or its lines with their line breaks.
        delimiter: As it was written.

    Raises:
        csv.Error: The quotes do not match.
    """
    return (list(map(unescape_cell, cells)) for cells in parse_records(lines, delimiter))


def parse_records(lines: Iterable[str], delimiter: str) -> Iterator[list[str]]:
    """Yield the cells of each record as they stand in a file of any program; an empty line has none.

    Raises:
        csv.Error: The quotes do not match.
    """
    csv.field_size_limit(max(csv.field_size_limit(), MAX_CELL_CHARACTERS))
    return csv.reader(lines, delimiter=delimiter, strict=True)
