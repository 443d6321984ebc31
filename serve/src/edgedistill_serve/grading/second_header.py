"""A second header row: units, explanations, translations or coders' names below the names of the columns.

A response must not be lost, so a row is left out only where its cells show that it is none. A cell that is like the
others of its column (a number among numbers, a code that occurs again), or that stands twice in the row, shows that
the row is data. A first answer may be a question, and a first code may be rare or missing, in two columns at once:
this is said, and the row is read. The row is a header

- if a column numbers the rows, the row has no number there, and another cell describes its column: a text in
  parentheses, a question above answers, a usual name such as "Open-Ended Response"; or
- if all of its cells are usual names or texts in parentheses, and one of them is unlike its column: a text among
  numbers, or a code that is nowhere else.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from edgedistill_serve.grading.column_names import fold_name, is_usual_name

SAMPLE_ROWS = 60
"""Rows below the names that are looked at."""
_LEAST_CELLS = 5
"""Cells of a column below which nothing is said about it."""
_TYPED = 0.9
_QUESTION_WORDS = 3
"""Words of a question below which it may as well be a mark of doubt."""
_SHOWN_WORDS = 3
_SHOWN_CELLS = 5
_SHOWN_CHARACTERS = 40

_NUMBER = re.compile(r"[-+]?[0-9][0-9.,:\u202f ]*%?")
_TIME = re.compile(r"[0-9]{1,4}[-./][0-9]{1,2}[-./][0-9]{1,4}.*")
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
_NUMBERED = re.compile(r"([^\d\s@]*)([0-9]{1,18})([^\d\s@]*)")
_IN_BRACKETS = re.compile(r"\(.*\)|\[.*\]|\{.*\}|<.*>", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Signs:
    """What the cells of a row say about it.

    Attributes:
        is_header: Whether the row is read as a header.
        odd: The first cell that is unlike the others of its column, with the column, for messages; or empty.
    """

    is_header: bool = False
    odd: str = ""


_DATA = Signs()


def signs_of_header(names: Sequence[str], cells: Sequence[str], below: Sequence[Sequence[str]]) -> Signs:
    """Return the signs that a row is a header and not data.

    Args:
        names: The names of the columns.
        cells: The cells of the row.
        below: Those of the rows below.

    Example:
        >>> rows = [["it melts", "cause"], ["it is cold", "none"]] * 5
        >>> signs_of_header(["Response", "Code"], ["(open text)", "(AM)"], rows).is_header
        True
        >>> signs_of_header(["Response", "Code"], ["is it cold?", "(unclear)"], rows).is_header
        False
    """
    odd, lacks_number, questions, described = "", False, 0, 0
    texts = [cell.strip() for cell in cells[: len(names)]]
    filled_cells = [fold_name(text) for text in texts if text]
    if len(set(filled_cells)) < len(filled_cells):
        return _DATA
    for place, text in enumerate(texts):
        column = [row[place].strip() for row in below if place < len(row)]
        filled = [each for each in column if each]
        if _numbers_rows(column):
            if _shape(text) == _shape(column[0]):
                return _DATA
            lacks_number = True
        if not text:
            continue
        folded = {fold_name(each) for each in filled}
        kind = _kind(text)
        if fold_name(text) in folded or (kind and filled and _share(filled, kind) >= 0.5):
            return _DATA
        if not odd and _is_unlike(filled, folded):
            odd = f"{_cut(text)!r} in the column {_cut(names[place])!r}"
        described += _is_name(text)
        questions += _asks(text, filled)
    is_unnumbered = lacks_number and described + questions > 0
    return Signs(is_unnumbered or (bool(odd) and described == len(filled_cells) > 1), odd)


def describe_second_header(name: str, numbers: Sequence[int], rows: Sequence[Sequence[str]], first: int) -> str:
    """Return the note on header rows below the names.

    Args:
        name: The file.
        numbers: The numbers of the header rows.
        rows: Their cells.
        first: The number of the first row after them.
    """
    cells = [repr(_cut(cell)) for row in rows for cell in row if cell.strip()]
    shown = ", ".join(cells[:_SHOWN_CELLS]) + (", \u2026" if len(cells) > _SHOWN_CELLS else "")
    one = len(numbers) == 1
    listed = f"row {numbers[0]}" if one else f"rows {numbers[0]} to {numbers[-1]}"
    what = "looks like a second header row" if one else "look like header rows"
    return (
        f"{name}: {listed} ({shown}) {what} and {'is' if one else 'are'} not read: --first-row {first}. If "
        f"{'it is a response' if one else 'they are responses'}: --first-row {numbers[0]}, or first_row: {numbers[0]} "
        "in the section data"
    )


def _is_unlike(filled: Sequence[str], folded: set[str]) -> bool:
    """Return whether a text that is none of these cells, and of no kind that they have, is unlike them."""
    if len(filled) < _LEAST_CELLS:
        return False
    if any(_share(filled, kind) >= _TYPED for kind in _KINDS):
        return True
    return len(folded) <= len(filled) // 3  # codes, each of which occurs several times


def _asks(text: str, filled: Sequence[str]) -> bool:
    """Return whether a text is a question above answers."""
    asked = sum(each.endswith("?") for each in filled)
    is_question = text.endswith("?") and len(text.split()) >= _QUESTION_WORDS
    return is_question and len(filled) >= _LEAST_CELLS and 20 * asked <= len(filled)


def _numbers_rows(column: list[str]) -> bool:
    """Return whether a column numbers its rows: 1, 2, 3; s07, s08, s11; or the times at which they came in."""
    if len(column) < _LEAST_CELLS:
        return False
    found = [_NUMBERED.fullmatch(cell) for cell in column]
    if all(found):
        around = {(each[1], each[3]) for each in found if each}
        order = [each[2].zfill(18) for each in found if each]
    else:
        around, order = {("", "")}, column if _share(column, "time") == 1 else []
    pairs = list(pairwise(order))
    is_sorted = all(one < two for one, two in pairs) or all(one > two for one, two in pairs)
    return bool(pairs) and is_sorted and len(around) == 1


def _shape(number: str) -> tuple[str, ...]:
    """Return what numbers of rows have in common: the letters around the digits, or that they are times."""
    found = _NUMBERED.fullmatch(number)
    return (found[1], found[3]) if found else (_kind(number),)


def _is_name(text: str) -> bool:
    return _IN_BRACKETS.fullmatch(text) is not None or is_usual_name(text)


_KINDS = ("time", "number", "email")


def _kind(text: str) -> str:
    kinds = zip(_KINDS, (_TIME, _NUMBER, _EMAIL), strict=True)
    return next((kind for kind, pattern in kinds if pattern.fullmatch(text)), "")


def _share(cells: Sequence[str], kind: str) -> float:
    return sum(_kind(each) == kind for each in cells) / len(cells)


def _cut(text: str) -> str:
    """Return the first words of a cell, which may be a learner's."""
    words = text.split()
    short = " ".join(words[:_SHOWN_WORDS])[:_SHOWN_CHARACTERS]
    return short if len(short) == len(" ".join(words)) else f"{short}\u2026"
