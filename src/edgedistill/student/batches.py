"""Which rows make a batch: rows of like length, in an order that chance decides.

A batch is padded to its longest row, so a batch of unlike rows spends most of its time on padding. Rows are shuffled,
cut into windows of `WINDOW` batches, sorted by length inside each window, cut into batches, and the batches shuffled.
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np

WINDOW = 32
"""Batches that are sorted together: more give less padding, fewer mix rows more freely from epoch to epoch."""


def plan_batches(lengths: Sequence[int], batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """Plan one epoch.

    Args:
        lengths: Tokens per row.
        batch_size: Rows in a batch; one batch of the epoch is smaller where the rows do not divide.
        seed: Of the trial.
        epoch: From 0; another epoch, another plan.

    Returns:
        Row indices per batch; every row stands in exactly one batch.
    """
    rng = np.random.default_rng([seed % 2**32, epoch])
    tokens = np.asarray(lengths)
    order = rng.permutation(len(tokens))
    span = WINDOW * batch_size
    batches = []
    for start in range(0, len(order), span):
        window = order[start : start + span]
        alike = window[np.argsort(tokens[window], kind="stable")]
        batches += [alike[first : first + batch_size].tolist() for first in range(0, len(alike), batch_size)]
    return [batches[number] for number in rng.permutation(len(batches))]


class LikeLengths:
    """Hands the planned batches to a data loader, epoch after epoch.

    Args:
        lengths: Tokens per row.
        batch_size: Rows in a batch.
        seed: Of the trial.
        first: Epochs that were handed out before, by a loader that is gone.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int, first: int = 0) -> None:
        self.lengths, self.batch_size, self.seed, self.first, self.epoch = lengths, batch_size, seed, first, 0
        self.drop_last = False

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, counted from the first that this loader hands out, of the next iteration."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[list[int]]:
        return iter(plan_batches(self.lengths, self.batch_size, self.seed, self.first + self.epoch))

    def __len__(self) -> int:
        return math.ceil(len(self.lengths) / self.batch_size)
