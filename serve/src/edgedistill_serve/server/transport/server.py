"""The server that refuses politely until what it took is answered, and that sleeps while nothing happens."""

import asyncio
import signal
import socket
import ssl
from contextlib import suppress
from functools import partial

from edgedistill_serve.server.service import Service
from edgedistill_serve.server.transport.http11 import Connection, Connections

_NOTICE = 1.0
"""Seconds for which a draining server still answers, with 503: whoever balances load must be able to notice."""
_LOOK = 0.1
"""Seconds between two looks at whether everything is answered."""
_PATIENCE = 30.0
"""Seconds after which a draining server leaves clients that do not finish sending."""


class DrainingServer:
    """Accepts connections until a signal comes, then drains the service first.

    Args:
        connections: Those that it accepts.
        service: What is drained.
    """

    def __init__(self, connections: Connections, service: Service) -> None:
        self._connections = connections
        self._service = service
        self._ended = asyncio.Event()
        self._draining: asyncio.Task[None] | None = None

    async def serve(self, listener: socket.socket, tls: ssl.SSLContext | None, *, backlog: int) -> None:
        """Serve until the end.

        Args:
            listener: Where clients connect.
            tls: What HTTPS needs, None for HTTP.
            backlog: How many may wait to be accepted.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop)
        accepting = await loop.create_server(
            partial(Connection, self._connections), sock=listener, ssl=tls, backlog=backlog
        )
        await self._ended.wait()
        accepting.close()
        self._connections.finish()
        with suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE):
                while self._connections.open or self._connections.running:  # noqa: ASYNC110  # nobody tells
                    await asyncio.sleep(_LOOK)

    def end(self) -> None:
        """End now; nothing is served yet."""
        self._ended.set()

    def _stop(self) -> None:
        """Begin to drain at the first signal; at the second, end."""
        if self._service.state == "ready":
            self._service.drain()
            self._draining = asyncio.get_running_loop().create_task(self._drain())
        else:
            self.end()

    async def _drain(self) -> None:
        await asyncio.sleep(_NOTICE)
        while not self._service.idle:  # noqa: ASYNC110  # the scoring threads end it
            await asyncio.sleep(_LOOK)
        self.end()
