"""Which rows share one run of a graph, and the check that sharing changes no logit.

A graph may add numbers in another order when a row is scored in a batch, and int8 with one scale for the whole batch
gives other sums. Neither can be read from a graph, so both are measured: when the bundle is written, and again on every
processor that loads it. Padding is measured too, because a graph that reads its last token does not tolerate it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, cycle, islice, product
from sys import maxsize
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from edgedistill_serve.scoring.encoding import Encoded


@dataclass(frozen=True, slots=True)
class Batching:
    """The size of the batches that one run of a graph scores.

    Attributes:
        token_budget: Largest number of tokens in a batch, padding included; a longer row is scored alone.
        pad_to_multiple_of: Every row is padded to a multiple of this length, also when it is scored alone, so that its
            score has the same bits in every batch.
        max_length: Longest sequence that the graph reads; no row is padded beyond it.
    """

    token_budget: int
    pad_to_multiple_of: int = 1
    max_length: int = maxsize

    def padded_length(self, length: int) -> int:
        """Return the length to which a row is padded. Rows of one padded length can share a batch."""
        return max(length, min(self.max_length, -(-length // self.pad_to_multiple_of) * self.pad_to_multiple_of))

    def max_rows(self, length: int) -> int:
        """Return the largest number of rows of this length in a batch."""
        return max(1, self.token_budget // max(1, self.padded_length(length)))


CPU_BATCHING = Batching(token_budget=512, pad_to_multiple_of=4)
"""Padding can change the order in which a row is summed, and with it the last bit of its score. The padding of a row
therefore depends on its own length only."""
UNPADDED_BATCHING = replace(CPU_BATCHING, pad_to_multiple_of=1)
"""For a graph whose logits change with padding."""
GPU_BATCHING = Batching(token_budget=8192, pad_to_multiple_of=32)
"""Not tuned by measurement."""

_EXTRA_LENGTHS = 6
"""Number of sequence lengths that the invariance check adds to those of the rows."""
_ROWS_PER_EXTRA_LENGTH = 3
_PADDING_TOLERANCE = 1e-5
"""Largest change of a logit or a novelty by padding. Another order of summation changed logits by 2.4e-7 at most in
measurements."""


def token_batches(lengths: Sequence[int], batching: Batching = CPU_BATCHING) -> list[list[int]]:
    """Divide rows into batches of one padded length each.

    Args:
        lengths: Sequence length of each row, in tokens.
        batching: Size of a batch.

    Returns:
        Indices into ``lengths``, each in exactly one batch. Batches are sorted by their smallest index.
    """
    by_length: dict[int, list[int]] = {}
    for index, length in enumerate(lengths):
        by_length.setdefault(batching.padded_length(length), []).append(index)
    batches = [
        indices[start : start + batching.max_rows(length)]
        for length, indices in by_length.items()
        for start in range(0, len(indices), batching.max_rows(length))
    ]
    return sorted(batches, key=min)


class Outputs(NamedTuple):
    """What a graph gives for several responses.

    Attributes:
        logits: Shape (rows, labels).
        novelty: Shape (rows,); None if the graph computes none.
    """

    logits: NDArray[np.float64]
    novelty: NDArray[np.float64] | None = None

    @property
    def table(self) -> NDArray[np.float64]:
        """All numbers of each row: its logits, then its novelty if there is one."""
        return self.logits if self.novelty is None else np.column_stack((self.logits, self.novelty))


class GraphSession(Protocol):
    """The interface of `Session` that a scorer uses."""

    def run(self, rows: Sequence[Encoded], length: int = 0) -> Outputs:
        """Run the graph once on one or more responses, padded to ``length``."""


def find_invariant_batching(session: GraphSession, rows: Sequence[Encoded], max_tokens: int) -> Batching | None:
    """Score rows alone and in batches, and return the batching that changes no bit of a logit or novelty.

    The batches are those that a scorer would form from the rows, and from further rows of every length up to the
    longest.

    Args:
        session: The graph under test.
        rows: Any responses.
        max_tokens: The longest sequence that the graph reads.

    Returns:
        The first of `CPU_BATCHING` and `UNPADDED_BATCHING` that changes nothing; None if rows must be scored alone.

    Raises:
        ScoringFailed: The graph failed on a row.
    """
    rows = [*rows, *_extra_rows(rows, max_tokens)]
    unpadded = [session.run([row]).table[0] for row in rows]
    candidates = (replace(batching, max_length=max_tokens) for batching in (CPU_BATCHING, UNPADDED_BATCHING))
    return next((batching for batching in candidates if _is_invariant(session, rows, unpadded, batching)), None)


def _is_invariant(
    session: GraphSession, rows: Sequence[Encoded], unpadded: Sequence[NDArray[np.float64]], batching: Batching
) -> bool:
    lengths = [batching.padded_length(len(row.ids)) for row in rows]
    alone = [session.run([row], length).table[0] for row, length in zip(rows, lengths, strict=True)]
    return np.allclose(alone, unpadded, rtol=0, atol=_PADDING_TOLERANCE) and all(
        np.array_equal(numbers, alone[index])
        for batch in token_batches(lengths, batching)
        for index, numbers in zip(
            batch, session.run([rows[index] for index in batch], lengths[batch[0]]).table, strict=True
        )
    )


def _extra_rows(rows: Sequence[Encoded], max_tokens: int) -> Iterator[Encoded]:
    """Yield rows of lengths up to the longest, made from the tokens of the given rows."""
    tokens = list(chain.from_iterable(row.ids for row in rows))
    for step, offset in product(range(1, _EXTRA_LENGTHS + 1), range(_ROWS_PER_EXTRA_LENGTH if tokens else 0)):
        length = max(1, max_tokens * step // _EXTRA_LENGTHS)
        ids = islice(cycle(tokens), offset, offset + length)
        yield replace(rows[0], ids=tuple(ids), type_ids=(0,) * length)
