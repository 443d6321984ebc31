"""A real server process on a real socket."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest


class Server:
    """`edgedistill-serve serve` on a free port, ready."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.log = folder / "server.log"
        command = [str(Path(sys.executable).parent / "edgedistill-serve"), "serve", "--port", "0", *arguments]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        line = self.process.stdout.readline()
        assert "http://127.0.0.1:" in line, self.log.read_text()
        self.url = json.loads(line)["url"] if "--json" in arguments else line.split()[-1]
        self.client = httpx.Client(base_url=self.url, timeout=60)
        until = time.monotonic() + 60
        while self.client.get("/readyz").status_code != 200:
            assert time.monotonic() < until, self.log.read_text()
            time.sleep(0.05)

    def score_patiently(self, text: str) -> httpx.Response:
        """Ask again as long as the queue is full."""
        with httpx.Client(base_url=self.url, timeout=60) as client:
            while (answer := client.post("/v1/score", json={"response": text})).status_code == 429:
                pass
            return answer

    def stop(self) -> None:
        """End the process, where it has not ended yet."""
        self.client.close()
        self.process.terminate()
        self.process.wait(60)
        self.process.stdout.close()


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    @contextmanager
    def start(*arguments: str) -> Iterator[Server]:
        server = Server(tmp_path_factory.mktemp("server"), *arguments)
        try:
            yield server
        finally:
            server.stop()

    return start
