"""The uvicorn server that refuses politely until what it took is answered, and that sleeps while nothing happens."""

import asyncio
import time
from contextlib import suppress
from types import FrameType

import uvicorn

from edgedistill_serve.http.service import Service

_NOTICE = 1.0
"""Seconds for which a draining server still answers, with 503: whoever balances load must be able to notice."""
_LOOK = 1.0
"""Seconds between two looks at the clock, for the answers' Date; uvicorn looks ten times as often, all night."""
_LOOK_WHILE_DRAINING = 0.1


class DrainingServer(uvicorn.Server):
    """uvicorn closes its socket at the first signal; this one drains the service first.

    Args:
        config: uvicorn's.
        service: What is drained.
    """

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service
        self._draining_since: float | None = None
        self._woken = asyncio.Event()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002  # the parameters are uvicorn's
        """Begin to drain at the first signal; at the second, end."""
        if self._draining_since is None and self._service.state == "ready":
            self._draining_since = time.monotonic()
            self._service.drain()
        else:
            self.should_exit = True
        self._woken.set()

    def end(self) -> None:
        """End now; nothing is served yet."""
        self.should_exit = True
        self._woken.set()

    async def main_loop(self) -> None:
        """Look at the clock now and then, and at every signal."""
        tick = 0
        while not await self.on_tick(tick):
            tick += 10  # uvicorn writes the Date at every tenth
            if self._draining_since is not None:
                await asyncio.sleep(_LOOK_WHILE_DRAINING)
            else:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._woken.wait(), _LOOK)

    async def on_tick(self, counter: int) -> bool:
        """Say whether it is time to close."""
        noticed = self._draining_since is not None and time.monotonic() - self._draining_since >= _NOTICE
        if noticed and self._service.idle:
            self.should_exit = True
        return await super().on_tick(counter)
