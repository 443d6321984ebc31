"""Rows from the surest to the least sure, those of equal chance together, whatever order they came in."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgedistill.review.scores import Scores

TIE = 1e-6
"""Chances that lie no further apart are equal. Logits are float32, and near 8 the next one lies 1e-6 away."""


@dataclass(frozen=True, slots=True, eq=False)
class Ranking:
    """Rows by their chance, falling, in blocks of equal chance: a threshold lies between two blocks, never in one.

    Half of `TIE` or more lies between a threshold and any row's chance. So the rounding of ``least - shift``, which a
    bundle holds against a probability, moves no row to the other side: that is about 1e-16.

    Attributes:
        places: Where each row stands in the scores, the surest first. Rows of a block stand by human code, label and
            group; which of them came first shows nowhere.
        falling: The chances, the highest first, (rows,).
        ends: How many rows the surest block has, the two surest, and so on to all rows; empty where there are none.
    """

    places: NDArray[np.int64]
    falling: NDArray[np.float64]
    ends: NDArray[np.int64]

    def at_least(self, rows: int) -> int:
        """Return how many rows the fewest blocks hold that hold this many rows, which is at most all."""
        return int(self.ends[np.searchsorted(self.ends, rows)])

    def threshold(self, end: int) -> float | None:
        """Return the chance midway between this many rows and the next; None where these are all.

        Args:
            end: One of `ends`.
        """
        return None if end == len(self.falling) else float(self.falling[end - 1 : end + 1].mean())


def ranked(scores: Scores, chance: NDArray[np.float64], places: NDArray[np.int64]) -> Ranking:
    """Rank some rows.

    Args:
        scores: Of all rows.
        chance: How surely each of them is right, (all rows,).
        places: Which rows to rank.
    """
    by_chance = places[np.argsort(-chance[places], kind="stable")]
    falling = chance[by_chance]
    last = np.append(falling[:-1] - falling[1:] > TIE, True)[: len(falling)]
    blocks = (last.cumsum() - last).tolist()
    labels, groups = scores.labels, scores.groups or ("",) * len(scores)
    order = sorted(
        (block, scores.codes[place], labels[place], groups[place], place)
        for block, place in zip(blocks, by_chance.tolist(), strict=True)
    )
    return Ranking(np.array([row[-1] for row in order], dtype=np.int64), falling, np.flatnonzero(last) + 1)
