"""A cache of recent scores, so that equal texts are scored once. It stores keyed hashes and no texts."""

import hashlib
import sys
from collections import OrderedDict
from collections.abc import Iterable
from secrets import token_bytes
from threading import Lock

from msgspec.structs import replace

from edgedistill_serve.scoring.score import Score

ENTRIES = 10_000
"""Default number of scores; with three labels they take about 7 MB."""
BYTES = 32 * 1024 * 1024
"""Default memory limit, for any number of entries."""


class ScoreCache:
    """A least-recently-used cache of one model's scores. It is thread-safe.

    Args:
        entries: Largest number of scores; 0 turns the cache off.
        memory: Largest number of bytes.
    """

    def __init__(self, entries: int = ENTRIES, memory: int = BYTES) -> None:
        self._entries = entries
        self._memory = memory
        # A random key for each cache: hashes cannot be looked up in a table, and collisions cannot be constructed.
        self._secret = token_bytes(32)
        self._scores: OrderedDict[bytes, Score] = OrderedDict()
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._scores)

    def clear(self) -> None:
        """Remove all scores."""
        with self._lock:
            self._scores.clear()

    def key(self, texts: Iterable[str]) -> bytes:
        """Return the cache key of the inputs that the model reads: 16 bytes of keyed BLAKE2b (RFC 7693).

        The inputs are apart, because what a long row loses depends on where each of them ends.
        """
        # The separator is a byte that UTF-8 never uses, so that "a" + "b" and "ab" have different keys.
        content = b"\xff".join(text.encode() for text in texts)
        return hashlib.blake2b(content, key=self._secret, digest_size=16).digest()

    def get(self, key: bytes) -> Score | None:
        """Return the cached score for a key, or None."""
        with self._lock:
            score = self._scores.get(key)
            if score is None:
                return None
            self._scores.move_to_end(key)
        return copy_score(score)

    def put(self, key: bytes, score: Score) -> None:
        """Store a score; if the cache is full, remove the least recently used one."""
        if not self._entries:
            return
        with self._lock:
            self._scores[key] = copy_score(score)
            if len(self._scores) > min(self._entries, self._memory // estimate_entry_bytes(score)):
                self._scores.popitem(last=False)


def copy_score(score: Score) -> Score:
    """Return a score with its own dictionary of probabilities, which the receiver may change."""
    return replace(score, probabilities=dict(score.probabilities))


def estimate_entry_bytes(score: Score) -> int:
    """Estimate the bytes of a cache entry; all scores of one model take the same."""
    shares = score.probabilities
    numbers = sum(map(sys.getsizeof, (*shares.values(), score.unknown_share, score.novelty)))
    # The key, and the link, slot and bucket of the ordered dictionary.
    return sys.getsizeof(score) + sys.getsizeof(shares) + numbers + sys.getsizeof(bytes(16)) + 150
