"""Whether a graph gives each response the same logits, bit for bit, whatever else is in its batch.

A graph may sum in another order where a row has company, and int8 with a scale of the whole batch gives other sums.
Neither can be read off a graph: it is tried, where the bundle is made and again on every processor that loads it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain, cycle, islice, product
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edgedistill_serve.batches import token_batches
from edgedistill_serve.encoding import Encoded

_LENGTHS = 6
"""How many lengths are tried that the rows need not have."""
_COMPANY = 3
"""Rows of each of them."""


class Graph(Protocol):
    """What a scorer asks of a session; see `Session`."""

    def logits(self, encoded: Encoded) -> NDArray[np.float64]:
        """Run the graph on one response."""

    def batch_logits(self, rows: Sequence[Encoded]) -> NDArray[np.float64]:
        """Run the graph once on several responses."""


def same_in_batches(graph: Graph, rows: Sequence[Encoded], max_tokens: int) -> bool:
    """Score rows alone and in batches, and return whether every logit is the same in every bit.

    The batches are those that a scorer would make of the rows, and of others of every length up to the longest.

    Args:
        graph: What is tried.
        rows: Any responses.
        max_tokens: The longest sequence that it reads.

    Raises:
        ScoringFailed: The graph failed on a row.
    """
    rows = [*rows, *_stretched(rows, max_tokens)]
    alone = [graph.logits(row) for row in rows]
    return all(
        np.array_equal(found, alone[place])
        for batch in token_batches([len(row.ids) for row in rows])
        for place, found in zip(batch, graph.batch_logits([rows[place] for place in batch]), strict=True)
    )


def _stretched(rows: Sequence[Encoded], max_tokens: int) -> Iterator[Encoded]:
    """Yield rows of lengths up to the longest, made of the tokens that there are."""
    tokens = list(chain.from_iterable(row.ids for row in rows))
    for part, turn in product(range(1, _LENGTHS + 1), range(_COMPANY if tokens else 0)):
        length = max(1, max_tokens * part // _LENGTHS)
        ids = islice(cycle(tokens), turn, turn + length)
        yield replace(rows[0], ids=tuple(ids), type_ids=(0,) * length)
