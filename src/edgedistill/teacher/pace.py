"""How many requests may be in flight: fewer when the endpoint says that it has enough, more when it does not.

The first request goes alone, so that a wrong key, model or parameter costs one request. Once the endpoint has answered,
the limit moves between 1 and the project's ``concurrency``: one more after as many answers as it allows, half after a
refusal (additive increase, multiplicative decrease), at most once for the requests that were in flight together.
Refusals are HTTP 429, 503 and 529. A lone refusal makes only its own request wait; a second one with no answer in
between makes every request wait as long as its Retry-After says. Where the headers say how much room is left, no more
requests are sent than that until it is due to be refilled.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace

from edgedistill.teacher.limits import Room

_LONGEST = 600.0  # seconds; no header makes a run stand still for longer
_SMOOTHING = 0.1  # weight of the newest request in the mean of tokens


class Pace:
    """The limit of one run and the requests in flight.

    Args:
        most: The project's concurrency.
        clock: Tells seconds.
    """

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.limit = 1.0
        self.in_flight = 0
        self._most, self._clock = most, clock
        self._not_before = self._cut_at = 0.0
        self._left: int | None = None
        self._left_until = 0.0
        self._heard = False
        self._refused = 0
        self._tokens = 0.0
        self._changed = asyncio.Event()

    async def enter(self) -> float:
        """Wait until a request may be sent, and count it as in flight; return the time at which it was let through."""
        while (wait := self._wait()) is not None:
            changed = self._changed
            try:
                await asyncio.wait_for(changed.wait(), wait)
            except TimeoutError:
                continue
        self.in_flight += 1
        if self._left is not None:
            self._left -= 1
        return self._clock()

    def leave(self) -> None:
        """Count a request as no longer in flight."""
        self.in_flight -= 1
        self._tell()

    def heard(self) -> None:
        """Learn that the endpoint knows what it is asked, whether it answered or refused one text."""
        if not self._heard:
            self._heard, self.limit = True, float(self._most)

    def answered(self, room: Room | None, tokens: int) -> None:
        """Learn from an answer.

        Args:
            room: What its headers say.
            tokens: What it used.
        """
        self.heard()
        self._refused = 0
        self.limit = min(float(self._most), self.limit + 1 / self.limit)
        self._tokens += (_SMOOTHING if self._tokens else 1.0) * (tokens - self._tokens)
        self._heed(room)

    def refused(self, sent: float, wait: float | None) -> None:
        """Learn from a refusal.

        Args:
            sent: When the request was let through.
            wait: Seconds that the endpoint asks to wait, or None.
        """
        self._refused += 1
        now = self._clock()
        if sent >= self._cut_at:
            self.limit, self._cut_at = max(1.0, self.limit / 2), now
        if wait and self._refused > 1:
            self._not_before = max(self._not_before, now + min(wait, _LONGEST))

    def _heed(self, room: Room | None) -> None:
        if room is None:
            return
        lefts = [] if room.requests is None else [room.requests]
        if room.tokens is not None and self._tokens:
            lefts.append(replace(room.tokens, count=int(room.tokens.count / self._tokens)))
        if lefts:
            least = min(lefts, key=lambda left: (left.count, -left.seconds))
            self._left = least.count - self.in_flight  # the endpoint may not have counted what is in flight
            self._left_until = self._clock() + min(least.seconds, _LONGEST)

    def _wait(self) -> float | None:
        """Return None where a request may be sent now, else after how many seconds to look again."""
        now = self._clock()
        if now < self._not_before:
            return self._not_before - now
        if self._left is not None and now >= self._left_until:
            self._left = None
        if self._left is not None and self._left <= 0:
            return self._left_until - now
        return None if self.in_flight < int(self.limit) else _LONGEST

    def _tell(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
