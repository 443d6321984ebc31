"""A small OpenAI-compatible teacher on a real socket: it answers as a test specifies and records every request."""

import json
import re
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


@dataclass(frozen=True)
class Reply:
    """The reply of the stand-in: a status and a body after a delay, or a dropped connection."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0
    drop: bool = False


def completion(content: str | None, *, finish: str = "stop", refusal: str | None = None, delay: float = 0.0) -> Reply:
    message = {"role": "assistant", "content": content, "refusal": refusal}
    body = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "stand-in",
        "choices": [{"index": 0, "finish_reason": finish, "message": message}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 5, "total_tokens": 105},
    }
    return Reply(body=json.dumps(body).encode(), delay=delay)


def coded(label: str, *, delay: float = 0.0) -> Reply:
    return completion(json.dumps({"label": label}), delay=delay)


def error(status: int, message: str = "no", code: str | None = None, headers: Mapping[str, str] | None = None) -> Reply:
    body = {"error": {"message": message, "type": "some_error", "param": None, "code": code}}
    return Reply(status, json.dumps(body).encode(), headers or {})


def text_of(body: Mapping[str, Any]) -> str:
    """The response to be coded in a request."""
    return re.findall(r"<response>(.*?)</response>", body["messages"][-1]["content"], re.DOTALL)[-1]


Script = Callable[[dict[str, Any], int], Reply]
"""Called with a request's body and how often the same request has come before."""


class StandIn:
    """A teacher for as long as the ``with`` block runs."""

    def __init__(self, script: Script | Reply, *, port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        self._script: Script = script if callable(script) else lambda _body, _before: script
        self._lock = threading.Lock()
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.times: list[float] = []
        self.asked: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.most_at_once = self._at_once = 0
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                stand_in.serve(self)

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, *_: object) -> None:
                pass  # a client that was killed

        self._server = Server(("127.0.0.1", port), Handler)
        self._scheme = "https" if tls else "http"
        if tls:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)

    @property
    def base_url(self) -> str:
        """The address for a project file."""
        return f"{self._scheme}://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def serve(self, request: BaseHTTPRequestHandler) -> None:
        """Answer one request with the script."""
        body = json.loads(request.rfile.read(int(request.headers["content-length"])))
        name = json.dumps(body, sort_keys=True)
        with self._lock:
            before = self.asked[name]
            self.asked[name] += 1
            self.bodies.append(body)
            self.headers.append({key.lower(): value for key, value in request.headers.items()})
            self.times.append(time.monotonic())
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        reply = self._script(body, before)
        time.sleep(reply.delay)
        with self._lock:
            self._at_once -= 1
            self.answered[name] += reply.status == 200 and not reply.drop
        if reply.drop:
            request.close_connection = True
            return
        request.send_response(reply.status)
        for key, value in {"content-length": str(len(reply.body)), **reply.headers}.items():
            request.send_header(key, value)
        request.end_headers()
        request.wfile.write(reply.body)
