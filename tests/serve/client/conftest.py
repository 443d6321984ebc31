"""A fake server on a real socket, and both clients with one interface."""

import asyncio
import json
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any

import pytest

from edgedistill_serve.client import AsyncClient, Client, Result, Retries

SCORE = {
    "label": "process",
    "probability": 0.75,
    "probabilities": {"process": 0.75, "outcome": 0.25},
    "decision": "accept",
    "reason": None,
    "truncated": False,
    "tokens": 3,
}
ONE = {"model": "praise", "version": "0123456789ab", **SCORE}
PROBLEM = "application/problem+json"


class Answer:
    """What the stand-in says to one request."""

    def __init__(self, status: int = 200, content: Any = ONE, *, cut: bool = False, **headers: str) -> None:
        self.status = status
        self.body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}
        self.cut = cut


class StandIn:
    """Answers requests from a script in order, the last answer over and over; None hangs up, "hang" is mute."""

    def __init__(self) -> None:
        self.script: list[Answer | str | None] = [Answer()]
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.ended = Event()
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                stand_in.requests.append((self.path, dict(self.headers), body))
                answer = stand_in.script.pop(0) if len(stand_in.script) > 1 else stand_in.script[0]
                if answer is None or answer == "hang":
                    self.close_connection = True
                    if answer == "hang":
                        stand_in.ended.wait(30)
                    return
                self.send_response(answer.status)
                for name, value in {"Content-Type": "application/json", **answer.headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer.body) + (100 if answer.cut else 0)))
                self.end_headers()
                self.wfile.write(answer.body)
                self.close_connection = answer.cut

            do_GET = do_POST  # noqa: N815  # the name is http.server's

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    @property
    def paths(self) -> list[str]:
        """Where the requests went."""
        return [path for path, _, _ in self.requests]

    def close(self) -> None:
        """Stop listening."""
        self.ended.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def server() -> Iterator[StandIn]:
    server = StandIn()
    yield server
    server.close()


class Awaited:
    """An `AsyncClient` whose methods are waited for, so that one test can speak to both clients."""

    def __init__(self, *arguments: Any, sleep: Callable[[float], None], **named: Any) -> None:
        async def sleeping(seconds: float) -> None:
            sleep(seconds)

        self._runner = asyncio.Runner()
        self._client = AsyncClient(*arguments, sleep=sleeping, **named)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda *given: self._runner.run(getattr(self._client, name)(*given))

    def score_stream(self, responses: Any) -> Iterator[Result]:
        """Score a stream."""
        stream = self._client.score_stream(responses)
        while True:
            try:
                yield self._runner.run(anext(stream))
            except StopAsyncIteration:
                return

    def close(self) -> None:
        """Close the connections and the loop."""
        self._runner.run(self._client.close())
        self._runner.close()


@pytest.fixture
def waits() -> list[float]:
    """The seconds that a client sat out."""
    return []


@pytest.fixture(params=[Client, Awaited], ids=["sync", "async"])
def connect(request, server, waits) -> Iterator[Callable[..., Any]]:
    """Make a client of the stand-in, or of another address; it notes its waits instead of sitting them out."""
    clients = []

    def connect(url: str | None = None, **named: Any) -> Any:
        named.setdefault("retries", Retries(draw=lambda: 0.0))
        clients.append(request.param(server.url if url is None else url, sleep=waits.append, **named))
        return clients[-1]

    yield connect
    for client in clients:
        client.close()
