"""Counts the rows that a model has read while it reads them, for the progress of a long step with several phases.

Rows of one phase take about equally long, so that the time left can be told from those that are done; a conversion
between two phases is a phase of its own, without rows.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

T = TypeVar("T")

_on_row: ContextVar[Callable[[], None] | None] = ContextVar("on_row", default=None)
_on_phase: ContextVar[Callable[[str, int], None] | None] = ContextVar("on_phase", default=None)


@contextmanager
def count_rows(on_count: Callable[[int], None], on_phase: Callable[[str, int], None] | None = None) -> Iterator[None]:
    """Call a function with the number of rows that models have read in the block, after each row.

    Args:
        on_count: Called with the rows of the present phase so far.
        on_phase: Called at the beginning of each phase of `begin_phase`; the rows are counted anew from there.

    Example:
        with count_rows(lambda done: print(f"{done} of {len(rows)}")):
            checkpoint.logits(rows)
    """
    done = 0

    def count() -> None:
        nonlocal done
        done += 1
        on_count(done)

    def begin(what: str, rows: int) -> None:
        nonlocal done
        if on_phase is not None:
            done = 0
            on_phase(what, rows)

    token, of_phases = _on_row.set(count), _on_phase.set(begin)
    try:
        yield
    finally:
        _on_row.reset(token)
        _on_phase.reset(of_phases)


def begin_phase(what: str, rows: int = 0) -> None:
    """Report that another phase begins, to the `count_rows` block that it is in.

    Args:
        what: What is done, for people.
        rows: About how many rows models will read in it; 0 for other work.
    """
    if (begin := _on_phase.get()) is not None:
        begin(what, rows)


def counted(results: Iterable[T]) -> Iterator[T]:
    """Yield the results of rows, each counted by the `count_rows` block that it is in."""
    count = _on_row.get()
    for result in results:
        if count is not None:
            count()
        yield result
