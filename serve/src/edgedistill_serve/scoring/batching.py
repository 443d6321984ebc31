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

    token_budget: int
    pad_to_multiple_of: int = 1
    max_length: int = maxsize

    def padded_length(self, length: int) -> int:
        """Return the length that a row of this length is padded to; it shares runs with others of that length."""
        return max(length, min(self.max_length, -(-length // self.pad_to_multiple_of) * self.pad_to_multiple_of))

    def max_rows(self, length: int) -> int:
        """Return how many rows may share a run with one of this length."""
        return max(1, self.token_budget // max(1, self.padded_length(length)))


CPU_BATCHING = Batching(token_budget=512, pad_to_multiple_of=4)
"""Padding may change the order of a row's sums, and so the last bit of its score: a row's padding hangs on it alone."""
UNPADDED_BATCHING = replace(CPU_BATCHING, pad_to_multiple_of=1)
"""For a graph that padding does harm."""
GPU_BATCHING = Batching(token_budget=8192, pad_to_multiple_of=32)
"""Not measured."""


def token_batches(lengths: Sequence[int], batching: Batching = CPU_BATCHING) -> list[list[int]]:
    """Divide rows into batches of like length.

    Args:
        lengths: Of each row's sequence, in tokens.
        batching: What a batch may hold.

    Returns:
        Places in ``lengths``, each in one batch; the batch that holds the earliest place comes first.
    """
    shelves: dict[int, list[int]] = {}
    for place, length in enumerate(lengths):
        shelves.setdefault(batching.padded_length(length), []).append(place)
    batches = [
        places[start : start + batching.max_rows(length)]
        for length, places in shelves.items()
        for start in range(0, len(places), batching.max_rows(length))
    ]
    return sorted(batches, key=min)
