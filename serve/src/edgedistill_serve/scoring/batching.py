"""Which rows are scored in one run of a graph."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from sys import maxsize


@dataclass(frozen=True, slots=True)
class Batching:
    """What one run of a graph may hold.

    Attributes:
        budget: The most tokens, padding counted; a longer row goes alone.
        width: Every row is padded to a multiple of this, alone too, so that its score has the same bits in company.
        longest: The longest sequence that the graph reads; no row is padded beyond it.
    """

    budget: int
    width: int = 1
    longest: int = maxsize

    def shelf(self, length: int) -> int:
        """Return the length that a row of this length is padded to; it shares runs with others of that length."""
        return max(length, min(self.longest, -(-length // self.width) * self.width))

    def room(self, length: int) -> int:
        """Return how many rows may share a run with one of this length."""
        return max(1, self.budget // max(1, self.shelf(length)))


ON_CPU = Batching(budget=512, width=4)
"""Padding may change the order of a row's sums, and so the last bit of its score: a row's padding hangs on it alone."""
UNPADDED = replace(ON_CPU, width=1)
"""For a graph that padding does harm."""
ON_GPU = Batching(budget=8192, width=32)
"""Not measured."""


def token_batches(lengths: Sequence[int], batching: Batching = ON_CPU) -> list[list[int]]:
    """Divide rows into batches of like length.

    Args:
        lengths: Of each row's sequence, in tokens.
        batching: What a batch may hold.

    Returns:
        Places in ``lengths``, each in one batch; the batch that holds the earliest place comes first.
    """
    shelves: dict[int, list[int]] = {}
    for place, length in enumerate(lengths):
        shelves.setdefault(batching.shelf(length), []).append(place)
    batches = [
        places[start : start + batching.room(length)]
        for length, places in shelves.items()
        for start in range(0, len(places), batching.room(length))
    ]
    return sorted(batches, key=min)
