"""Finds a column by the name that a person types: exact, else without case and outer spaces, else by its beginning."""

import difflib
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence

from edgedistill_serve.errors import DataError
from edgedistill_serve.task.task import list_some, quote_columns

_OPTION = "--column"
_SHOWN = 60
_LISTED = 30
_LISTED_CHARACTERS = 32
_NAME_WORDS = 3
_WORD = re.compile(r"[^\W\d_]+")
_HEADER_WORDS = frozenset(
    re.findall(
        r"\w+",
        "timestamp open ended free text texts string number date time response responses answer answers "
        "question label labels code codes coder rater category score points id name email column value "
        "zeitstempel offene freie freitext antwort antworten frage zahl datum kode codierung kategorie punkte wert "
        "horodateur texte r\u00e9ponse nombre cat\u00e9gorie marca temporal texto libre abierta respuesta pregunta "
        "n\u00famero fecha c\u00f3digo categor\u00eda puntos",
    )
)
"""Words of which names of columns consist."""
_ELLIPSES = ("\u2026", "...")
_BREAKS = re.compile(r"\s+")
_LETTERS = re.compile(r"[A-Z]{1,3}")


def fold_name(name: str) -> str:
    """Return a column's name without what a person overlooks: case, white space, NFC or NFD."""
    return _BREAKS.sub(" ", unicodedata.normalize("NFC", name)).strip().casefold()


def matching_columns(wanted: str, names: Iterable[str], *, letters: bool = False) -> tuple[str, ...]:
    """Return the columns that a name can stand for.

    A name that ends in an ellipsis, ``\u2026`` or ``...``, stands for a column that begins like it.

    Args:
        wanted: The name as a person gives it.
        names: The columns of a table.
        letters: Whether ``B`` stands for the second column, if no column has this name.

    Returns:
        One column if there is a column of just this name; otherwise those that differ in case, white space or Unicode
        composition only; otherwise those that begin like a name with an ellipsis; otherwise that of the letters; or
        none.

    Example:
        >>> matching_columns("2. Explain \u2026", ["1. Name", "2. Explain why ice floats. "])
        ('2. Explain why ice floats. ',)
    """
    names = tuple(names)
    if wanted in names:
        return (wanted,)
    folded = fold_name(wanted)
    if same := tuple(name for name in names if fold_name(name) == folded):
        return same
    if letters and _LETTERS.fullmatch(wanted) and (place := _place_of(wanted)) < len(names):
        return (names[place],)
    if (mark := next((each for each in _ELLIPSES if folded.endswith(each)), None)) is None:
        return ()
    begin = folded.removesuffix(mark).rstrip()
    return tuple(name for name in names if begin and fold_name(name).startswith(begin))


def has_column(wanted: str, names: Iterable[str]) -> bool:
    """Return whether a name stands for exactly one column."""
    return len(matching_columns(wanted, names)) == 1


def find_column(wanted: str, names: Sequence[str], *, where: str, key: str, letters: bool = False) -> str:
    """Return the column that a name stands for.

    Args:
        wanted: The name as a person gives it.
        names: The columns of the table.
        where: The file, for messages.
        key: The option or key with the name, for messages.
        letters: As for `matching_columns`.

    Raises:
        DataError: No column has the name, or several can be meant; the message has the closest names.
    """
    found = matching_columns(wanted, names, letters=letters)
    if len(found) == 1:
        return found[0]
    if found:
        listed = ", ".join(describe_column(name, names) for name in found[:5])
        raise DataError(
            f"{key}: {_cut(wanted)} can be {len(found)} columns: {listed}",
            where=where,
            hint="Give the whole name, as it is in the table.",
        )
    near = closest_columns(wanted, names)
    listed = " or ".join(describe_column(name, names) for name in near)
    raise DataError(
        f"{key}: there is no column {_cut(wanted)} among its {len(names)} columns",
        where=where,
        hint=f"Did you mean {listed}?"
        if near
        else "`edgedistill init --from FILE` shows the columns of a table; names may be shortened: 2. Explain\u2026",
    )


