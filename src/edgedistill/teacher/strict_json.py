"""Strict JSON from outside: answers, batch results, imported lines.

Python's reader accepts what no JSON is and what breaks later: NaN and Infinity, of two equal names the last one, lone
surrogates that cannot be written as UTF-8, numbers that overflow, and nesting that ends in a RecursionError.
"""

import json
import math
import re
from collections.abc import Sequence
from typing import Any

from edgedistill_serve.task.task import first_repeated

_MAX_DEPTH = 100  # a chat completion with log probabilities has 7
_MAX_DIGITS = 20  # enough for 64 bits
_SURROGATE = re.compile("[\ud800-\udfff]")


class InvalidJson(ValueError):
    """The text is not strict JSON; the message says why."""


def read_json(text: str | bytes) -> Any:
    """Read one JSON value.

    Raw line breaks in strings, which many models write, and a byte order mark are accepted.

    Raises:
        InvalidJson: It is not JSON or not UTF-8, or it has NaN or Infinity, a repeated name, a lone surrogate, a number
            beyond 64 bits, or more than 100 levels.
    """
    try:
        decoded = text if isinstance(text, str) else text.decode("utf-8")
        value = json.loads(
            decoded.removeprefix("\ufeff"),
            strict=False,
            parse_int=read_whole,
            parse_float=_finite,
            parse_constant=_refuse,
            object_pairs_hook=_object,
        )
    except InvalidJson:
        raise
    except RecursionError:
        raise InvalidJson("it is nested too deeply") from None
    except ValueError as error:
        raise InvalidJson(str(error)) from None
    check_texts(value)
    return value


def read_whole(digits: str) -> int:
    """Return a whole number of at most 64 bits.

    Raises:
        InvalidJson: It has more digits.
    """
    if len(digits.removeprefix("-")) > _MAX_DIGITS:
        raise InvalidJson("a number is too large")
    return int(digits)


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise InvalidJson("a number is too large")
    return value


def _refuse(name: str) -> None:
    raise InvalidJson(f"{name} is not a number of JSON")


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        raise InvalidJson(f"the name {first_repeated(name for name, _ in pairs)!r} is repeated")
    return value


def check_texts(root: Any) -> None:
    """Refuse a value that cannot be written again.

    Raises:
        InvalidJson: It has more than 100 levels, or a text with a lone surrogate.
    """
    level, depth = [root], 0
    while level:
        if depth > _MAX_DEPTH:
            raise InvalidJson("it is nested too deeply")
        inner: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                inner += value.keys()
                inner += value.values()
            elif isinstance(value, list):
                inner += value
            elif isinstance(value, str) and _SURROGATE.search(value):
                raise InvalidJson("a text has a lone surrogate")
        level, depth = inner, depth + 1
