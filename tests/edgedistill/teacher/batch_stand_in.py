"""The stand-in with a Batch API: files, batches and a list of them, on the same socket."""

import json
import re
from collections.abc import Callable
from email.parser import BytesParser
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from .stand_in import Reply, Script, StandIn

BatchStatus = dict[str, Any]


class BatchStandIn(StandIn):
    """A teacher that also takes batches; a batch is done at its second look.

    Args:
        script: Answers each request, in a batch or not.
        lists: Whether batches can be listed.
        forgets: The first so many batches are accepted, and their acknowledgement is dropped.
        edit: Changes the output file's lines before they are fetched.
        ends: The status with which a batch ends; only a completed one has results.
    """

    def __init__(
        self,
        script: Script | Reply,
        *,
        lists: bool = True,
        forgets: int = 0,
        edit: Callable[[list[bytes]], list[bytes]] = lambda lines: lines,
        ends: str = "completed",
    ) -> None:
        super().__init__(script)
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, BatchStatus] = {}
        self._lists, self._forgets, self._edit, self._ends = lists, forgets, edit, ends
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                path = self.path.split("?")[0]
                if path == "/v1/files":
                    stand_in.upload(self)
                elif path == "/v1/batches":
                    stand_in.submit(self)
                else:
                    stand_in.serve(self)

            def do_GET(self) -> None:
                stand_in.look(self)

            def log_message(self, *_: object) -> None:
                pass

        self._server.RequestHandlerClass = Handler
        assert isinstance(self._server, ThreadingHTTPServer)

    @property
    def batched(self) -> list[dict[str, Any]]:
        """Every request of every accepted batch."""
        return [
            json.loads(line)
            for batch in self.batches.values()
            for line in self.files[batch["input_file_id"]].splitlines()
        ]

    def upload(self, request: BaseHTTPRequestHandler) -> None:
        """Store a file."""
        data = request.rfile.read(int(request.headers["content-length"]))
        head = b"content-type: " + request.headers["content-type"].encode() + b"\r\n\r\n"
        parts = BytesParser(policy=HTTP).parsebytes(head + data).iter_parts()
        payload = next(part.get_payload(decode=True) for part in parts if part.get_filename())
        assert isinstance(payload, bytes)
        _send(request, 200, self._keep(payload))

    def submit(self, request: BaseHTTPRequestHandler) -> None:
        """Accept a batch; drop the acknowledgement if configured."""
        body = json.loads(request.rfile.read(int(request.headers["content-length"])))
        name = f"batch_{len(self.batches) + 1}"
        self.batches[name] = {
            "id": name,
            "object": "batch",
            "endpoint": body["endpoint"],
            "input_file_id": body["input_file_id"],
            "completion_window": "24h",
            "metadata": body.get("metadata"),
            "status": "in_progress",
            "created_at": 1,
            "looks": 0,
        }
        if len(self.batches) <= self._forgets:
            request.close_connection = True
            return
        _send(request, 200, self.batches[name])

    def look(self, request: BaseHTTPRequestHandler) -> None:
        """Send a batch, the list of batches, or a file."""
        path = request.path.split("?")[0]
        if path == "/v1/batches" and self._lists:
            _send(request, 200, {"object": "list", "data": list(self.batches.values())[::-1], "has_more": False})
        elif (found := re.fullmatch(r"/v1/batches/(\w+)", path)) and found[1] in self.batches:
            batch = self.batches[found[1]]
            batch["looks"] += 1
            if batch["looks"] == 2:  # in progress at the first look
                self._run(batch)
            _send(request, 200, batch)
        elif (found := re.fullmatch(r"/v1/files/([\w-]+)/content", path)) and found[1] in self.files:
            _send(request, 200, self.files[found[1]])
        else:
            _send(request, 404, {"error": {"message": "not found", "code": None}})

    def _run(self, batch: BatchStatus) -> None:
        batch["status"] = self._ends
        if self._ends == "failed":
            batch["errors"] = {"object": "list", "data": [{"code": "token_limit_exceeded", "message": "too much"}]}
            return
        good, bad = [], []
        for line in self.files[batch["input_file_id"]].splitlines():
            asked = json.loads(line)
            reply = self._script(asked["body"], 0)
            response = {"status_code": reply.status, "request_id": "r", "body": json.loads(reply.body)}
            result = {"id": "b", "custom_id": asked["custom_id"], "response": response, "error": None}
            (good if reply.status == 200 else bad).append(json.dumps(result).encode())
        good = self._edit(good)
        batch["output_file_id"] = self._keep(b"\n".join(good))["id"]
        batch["error_file_id"] = self._keep(b"\n".join(bad))["id"] if bad else None
        batch["request_counts"] = {"total": len(good) + len(bad), "completed": len(good), "failed": len(bad)}

    def _keep(self, data: bytes) -> dict[str, Any]:
        name = f"file-{len(self.files) + 1}"
        self.files[name] = data
        return {"id": name, "object": "file", "bytes": len(data), "created_at": 1, "filename": "f", "purpose": "batch"}


def _send(request: BaseHTTPRequestHandler, status: int, body: dict[str, Any] | bytes) -> None:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request.send_response(status)
    request.send_header("content-type", "application/json")
    request.send_header("content-length", str(len(data)))
    request.end_headers()
    request.wfile.write(data)
