"""Memory that the processes of a server share.

Reading and writing a number in it is atomic, because it is aligned and no longer than a machine word. There are no
locks, which a process that is killed could leave locked.

SharedState   which models are served, and how many connections each process has
SharedRates   the rate limits of the API keys
"""

import mmap
import os
import sys
import tempfile

_NOT_ACCEPTING = 2**32 - 1
_RATES = 2**14
"""Places for rate limits; a key file has fewer keys."""
_RATE_BYTES = 16
_MOST_PROBES = 256


class SharedState:
    """Memory that the processes of a server share: which models are served, and how many connections each process has.

    Args:
        descriptor: File descriptor of the memory, as `create` returns it.
    """

    def __init__(self, descriptor: int) -> None:
        self._memory = mmap.mmap(descriptor, 0)
        self._cells = memoryview(self._memory)[_RATES * _RATE_BYTES :].cast("I")

    @staticmethod
    def create(processes: int) -> int:
        """Create the memory for this many processes, and return its file descriptor; nothing is on a disk."""
        if sys.platform == "linux":
            descriptor = os.memfd_create("edgedistill-serve")
        else:
            descriptor, name = tempfile.mkstemp(prefix="edgedistill-serve-")
            os.unlink(name)  # noqa: PTH108  # a name of mkstemp
        os.ftruncate(descriptor, _RATES * _RATE_BYTES + 4 * (1 + processes))
        state = SharedState(descriptor)
        for process in range(processes):
            state.set_connections(process, None)
        return descriptor

    @property
    def generation(self) -> int:
        """Number of the models that all processes use for new requests; 0 before there are any."""
        return self._cells[0]

    @generation.setter
    def generation(self, number: int) -> None:
        self._cells[0] = number

    def set_connections(self, process: int, connections: int | None) -> None:
        """Set the number of a process's connections; None if it accepts none."""
        self._cells[1 + process] = _NOT_ACCEPTING if connections is None else connections

    def has_fewest(self, process: int) -> bool:
        """Return whether no process that accepts connections has fewer."""
        return self._cells[1 + process] <= min(self._cells[1:])

    @property
    def rates(self) -> "SharedRates":
        """The rate limits of the API keys."""
        return SharedRates(memoryview(self._memory)[: _RATES * _RATE_BYTES])


class SharedRates:
    """Rate limits that hold over all processes: at most ``rate`` requests per second, and as many at once.

    For each key there is the time at which its allowance is used up if it sends no more (the generic cell rate
    algorithm, which equals a token bucket). Two processes that read the same time at the same moment both allow a
    request: the limit can be exceeded by that one.

    Args:
        memory: Zeros at first, a multiple of 16 bytes.
    """

    def __init__(self, memory: memoryview) -> None:
        self._tags = memory.cast("Q")
        self._times = memory.cast("d")

    def take(self, key_hash: str, rate: int, now: float) -> float:
        """Take one request of a key.

        Args:
            key_hash: SHA-256 of the key, in hexadecimal.
            rate: Requests per second, above 0.
            now: Monotonic time in seconds, the same in all processes.

        Returns:
            0 if the request is allowed, else the seconds until the next one is.
        """
        place = 2 * self._find(int(key_hash[:16], 16) or 1) + 1
        used_up = max(self._times[place], now)
        wait = used_up + 1 / rate - now - 1
        if wait > 1e-9:
            return wait
        self._times[place] = used_up + 1 / rate
        return 0.0

    def _find(self, tag: int) -> int:
        """Return the place of a key. The tag is compared each time: another process may have been faster to take it."""
        number = len(self._tags) // 2
        for probe in range(_MOST_PROBES):
            place = (tag + probe) % number
            found = self._tags[2 * place]
            if found == tag:
                return place
            if not found:
                self._tags[2 * place] = tag
                return place
        return tag % number  # shared with another key, after thousands of keys were replaced
