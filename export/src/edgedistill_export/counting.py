"""Counts the rows that a model has read while it reads them, for the progress of a long step."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

T = TypeVar("T")

_on_row: ContextVar[Callable[[], None] | None] = ContextVar("on_row", default=None)


@contextmanager
def count_rows(on_count: Callable[[int], None]) -> Iterator[None]:
    """Call a function with the number of rows that models have read in the block, after each row.

    Example:
        with count_rows(lambda done: print(f"{done} of {len(rows)}")):
            checkpoint.logits(rows)
    """
    done = 0

    def count() -> None:
        nonlocal done
        done += 1
        on_count(done)

    token = _on_row.set(count)
    try:
        yield
    finally:
        _on_row.reset(token)


def counted(results: Iterable[T]) -> Iterator[T]:
    """Yield the results of rows, each counted by the `count_rows` block that it is in."""
    count = _on_row.get()
    for result in results:
        if count is not None:
            count()
        yield result
