"""A real server process on a real socket."""

import json
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import msgspec
import pytest

from edgedistill_serve.bundle.reference import REFERENCE_FILE, REFERENCE_VERSION, Reference, reference_cell
from edgedistill_serve.bundle.response_counts import ResponseCounts

from ...processes import PROGRAMS, Process

COMMAND = str(PROGRAMS / "edgedistill-serve")


class Server:
    """`edgedistill-serve serve` on a free port, ready.

    Args:
        folder: Where its log goes.
        arguments: Of the command.
        before: What starts the command, where it is not started by itself.
        settings: Of the process, as `subprocess.Popen` takes them. With any, even `cwd=None`, it is no fork.
    """

    def __init__(self, folder: Path, *arguments: str, before: tuple[str, ...] = (COMMAND,), **settings) -> None:
        self.log = folder / "server.log"
        command = [*before, "serve", "--port", "0", *arguments]
        with self.log.open("wb") as log:
            self.process = (
                subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, **settings)
                if settings or before != (COMMAND,)
                else Process(*command, like="edgedistill-serve", complaints=log)
            )
        line = self.process.stdout.readline()
        assert "://" in line, self.log.read_text()
        self.url = json.loads(line)["url"] if "--json" in arguments else line.split()[-1]
        self.client = self.new_client()
        until = time.monotonic() + 60
        while self.client.get("/readyz").status_code != 200:
            assert time.monotonic() < until, self.log.read_text()
            time.sleep(0.05)

    def new_client(self, **settings) -> httpx.Client:
        """Return a client with connections of its own."""
        scheme, _, place = self.url.partition("://")
        if scheme.endswith("+unix"):
            transport = httpx.HTTPTransport(uds=place, retries=0)
            return httpx.Client(base_url="http://server", transport=transport, timeout=60, **settings)
        verify = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # which reads no certificates: they take 20 ms
        verify.check_hostname, verify.verify_mode = False, ssl.CERT_NONE
        return httpx.Client(base_url=self.url, timeout=60, verify=verify, **settings)

    def connect(self) -> socket.socket:
        """Return a connection of its own, for bytes that no client would send."""
        host, _, port = self.url.rpartition("/")[2].partition(":")
        return socket.create_connection((host, int(port)), timeout=30)

    def metric(self, line: str) -> float:
        """Return the value of a line of `/metrics`, 0 where there is no such line."""
        text = self.client.get("/metrics").text
        return next((float(each.split()[-1]) for each in text.splitlines() if each.startswith(line)), 0.0)

    def score_patiently(self, text: str) -> httpx.Response:
        """Ask again as long as the queue is full."""
        with self.new_client() as client:
            while (answer := client.post("/v1/score", json={"response": text})).status_code == 429:
                pass
            return answer

    def stop(self) -> None:
        """End the process, where it has not ended yet."""
        self.client.close()
        # The second signal ends the time in which a draining server still answers.
        self.process.send_signal(signal.SIGINT)
        self.process.terminate()
        self.process.wait(60)
        self.process.stdout.close()


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    @contextmanager
    def start(*arguments: str, **settings) -> Iterator[Server]:
        server = Server(tmp_path_factory.mktemp("server"), *arguments, **settings)
        try:
            yield server
        finally:
            server.stop()

    return start


@pytest.fixture(scope="module")
def with_reference(make_novelty_bundle, tmp_path_factory):
    """A bundle that measures novelty and has counts of its validation rows, of which a fifth was reviewed."""
    counts = ResponseCounts()
    for place in range(40):
        reason = None if place % 5 else "below threshold"
        counts.count("process" if place % 4 else "outcome", 0.75, reason, 8, 1.5)
    reference = Reference(REFERENCE_VERSION, "fp32", 1.0, reference_cell("", counts))
    content = json.dumps(msgspec.to_builtins(reference)).encode()
    folder = tmp_path_factory.mktemp("reference") / "praise"
    return make_novelty_bundle(folder, max_novelty=None, **{REFERENCE_FILE: content})