def closest_columns(wanted: str, names: Sequence[str], most: int = 3) -> tuple[str, ...]:
    """Return the columns whose names are most like a name that no column has."""
    folded = {fold_name(name): name for name in reversed(names)}
    shortened = fold_name(wanted).removesuffix("\u2026").removesuffix("...").rstrip()
    near = difflib.get_close_matches(shortened, list(folded), n=most, cutoff=0.6)
    if not near and len(shortened) >= 3:
        near = [name for name in folded if shortened in name or (len(name) >= 3 and name in shortened)][:most]
    return tuple(folded[name] for name in near)


def describe_column(name: str, names: Sequence[str]) -> str:
    """Return a column as messages name it: its letters in a spreadsheet, and the beginning of its name."""
    return f"{column_letters(list(names).index(name))} ({_cut(name)})"


def _cut(name: str, most: int = _SHOWN) -> str:
    text = _BREAKS.sub(" ", name).strip()
    return repr(text if len(text) <= most else f"{text[: most - 1].rstrip()}\u2026")


def list_columns(names: Sequence[str]) -> str:
    """Return the columns of a table, as messages list them: letters, and names.

    A long name is a question, of which the beginning is shown; or, in a table without a header, a learner's text, which
    is not. The table has a header if a column has a usual name.
    """
    has_header = any(map(is_usual_name, names))

    def shown(name: str) -> str:
        return _cut(name, _LISTED_CHARACTERS) if has_header or not is_long(name) else quote_columns([name])

    listed = (f"{column_letters(place)} ({shown(name).strip('()')})" for place, name in enumerate(names))
    return list_some(listed, _LISTED) or "no columns"


def is_usual_name(text: str) -> bool:
    """Return whether a text consists of words of which names of columns usually consist, such as ``Code 1``."""
    words = {word.casefold() for word in _WORD.findall(text)}
    return bool(words) and words <= _HEADER_WORDS


def is_long(name: str) -> bool:
    """Return whether a name has more words than names of columns usually have, as a question has."""
    return len(name.split()) > _NAME_WORDS


def column_letters(place: int) -> str:
    """Return the letters of a column in a spreadsheet; the column 0 is A."""
    before, last = divmod(place, 26)
    return (column_letters(before - 1) if before else "") + chr(ord("A") + last)


def _place_of(letters: str) -> int:
    """Return the place of a column from its letters; A is 0."""
    place = 0
    for letter in letters:
        place = place * 26 + ord(letter) - ord("A") + 1
    return place - 1


def parse_columns(given: Iterable[str], keys: Sequence[str]) -> dict[str, str]:
    """Return the columns by the names of what they hold, from options such as ``response=2. Explain\u2026``.

    Args:
        given: The options.
        keys: What a column can hold.

    Raises:
        DataError: An option has another form, names an unknown key, or a key or a column is given twice.
    """
    columns: dict[str, str] = {}
    for each in given:
        key, sign, name = each.partition("=")
        key = key.strip()
        if not sign or not name.strip():
            raise DataError(
                f"{each[:_SHOWN]!r} is not KEY=COLUMN",
                where=_OPTION,
                hint=f'Example: {_OPTION} {keys[-1]}="2. Explain\u2026".',
            )
        if key not in keys:
            raise DataError(f"{key[:_SHOWN]!r} is not known", where=_OPTION, hint=f"Use {', '.join(keys)}.")
        if key in columns:
            raise DataError(f"{key} is given twice", where=_OPTION, hint="Give it once.")
        columns[key] = name
    check_distinct(columns, _OPTION)
    return columns


def check_distinct(columns: Mapping[str, str], where: str) -> None:
    """Check that no column is mapped twice.

    Raises:
        DataError: Two keys have one column.
    """
    keys: dict[str, str] = {}
    for key, name in columns.items():
        if (other := keys.setdefault(fold_name(name), key)) != key:
            raise DataError(
                f"the column {_cut(name)} is mapped twice, to {other} and to {key}",
                where=where,
                hint="Name another column for one of them, or leave one out.",
            )
