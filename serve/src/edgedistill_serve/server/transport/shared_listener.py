"""A listening socket from which several processes accept connections, in equal shares.

The processes see in shared memory how many connections each of them has. A process that has more than another leaves a
new connection to that one, which is notified too, and takes it only if nobody has after a moment, as when the other
process is busy or stopped. A connection can stay open for hours, so that what it costs to place it does not matter, and
where it is placed does.
"""

import asyncio
import errno
import logging
import socket
import ssl
from collections.abc import Callable

from edgedistill_serve.server.shared_state import SharedState

_log = logging.getLogger("edgedistill_serve.server")
_LEFT_SECONDS = 0.005
"""Time for which a connection is left to a process with fewer connections."""
_FULL_SECONDS = 1.0
"""After an error such as too many open files, connections wait for this time, as in asyncio."""


class SharedListener:
    """Accepts connections in one of the processes.

    Args:
        listener: The listening socket, not blocking.
        factory: Returns the protocol of a new connection.
        tls: The TLS context; None for HTTP.
        state: The shared memory.
        process: Number of this process in it.
        connections: Returns the number of this process's connections.
    """

    def __init__(
        self,
        listener: socket.socket,
        factory: Callable[[], asyncio.BaseProtocol],
        tls: ssl.SSLContext | None,
        *,
        state: SharedState,
        process: int,
        connections: Callable[[], int],
    ) -> None:
        self._listener = listener
        self._factory = factory
        self._tls = tls
        self._state = state
        self._process = process
        self._connections = connections
        self._loop = asyncio.get_running_loop()
        self._pause: asyncio.TimerHandle | None = None
        self._opening: set[asyncio.Task[None]] = set()
        self._is_closed = False
        self.update()
        self._loop.add_reader(listener, self._on_connection)

    def update(self) -> None:
        """Publish the number of connections after a change."""
        if not self._is_closed:
            self._state.set_connections(self._process, self._connections() + len(self._opening))

    def close(self) -> None:
        """Accept no more connections; the other processes continue."""
        self._is_closed = True
        self._state.set_connections(self._process, None)
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self._listener)

    def _on_connection(self) -> None:
        if self._state.has_fewest(self._process):
            self._accept()
        else:
            self._pause_for(_LEFT_SECONDS, self._accept)

    def _pause_for(self, seconds: float, then: Callable[[], None]) -> None:
        def resume() -> None:
            self._loop.add_reader(self._listener, self._on_connection)
            then()

        self._loop.remove_reader(self._listener)
        self._pause = self._loop.call_later(seconds, resume)

    def _accept(self) -> None:
        """Accept one connection; the next one may be another process's."""
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):  # another process was faster
            return
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                raise
            _log.error("a connection cannot be accepted (%s)", error.strerror)
            self._pause_for(_FULL_SECONDS, lambda: None)
            return
        connection.setblocking(False)
        task = self._loop.create_task(self._open(connection))
        self._opening.add(task)
        self.update()

    async def _open(self, connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._factory, connection, ssl=self._tls)
        except (OSError, ssl.SSLError):  # the client has left, or does not speak TLS
            connection.close()
        finally:
            task = asyncio.current_task()
            assert task is not None  # noqa: S101  # coroutines run in tasks
            self._opening.discard(task)
            self.update()
