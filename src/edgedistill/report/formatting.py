"""Number formats of the report."""

import math
from collections.abc import Callable

from edgedistill.agreement import Estimate

UNDEFINED = "undefined"
"""Shown in place of an undefined figure."""

_THIN = "\u202f"
_MINUS = "\u2212"


def figure(value: float | None, digits: int = 3) -> str:
    """Return a figure such as κ or F1 without its leading zero: ``.431``, ``1.000``."""
    if value is None or not math.isfinite(value):
        return UNDEFINED
    text = f"{value:.{digits}f}"
    negative, text = text.startswith("-") and float(text) != 0, text.removeprefix("-")
    return (_MINUS if negative else "") + (text[1:] if text.startswith("0.") else text)


def estimate(value: Estimate | None) -> str:
    """Return a figure with its 95 % interval: ``.431 [.38, .48]``."""
    return UNDEFINED if value is None else f"{figure(value.value)}\u00a0{interval(value)}".rstrip("\u00a0")


def interval(value: Estimate | None) -> str:
    """Return the interval alone: ``[.38, .48]``; nothing for an undefined figure, or where no interval was computed."""
    if value is None or value.low == value.high:
        return ""
    digits = _telling_digits(value, figure)
    return f"[{figure(value.low, digits)},\u00a0{figure(value.high, digits)}]"


def _telling_digits(value: Estimate, shown: Callable[[float, int], str]) -> int:
    """Return how many digits it takes to tell both ends of an interval apart, at least 2."""
    return next((digits for digits in (2, 3, 4) if shown(value.low, digits) != shown(value.high, digits)), 4)


def ends(values: tuple[float, float, float]) -> str:
    """Return a value with the lower and upper end of its interval, in this order, as `estimate` does."""
    return estimate(Estimate(*values))


def difference(value: Estimate | None) -> str:
    """Return a difference with its sign: ``+.043 [+.01, +.09]``."""
    if value is None:
        return UNDEFINED
    if value.low == value.high:
        return _signed(value.value, 3)
    digits = _telling_digits(value, _signed)
    ends = f"[{_signed(value.low, digits)},\u00a0{_signed(value.high, digits)}]"
    return f"{_signed(value.value, 3)}\u00a0{ends}"


def percent(share: float | None) -> str:
    """Return a share as a percentage: ``12 %``, with one decimal below 10 %; ``0 %`` and ``100 %`` only where exact."""
    if share is None or not math.isfinite(share):
        return UNDEFINED
    if share in (0, 1):
        return f"{share * 100:.0f}{_THIN}%"
    if 0 < share < 1:
        text = f"{share * 100:.1f}" if share < 0.0995 or share > 0.99 else f"{share * 100:.0f}"
        return {"0.0": f"below 0.1{_THIN}%", "100.0": f"above 99.9{_THIN}%"}.get(text, f"{text}{_THIN}%")
    return f"{_MINUS if share < 0 else ''}{abs(share) * 100:.0f}{_THIN}%"


def percent_estimate(value: Estimate | None) -> str:
    """Return a share with its 95 % interval: ``12 % [9 %, 15 %]``."""
    if value is None:
        return UNDEFINED
    if value.low == value.high:
        return percent(value.value)
    return f"{percent(value.value)} [{percent(value.low)},\u00a0{percent(value.high)}]"


def count(number: int | None) -> str:
    """Return a count with thin spaces between its thousands: ``1 770``."""
    return UNDEFINED if number is None else f"{number:,}".replace(",", _THIN)


def rows(number: int) -> str:
    """Return ``1 row``, ``118 rows``."""
    return pluralize(number, "row")


def pluralize(number: int, noun: str) -> str:
    """Return a count with its noun: ``1 row``, ``1 770 answers``."""
    return f"{count(number)}\u00a0{noun}{'' if number == 1 else 's'}"


def p_value(probability: float) -> str:
    """Return a p-value: ``p = .031``, ``p < .001``."""
    return "p < .001" if probability < 0.001 else f"p = {figure(probability)}"


def seconds(duration: float) -> str:
    """Return a duration in a readable unit: ``0.2 s``, ``104 s``, ``12 min``, ``3.4 h``."""
    for least, unit, size, digits in ((7200, "h", 3600, 1), (300, "min", 60, 0), (10, "s", 1, 0)):
        if duration >= least:
            return f"{duration / size:.{digits}f}{_THIN}{unit}"
    return f"{duration:.1f}{_THIN}s"


def megabytes(size: int) -> str:
    """Return bytes as megabytes: ``23.1 MB``."""
    return f"{size / 1e6:.1f}{_THIN}MB"


def dollars(nano: int | None) -> str:
    """Return nano-dollars (1e-9 dollars) as dollars; None means that no price is stated."""
    if nano is None:
        return "no price stated"
    return "below $0.01" if 0 < nano < 5_000_000 else f"${nano / 1e9:,.2f}"


def setting(value: float) -> str:
    """Return a setting as in the project file: ``0.6``, ``5e-05``."""
    return f"{value:g}"


def _signed(value: float, digits: int) -> str:
    text = figure(value, digits)
    return text if text.startswith(_MINUS) or not float(text) else f"+{text}"
