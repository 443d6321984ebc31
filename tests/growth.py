"""Costs that are compared, never timed in seconds: with those of a shorter input, or of a loop on the same machine.

A busy or slow machine makes one measurement of processor time longer by several times, and none shorter. So the least
of several measurements counts, the dear and the cheap ones take turns, and a comparison that fails is repeated with
more of them. Work of quadratic cost cannot pass: each repetition brings its measurements nearer to what it costs.
"""

import time
from collections.abc import Callable
from itertools import repeat

FACTOR = 16
"""How many times longer the long one of two inputs is."""
LIMIT = FACTOR**1.5
"""How many times more it may cost: midway between 16 times, which is linear, and 256 times, which is quadratic."""
ROUNDS = 20
"""How often a comparison that fails is repeated."""
REPEATS = 4
"""How often the cheap one is measured before the dear one and again after it: if each of these were disturbed, the
dear one would pass."""


def cpu_seconds(work: Callable[..., object], *arguments: object) -> float:
    """Return the processor time that a call takes in this process, in seconds."""
    before = time.process_time()
    work(*arguments)
    return time.process_time() - before


def loop_seconds(steps: int) -> float:
    """Return the processor time of a loop of Python: how fast this machine is now (about 5 ns a step in 2026)."""
    before = time.process_time()
    for _ in repeat(None, steps):
        pass
    return time.process_time() - before


def assert_costs_at_most(
    dear: Callable[[], float], *bounds: tuple[float, Callable[[], float]], repeats: int = REPEATS
) -> None:
    """Check that a cost is at most so many times each of the others; each call measures one anew."""
    least = [float("inf") for _ in bounds]
    least_dear = float("inf")
    for _ in range(ROUNDS):
        before = [cheap() for _ in range(repeats) for _, cheap in bounds]
        least_dear = min(least_dear, dear())
        after = [cheap() for _ in range(repeats) for _, cheap in bounds]
        least = [min(each, *(before + after)[bound :: len(bounds)]) for bound, each in enumerate(least)]
        if all(least_dear <= times * each for (times, _), each in zip(bounds, least, strict=True)):
            return
    ratios = ", ".join(f"{least_dear / (each or 1e-9):.1f} times {each:.3g}" for each in least)
    raise AssertionError(f"{least_dear:.3g} is {ratios}")


def assert_linear(measure: Callable[[int], float], length: int) -> None:
    """Check that the cost of an input of this length is at most about 16 times that of one 16 times shorter."""
    assert_costs_at_most(lambda: measure(length), (LIMIT, lambda: measure(length // FACTOR)))


def assert_work_is_linear(
    work: Callable[[str], object], text: Callable[[int], str], length: int, *, steps: int = 1000
) -> None:
    """Check that the processor time of work on texts is at most linear, and little for each character.

    Args:
        work: What is done with a text.
        text: Makes a text of a length.
        length: Of the long text.
        steps: The steps of an empty Python loop that a character of the long text may cost.
    """
    short, long = text(length // FACTOR), text(length)
    assert_costs_at_most(
        lambda: cpu_seconds(work, long),
        (LIMIT, lambda: cpu_seconds(work, short)),
        (16 * steps, lambda: loop_seconds(length // 16)),
    )
