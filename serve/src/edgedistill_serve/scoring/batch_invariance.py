"""Which batches leave each response's logits as they are, bit for bit.

A graph may sum in another order where a row has company, and int8 with a scale of the whole batch gives other sums.
Neither can be read off a graph: it is tried, where the bundle is made and again on every processor that loads it. So is
padding, which a graph that reads its last token does not bear.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain, cycle, islice, product
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edgedistill_serve.scoring.batching import CPU_BATCHING, UNPADDED_BATCHING, Batching, token_batches
from edgedistill_serve.scoring.encoding import Encoded

_LENGTHS = 6
"""How many lengths are tried that the rows need not have."""
_COMPANY = 3
"""Rows of each of them."""
_HARMLESS = 1e-5
"""The most by which padding may move a logit. Other orders of sums were seen to move it by 2.4e-7."""


class GraphSession(Protocol):
    """What a scorer asks of a session; see `Session`."""

    def logits(self, encoded: Encoded) -> NDArray[np.float64]:
        """Run the graph on one response."""

    def batch_logits(self, rows: Sequence[Encoded], length: int = 0) -> NDArray[np.float64]:
        """Run the graph once on several responses, padded to a length."""


def find_invariant_batching(graph: GraphSession, rows: Sequence[Encoded], max_tokens: int) -> Batching | None:
    """Score rows alone and in batches, and return the batching that leaves every logit the same in every bit.

    The batches are those that a scorer would make of the rows, and of others of every length up to the longest.

    Args:
        graph: What is tried.
        rows: Any responses.
        max_tokens: The longest sequence that it reads.

    Returns:
        The first of `CPU_BATCHING` and `UNPADDED_BATCHING` that does no harm; None where rows must be scored alone.

    Raises:
        ScoringFailed: The graph failed on a row.
    """
    rows = [*rows, *_stretched(rows, max_tokens)]
    bare = [graph.logits(row) for row in rows]
    choices = (replace(batching, max_length=max_tokens) for batching in (CPU_BATCHING, UNPADDED_BATCHING))
    return next((batching for batching in choices if _harmless(graph, rows, bare, batching)), None)


def _harmless(
    graph: GraphSession, rows: Sequence[Encoded], bare: Sequence[NDArray[np.float64]], batching: Batching
) -> bool:
    lengths = [batching.padded_length(len(row.ids)) for row in rows]
    alone = [graph.batch_logits([row], length)[0] for row, length in zip(rows, lengths, strict=True)]
    return np.allclose(alone, bare, rtol=0, atol=_HARMLESS) and all(
        np.array_equal(found, alone[place])
        for batch in token_batches(lengths, batching)
        for place, found in zip(
            batch, graph.batch_logits([rows[place] for place in batch], lengths[batch[0]]), strict=True
        )
    )


def _stretched(rows: Sequence[Encoded], max_tokens: int) -> Iterator[Encoded]:
    """Yield rows of lengths up to the longest, made of the tokens that there are."""
    tokens = list(chain.from_iterable(row.ids for row in rows))
    for part, turn in product(range(1, _LENGTHS + 1), range(_COMPANY if tokens else 0)):
        length = max(1, max_tokens * part // _LENGTHS)
        ids = islice(cycle(tokens), turn, turn + length)
        yield replace(rows[0], ids=tuple(ids), type_ids=(0,) * length)
