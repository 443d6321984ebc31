"""Which texts nearly repeat which: exact Jaccard similarity of character trigrams.

The share of the trigrams of two texts that both have (Broder 1997), by one sparse matrix product per block of texts.
MinHash estimates this figure; for the thousands of short texts of a project the exact one takes no longer. See
docs/decisions for the measurement.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from sklearn.feature_extraction.text import CountVectorizer

from edgedistill.records.coding import folded

_BLOCK = 512  # texts compared with all others at a time: bounds the memory of one product


def similar_pairs(texts: Sequence[str], others: Sequence[str], at_least: float) -> Iterator[tuple[int, int, float]]:
    """Yield every pair of a text and another one that are similar enough.

    Case, white space and Unicode composition do not count; a space stands before and after each text, so that first
    and last words count like others.

    Args:
        texts: n texts.
        others: m texts; may be `texts` itself, every text then being similar to itself.
        at_least: Similarity in (0, 1].

    Yields:
        Position in `texts`, position in `others`, similarity; ordered by the first, then the second.
    """
    if not texts or not others:
        return
    trigrams = CountVectorizer(analyzer=_trigrams, binary=True).fit([*texts, *others])
    left, right = trigrams.transform(texts), trigrams.transform(others)
    left_sizes, right_sizes = (np.asarray(matrix.sum(axis=1)).ravel() for matrix in (left, right))
    for start in range(0, len(texts), _BLOCK):
        shared = (left[start : start + _BLOCK] @ right.T).tocoo()
        rows, columns = shared.row + start, shared.col
        similarity = shared.data / (left_sizes[rows] + right_sizes[columns] - shared.data)
        found = np.flatnonzero(similarity >= at_least)
        for place in sorted(found, key=lambda place: (rows[place], columns[place])):
            yield int(rows[place]), int(columns[place]), float(similarity[place])


def _trigrams(text: str) -> set[str]:
    padded = f" {folded(text)} "
    return {padded[start : start + 3] for start in range(max(1, len(padded) - 2))}
