"""A table of scores by text, of fixed size, so that equal responses of a long file are scored once.

It stores keyed hashes and numbers, no texts. Its memory is taken at the start and does not grow.
"""

from collections.abc import Sequence
from threading import Lock
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

BYTES = 64 * 2**20
"""Default memory: 600,000 scores of three labels."""
_WAYS = 4
"""Places where the score of one text can be."""
_KEY_BYTES = 16

Keys: TypeAlias = NDArray[np.uint64]
"""Shape (texts, 2)."""
Numbers: TypeAlias = NDArray[np.float64]
"""Shape (texts, numbers of a score)."""


def as_keys(keys: Sequence[bytes]) -> Keys:
    """Return keys of 16 bytes as numbers."""
    return np.frombuffer(b"".join(keys), dtype=np.uint64).reshape(len(keys), 2)


class ScoredTexts:
    """The numbers of recent scores by key: a hash table with four places for each key. It is thread-safe.

    Args:
        width: Numbers of a score.
        memory: Bytes.
    """

    def __init__(self, width: int, memory: int = BYTES) -> None:
        self._sets = max(1, memory // (_WAYS * (_KEY_BYTES + 8 * width)))
        # Zeros mark an empty place: one key in 2**128 is zero.
        self._keys: Keys = np.zeros((self._sets * _WAYS, 2), dtype=np.uint64)
        self._numbers: Numbers = np.zeros((self._sets * _WAYS, width))
        self._lock = Lock()

    def find(self, keys: Keys) -> tuple[NDArray[np.bool_], Numbers]:
        """Return which keys have a score, shape (texts,), and the numbers; those of other keys mean nothing."""
        places = self._places(keys)
        with self._lock:
            same = (self._keys[places] == keys[:, None, :]).all(axis=2)
            chosen = places[np.arange(len(keys)), same.argmax(axis=1)]
            return same.any(axis=1), self._numbers[chosen]

    def add(self, keys: Keys, numbers: Numbers) -> None:
        """Store scores in empty places, or in the place of others."""
        places = self._places(keys)
        with self._lock:
            empty = (self._keys[places] == 0).all(axis=2)
            way = np.where(empty.any(axis=1), empty.argmax(axis=1), (keys[:, 1] % np.uint64(_WAYS)).astype(np.intp))
            # Two keys for one place: the first one gets it.
            chosen, first = np.unique(places[np.arange(len(keys)), way], return_index=True)
            self._keys[chosen], self._numbers[chosen] = keys[first], numbers[first]

    def _places(self, keys: Keys) -> NDArray[np.intp]:
        sets = (keys[:, 0] % np.uint64(self._sets)).astype(np.intp)
        places: NDArray[np.intp] = sets[:, None] * _WAYS + np.arange(_WAYS)
        return places
