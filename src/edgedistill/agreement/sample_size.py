"""How many rows like the present ones would bring an interval's lower limit up to a required value."""

import math

from edgedistill.agreement.types import Estimate

MOST_ROWS = 100_000
"""More rows than this are no plan."""


def rows_for_lower_limit(found: Estimate | None, rows: int, required: float) -> int | None:
    """Return about how many rows in all would reach a required value at the present figure.

    The distance from a figure to the lower limit of its interval is taken to shrink with the square root of the number
    of rows, as that of a mean does. The bootstrap of `edgedistill.agreement` adds one row coded wrongly, whose weight
    shrinks faster, so that the number is rather too high. The figure itself may change with more rows, too.

    Args:
        found: The figure, with its interval.
        rows: Number of rows behind it.
        required: What the lower limit must reach.

    Returns:
        A number with two significant digits; None if the figure itself does not exceed the required value, or it
        would take more than `MOST_ROWS`.

    Example:
        rows_for_lower_limit(Estimate(0.70, 0.46, 0.89), 31, 0.6)  # 180
    """
    if found is None or rows < 1 or not found.value - required > 0 or not found.value - found.low >= 0:
        return None
    if found.low >= required:
        return rows
    needed = rows * ((found.value - found.low) / (found.value - required)) ** 2
    if not needed <= MOST_ROWS:
        return None
    step = int(10 ** max(0, math.floor(math.log10(needed)) - 1))
    return max(rows + 1, math.ceil(needed / step - 1e-9) * step)
