"""Where the names of the columns of a table are: in its first row, in a later one, or above more rows of headers.

Qualtrics writes three header rows: names, question texts, and import ids. They are recognised by the third one. Other
header rows below the names are recognised by their cells, which are unlike those of the rows below
(`second_header.py`).
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Generic, TypeVar

from edgedistill_serve.errors import DataError
from edgedistill_serve.grading.column_names import column_letters, has_column
from edgedistill_serve.grading.second_header import SAMPLE_ROWS, Signs, describe_second_header, signs_of_header

C = TypeVar("C")

_IMPORT_ID = '{"ImportId":'
_MOST_HEADER_ROWS = 3
"""Below the names."""


@dataclass(frozen=True, slots=True)
class HeaderRows:
    """Where a table is in its file: the sheet, and the header in row numbers, the first being 1.

    Attributes:
        header_row: The row with the names of the columns.
        first_row: The first row after the header rows; None for the one after ``header_row``, unless more header rows
            follow: Qualtrics' three, or others whose cells are unlike those below.
        sheet: Of a workbook; None for the first one that has the needed columns.
        sheet_option: The option that says which sheet, for messages.
    """

    header_row: int = 1
    first_row: int | None = None
    sheet: str | None = None
    sheet_option: str = field(default="--sheet", compare=False)

    def check(self, where: str) -> None:
        """Raise a `DataError` unless the first row is below the header."""
        if self.first_row is not None and self.first_row <= self.header_row:
            raise DataError(
                f"the first row, {self.first_row}, is not below the header row, {self.header_row}",
                where=where,
                hint="Leave out the first row, or count again.",
            )


HEADER_FIRST = HeaderRows()
"""The first row is the header."""


@dataclass(frozen=True, slots=True)
class Header(Generic[C]):
    """The header of a table, and what follows.

    Attributes:
        names: The columns.
        width: Number of cells of the row with the names, unnamed columns at the end included.
        texts: By column, the text below its name in Qualtrics' second header row; empty for other tables.
        notes: What was assumed.
        records: The other records, with their row numbers.
        first_row: The first row after header rows that were recognised by their cells; None if there are none.
    """

    names: tuple[str, ...]
    width: int
    texts: tuple[str, ...]
    notes: tuple[str, ...]
    records: Iterator[tuple[int, C]]
    first_row: int | None = None


def read_header(
    records: Iterable[tuple[int, C]],
    rows: HeaderRows,
    name: str,
    texts_of: Callable[[C], Sequence[str]],
    needed: Collection[str] = (),
) -> Header[C]:
    """Read the header rows of a table.

    Args:
        records: Its records with their row numbers, from the first row on.
        rows: Where the header is.
        name: The file, for messages.
        texts_of: Returns the cells of a record as texts; none of one that is malformed.
        needed: Columns that are needed: two of one name are an error, and a column of other names is renamed.

    Raises:
        DataError: There is no header row, or it has a needed column twice.
    """
    rows.check(name)
    iterator = iter(records)
    first = next((record for number, record in iterator if number >= rows.header_row), None)
    if isinstance(first, DataError):
        raise first
    cells = list(texts_of(first)) if first is not None else []
    if not any(cells):
        what = (
            "the file is empty: there is no header row" if rows.header_row == 1 else f"row {rows.header_row} is empty"
        )
        raise DataError(what, where=name, hint=None if rows.header_row == 1 else "Correct the row of the header.")
    names, notes = _named(cells, f"{name}, row {rows.header_row}", needed)
    texts: tuple[str, ...] = ()
    found: int | None = None
    rest: Iterator[tuple[int, C]]
    if rows.first_row is not None:
        begin = rows.first_row
        rest = ((number, record) for number, record in iterator if number >= begin)
    else:
        rest, texts = _without_import_ids(iterator, texts_of)
        if texts:
            number = rows.header_row
            notes.append(
                f"rows {number + 1} and {number + 2} of {name} are header rows of Qualtrics (question texts and import "
                "ids) and are not responses"
            )
        else:
            rest, found, more = _without_second_header(rest, names, name, texts_of)
            notes += more
    return Header(names, len(cells), texts, tuple(notes), rest, found)


def _without_second_header(
    records: Iterator[tuple[int, C]], names: Sequence[str], name: str, texts_of: Callable[[C], Sequence[str]]
) -> tuple[Iterator[tuple[int, C]], int | None, list[str]]:
    """Return the records without header rows below the names, the first row after these if there are any, and notes."""
    ahead = list(islice(records, SAMPLE_ROWS))
    texts = [list(texts_of(record)) for _, record in ahead]
    most = max(0, min(_MOST_HEADER_ROWS, len(texts) - 1))
    skipped, signs = 0, Signs()
    for count in range(most, 0, -1):  # each header row is compared with the rows below all of them
        found = [signs_of_header(names, cells, texts[count:]) for cells in texts[:count]]
        if all(each.is_header for each in found):
            skipped = count
            break
        signs = found[0]
    rest = chain(ahead[skipped:], records)
    if skipped:
        numbers = [number for number, _ in ahead[:skipped]]
        first = ahead[skipped][0]
        return rest, first, [describe_second_header(name, numbers, texts[:skipped], first)]
    if not ahead or not signs.odd:
        return rest, None, []
    following = ahead[0][0] + 1
    note = (
        f"{name}: row {following - 1} has {signs.odd}, unlike the rows below. It is read as a response; if it is a "
        f"second header row, say so: --first-row {following}, or first_row: {following} in the section data"
    )
    return rest, None, [note]


def _without_import_ids(
    records: Iterator[tuple[int, C]], texts_of: Callable[[C], Sequence[str]]
) -> tuple[Iterator[tuple[int, C]], tuple[str, ...]]:
    ahead: list[tuple[int, C]] = []
    for record in records:
        ahead.append(record)
        if len(ahead) == 2:
            break
    if len(ahead) == 2 and any(cell.lstrip().startswith(_IMPORT_ID) for cell in texts_of(ahead[1][1])):
        return records, tuple(texts_of(ahead[0][1]))
    return chain(ahead, records), ()


def _named(cells: Sequence[str], where: str, needed: Collection[str]) -> tuple[tuple[str, ...], list[str]]:
    """Return the names of columns without unnamed ones at the end; others without a name, and repeated ones, get one.

    One column alone without a name keeps its empty name.
    """
    names, several_unnamed = list(cells), cells.count("") > 1
    while several_unnamed and not names[-1]:
        names.pop()
    repeated = {each for each, count in Counter(filter(None, names)).items() if count > 1}
    if wrong := next((each for each in repeated if any(has_column(need, [each]) for need in needed)), None):
        raise DataError(f"two columns have the name {wrong!r}", where=where, hint="Rename or delete one of them.")
    taken, seen = set(names), Counter[str]()
    for place, each in enumerate(names):
        seen[each] += 1
        if each in repeated and seen[each] > 1:
            names[place] = _free(f"{each} ({seen[each]})", taken)
        elif not each and several_unnamed:
            names[place] = _free(f"column {column_letters(place)}", taken)
    if not repeated:
        return tuple(names), []
    listed = ", ".join(repr(each) for each in sorted(repeated)[:3])
    return tuple(names), [f"{where}: {listed} names several columns; the later ones are numbered"]


def _free(name: str, taken: set[str]) -> str:
    """Return a name that no column has, and take it."""
    while name in taken:
        name += "'"
    taken.add(name)
    return name
