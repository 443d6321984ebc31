"""Which rows are scored in one run of a graph."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Batching:
    """What one run of a graph may hold.

    Attributes:
        budget: The most tokens, padding counted; a longer row goes alone.
        width: Rows share a run whose lengths, divided by this and rounded up, are the same.
    """

    budget: int
    width: int = 1

    def shelf(self, length: int) -> int:
        """Return the longest that a row may be to share a run with one of this length."""
        return -(-length // self.width) * self.width

    def room(self, length: int) -> int:
        """Return how many rows may share a run with one of this length."""
        return max(1, self.budget // max(1, self.shelf(length)))


ON_CPU = Batching(budget=512)
"""Rows of one length: a padded row's sums may be made in another order, which moves its score by its last bit."""
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
