"""Which rows are scored in one run of a graph."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Batching:
    """What one run of a graph may hold, and what it costs.

    Attributes:
        budget: The most tokens, padding counted; a longer row goes alone.
        run: What a run costs beside its tokens, in tokens.
    """

    budget: int
    run: int


ON_CPU = Batching(budget=512, run=14)
"""On two cores a budget of 1024 is 3 % slower, one of 4096 22 %; a run of int8 MiniLM costs 750 us, a token 54."""
ON_GPU = Batching(budget=8192, run=4096)
"""Not measured."""


def token_batches(lengths: Sequence[int], batching: Batching = ON_CPU) -> list[list[int]]:
    """Divide rows into batches of like length.

    Args:
        lengths: Of each row's sequence, in tokens.
        batching: What a batch may hold.

    Returns:
        Places in ``lengths``, each in one batch; the batch that holds the earliest place comes first. Of all divisions
        within the budget it is one that costs least.
    """
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    costs, starts = [0], [0]  # of the best division of the shortest rows: its cost, and where its last batch starts
    for end, place in enumerate(order, start=1):
        longest = lengths[place]
        first = max(0, end - max(1, batching.budget // max(1, longest)))
        cost, start = min((costs[at] + batching.run + (end - at) * longest, at) for at in range(first, end))
        costs.append(cost)
        starts.append(start)
    batches: list[list[int]] = []
    end = len(order)
    while end:
        batches.append(order[starts[end] : end])
        end = starts[end]
    return sorted(batches, key=min)
