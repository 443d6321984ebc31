"""Load generators for an HTTP server: at a constant mean rate, or as fast as a number of clients allows.

The constant rate is an open loop: requests are sent at random times, independent of earlier answers, and the time of a
request starts when it is due. The results therefore include stalls of the server (no coordinated omission).
"""

import asyncio
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field


@dataclass
class LoadResult:
    """Times and errors of the requests.

    Attributes:
        seconds: Time of each request, from the moment it was due.
        errors: Number of requests that were not answered with 200.
        bodies: Bodies of the answers by the index of their request, if they are kept.
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
        self._head = (
            f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: ".encode()
        )
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def send(self, body: bytes) -> tuple[int, bytes]:
        """Send a request, and return status and body; status 0 without an answer.

        A persistent connection that the server has closed is opened again once, as in every HTTP client.
        """
        kept = self._streams is not None
        try:
            return await self._exchange(body)
        except (OSError, EOFError, IndexError):
            self.close()
            return await self.send(body) if kept else (0, b"")

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


async def send_at_rate(
    port: int,
    path: str,
    bodies: Iterator[bytes],
    *,
    rate: float,
    seconds: float,
    each: Callable[[], None] | None = None,
) -> LoadResult:
    """Send requests at a constant mean rate.

    Args:
        port: Port of the server.
        path: Path of the requests.
        bodies: Bodies of the requests.
        rate: Requests per second.
        seconds: Duration.
        each: Called about every second.
    """
    result, free, tasks = LoadResult(), [], set()
    rng = random.Random(1)  # noqa: S311  # not used for security

    async def one(body: bytes, due: float) -> None:
        connection = free.pop() if free else _Connection(port, path)
        status, _ = await connection.send(body)
        result.seconds.append(time.perf_counter() - due)
        result.errors += status != 200
        free.append(connection)

    due = start = ticked = time.perf_counter()
    while due < start + seconds:
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        task = asyncio.create_task(one(next(bodies), due))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        due += rng.expovariate(rate)
        if each is not None and due - ticked > 1:
            ticked = due
            each()
    await asyncio.gather(*tasks)
    for connection in free:
        connection.close()
    return result


async def send_all(port: int, path: str, bodies: Sequence[bytes], *, clients: int) -> LoadResult:
    """Send every body once, over a number of clients that wait for each answer; the answers are kept."""
    result, remaining = LoadResult(), iter(enumerate(bodies))

    async def client() -> None:
        connection = _Connection(port, path)
        for number, body in remaining:
            due = time.perf_counter()
            status, result.bodies[number] = await connection.send(body)
            result.seconds.append(time.perf_counter() - due)
            result.errors += status != 200
        connection.close()

    await asyncio.gather(*(client() for _ in range(clients)))
    return result
