"""Asks an HTTP server at a steady rate, or as fast as a number of clients can, and notes every answer's time.

An open loop: requests come at random moments of the stated mean rate, whether earlier ones were answered or not, and a
request's time runs from the moment it was due, so that a server that stalls is not spared (no coordinated omission).
"""

import asyncio
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field


@dataclass
class Found:
    """What came back.

    Attributes:
        seconds: Per answered request, from the moment it was due.
        errors: Requests that were not answered with 200.
        bodies: The answers' bodies in the order of the requests, where they were asked for.
    """

    seconds: list[float] = field(default_factory=list)
    errors: int = 0
    bodies: dict[int, bytes] = field(default_factory=dict)

    def milliseconds(self, share: float) -> float:
        """Return a quantile in milliseconds."""
        ordered = sorted(self.seconds)
        return 1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


class _Connection:
    def __init__(self, port: int, path: str) -> None:
        self._port = port
        self._head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: ".encode()
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, body: bytes) -> tuple[int, bytes]:
        """Return status and body; 0 where there was no answer.

        A kept connection that the server closed in the meantime is opened again once, as every HTTP client does.
        """
        kept = self._streams is not None
        try:
            return await self._exchange(body)
        except (OSError, EOFError, IndexError):
            self.close()
            return await self.ask(body) if kept else (0, b"")

    async def _exchange(self, body: bytes) -> tuple[int, bytes]:
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        writer.write(b"%b%d\r\n\r\n%b" % (self._head, len(body), body))
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
        content = await reader.readexactly(length)
        if b"connection: close" in head:
            self.close()
        return int(head.split(b" ", 2)[1]), content

    def close(self) -> None:
        """Close the connection."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def steadily(
    port: int,
    path: str,
    bodies: Iterator[bytes],
    *,
    rate: float,
    seconds: float,
    each: Callable[[], None] | None = None,
) -> Found:
    """Ask ``rate`` times a second in the mean, for ``seconds``.

    Args:
        port: Where the server listens.
        path: What is asked.
        bodies: What is sent.
        rate: Requests a second.
        seconds: How long.
        each: Called about every second.
    """
    found, free, tasks = Found(), [], set()
    draw = random.Random(1)  # noqa: S311  # arrival times are no secret

    async def one(body: bytes, due: float) -> None:
        connection = free.pop() if free else _Connection(port, path)
        status, _ = await connection.ask(body)
        found.seconds.append(time.perf_counter() - due)
        found.errors += status != 200
        free.append(connection)

    due = start = ticked = time.perf_counter()
    while due < start + seconds:
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        task = asyncio.create_task(one(next(bodies), due))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        due += draw.expovariate(rate)
        if each is not None and due - ticked > 1:
            ticked = due
            each()
    await asyncio.gather(*tasks)
    for connection in free:
        connection.close()
    return found


async def at_once(port: int, path: str, bodies: Sequence[bytes], *, clients: int) -> Found:
    """Ask everything once with so many clients, each waiting for its answer; the answers are kept."""
    found, waiting = Found(), iter(enumerate(bodies))

    async def client() -> None:
        connection = _Connection(port, path)
        for number, body in waiting:
            due = time.perf_counter()
            status, found.bodies[number] = await connection.ask(body)
            found.seconds.append(time.perf_counter() - due)
            found.errors += status != 200
        connection.close()

    await asyncio.gather(*(client() for _ in range(clients)))
    return found
