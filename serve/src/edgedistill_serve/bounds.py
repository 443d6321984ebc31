"""The bounds of numbers in bundles, settings and options: each is stated here once.

NaN and infinities are outside of all of them.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgedistill_serve.errors import DataError


@dataclass(frozen=True, slots=True)
class Bounds:
    """An interval of numbers.

    Attributes:
        low: The smallest number.
        high: The largest number.
        open: Whether both ends are excluded.
        whole: Whether only integers are allowed.
    """

    low: float
    high: float
    open: bool = False
    whole: bool = False

    def __contains__(self, value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, int if self.whole else (int, float)):
            return False
        return self.low < value < self.high if self.open else self.low <= value <= self.high

    def __str__(self) -> str:
        kind = "an integer" if self.whole else "a number"
        low, high = (f"{end:,}" if isinstance(end, int) else f"{end:g}" for end in (self.low, self.high))
        return f"{kind} above {low} and below {high}" if self.open else f"{kind} from {low} to {high}"

    def check(self, value: Any, name: str) -> None:
        """Check a number.

        Args:
            value: Any value.
            name: Name of the field, for the message.

        Raises:
            DataError: The value is not a number within the bounds.
        """
        if value not in self:
            raise DataError(f"the value {_shown(value)} is not {self}", where=name, hint="Set another value.")


def check_all(values: Mapping[str, Any], bounds: Mapping[str, Bounds], where: str = "") -> None:
    """Check several numbers; the first one outside its bounds is named as ``where.NAME``."""
    for name, allowed in bounds.items():
        allowed.check(values[name], f"{where}.{name}" if where else name)


def _shown(value: Any) -> str:
    return repr(value) if isinstance(value, (int, float)) and math.isfinite(value) else f"{value!r:.40}"


SHARE = Bounds(0, 1)
"""A share, or a probability that is compared with one."""
THRESHOLD = Bounds(0, 1, open=True)
"""A probability from which a label is assigned."""
TEMPERATURE = Bounds(0.001, 1000.0)
"""Divisor of the logits. Fitted temperatures lie between 0.05 and 20."""
MAX_TOKENS = Bounds(1, 32_768, whole=True)
"""The longest sequence of a model; existing encoders read up to 8,192 tokens."""
TOLERANCE = Bounds(0.0, 0.25)
"""The difference of a probability that the self-check accepts: 0.02 in int8, 0.001 in fp32."""
LOGIT = Bounds(-1e6, 1e6)
"""A golden logit."""
NOVELTY = Bounds(0.0, 1e6)
"""A novelty, or a limit of it; that of a typical response is 1."""
COUNT = Bounds(1, 2**40, whole=True)
"""A limit in bytes, items, characters or connections."""
COUNT_OR_NONE = Bounds(0, 2**40, whole=True)
"""The same, with 0 for no limit."""
THREADS = Bounds(1, 1024, whole=True)
"""A number of threads."""
WORKERS = Bounds(1, 256, whole=True)
"""A number of processes."""
SECONDS = Bounds(0.0, 604_800.0, open=True)
"""A time limit: up to a week."""
WAIT = Bounds(0.0, 86_400.0)
"""A pause between two attempts: up to a day."""
TRIES = Bounds(1, 1000, whole=True)
"""A number of attempts."""
