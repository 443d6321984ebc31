"""Cells of spreadsheets that are no codes: dates, as spreadsheets make of entries such as 1-2, and formula errors."""

import datetime as dt
import re
from collections.abc import Iterable
from typing import Any

_MONTH = "(?:Jan|Feb|Mar|M\u00e4r|Apr|May|Mai|Jun|Jul|Aug|Sep|Oct|Okt|Nov|Dec|Dez)"
_DATE = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?:[T ].*)?|[0-9]{1,2}[./][0-9]{1,2}[./](?:[0-9]{4}|[0-9]{2})(?: .*)?|"
    rf"[0-9]{{1,2}}[-. ]{{1,2}}{_MONTH}(?:[-. ](?:[0-9]{{4}}|[0-9]{{2}}))?|{_MONTH}[- ][0-9]{{2}}"
)
_SPREADSHEET_ERRORS = frozenset(["#N/A", "#REF!", "#NAME?", "#VALUE!", "#DIV/0!", "#NULL!", "#NUM!", "#NV", "#BEZUG!"])
DATES = "Spreadsheets turn entries such as 1-2 into dates. Format the column as text, and enter them again."
FORMULA_ERRORS = "Correct the formulas, or replace them by their values."
"""The fixes."""


def is_date(value: Any) -> bool:
    """Return whether a cell is a date, or a text that looks like one, as spreadsheets make of entries such as 1-2."""
    return isinstance(value, dt.date) or (isinstance(value, str) and _DATE.fullmatch(value.strip()) is not None)


def is_spreadsheet_error(text: str) -> bool:
    """Return whether a cell shows an error of a formula, such as ``#N/A``."""
    return text.strip() in _SPREADSHEET_ERRORS


def cells_hint(codes: Iterable[str]) -> str:
    """Return what to say if codes that are no labels are dates or errors of formulas; else nothing.

    Example:
        >>> cells_hint(["good", "2026-02-01"])
        ' Spreadsheets turn entries such as 1-2 into dates. Format the column as text, and enter them again.'
    """
    texts = list(codes)
    hints = [DATES] if any(map(is_date, texts)) else []
    hints += [FORMULA_ERRORS] if any(map(is_spreadsheet_error, texts)) else []
    return "".join(f" {hint}" for hint in hints)
