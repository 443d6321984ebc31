"""Scores of the last responses, so that the same text is not scored twice. No text is kept, only its keyed hash."""

import hashlib
import sys
from collections import OrderedDict
from secrets import token_bytes
from threading import Lock

from msgspec.structs import replace

from edgedistill_serve.scoring.score import Score

ENTRIES = 10_000
"""How many scores are kept unless said otherwise: about 7 MB with three labels."""
BYTES = 32 * 1024 * 1024
"""The most memory that they take, however many entries are allowed."""


class ScoreCache:
    """The scores that were asked for last, of one model; any number of threads may share it.

    Args:
        entries: How many are kept; 0 keeps none.
        memory: The most bytes that they take.
    """

    def __init__(self, entries: int = ENTRIES, memory: int = BYTES) -> None:
        self._entries = entries
        self._memory = memory
        # Drawn anew for each model: nobody can find texts that share a hash, or look up who wrote what.
        self._secret = token_bytes(32)
        self._scores: OrderedDict[bytes, Score] = OrderedDict()
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._scores)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._scores.clear()

    def key(self, texts: tuple[str, str | None]) -> bytes:
        """Return the hash of the texts that the model reads: 16 bytes of keyed BLAKE2b (RFC 7693)."""
        first, second = texts
        # A byte that no UTF-8 text holds keeps "a" + "b" apart from "ab".
        content = first.encode() if second is None else first.encode() + b"\xff" + second.encode()
        return hashlib.blake2b(content, key=self._secret, digest_size=16).digest()

    def get(self, key: bytes) -> Score | None:
        """Return the score of a text that was scored lately."""
        with self._lock:
            score = self._scores.get(key)
            if score is None:
                return None
            self._scores.move_to_end(key)
        return copy_of(score)

    def put(self, key: bytes, score: Score) -> None:
        """Keep a score, and forget the one that was not asked for for longest where there is no room."""
        if not self._entries:
            return
        with self._lock:
            self._scores[key] = copy_of(score)
            if len(self._scores) > min(self._entries, self._memory // estimate_entry_bytes(score)):
                self._scores.popitem(last=False)


def copy_of(score: Score) -> Score:
    """Return a score whose probabilities the receiver may change without touching anybody else's."""
    return replace(score, probabilities=dict(score.probabilities))


def estimate_entry_bytes(score: Score) -> int:
    """Return about how many bytes an entry takes; all scores of a model take the same."""
    shares = score.probabilities
    numbers = sum(map(sys.getsizeof, shares.values()))
    # The key and the ordered dictionary's own link, slot and bucket.
    return sys.getsizeof(score) + sys.getsizeof(shares) + numbers + sys.getsizeof(bytes(16)) + 150
