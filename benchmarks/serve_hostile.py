"""Cost of hostile input on a real server: processor time per MiB, memory, and the time of `/livez` meanwhile.

    python benchmarks/serve_hostile.py BUNDLE

Each input of `hostile_inputs.py` is sent over four connections at once, each of SIZE bytes, without a key. A request
for `/livez` follows every 20 ms over a connection of its own. Processor time and resident memory are read from /proc.
Only the costliest inputs of each group are printed, as a table in Markdown; --all prints all of them.
"""

import argparse
import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hostile_inputs import BODIES, BULK, ENDPOINTS, STREAMS, request

START = "from edgedistill_serve.cli.main import main; main()"
_TICKS = os.sysconf("SC_CLK_TCK")
_CONNECTIONS = 4
_PRINTED = 3
_QUIET_SECONDS = 1.5
"""An exchange has ended when the server closes the connection, or sends nothing for this time."""
_BODY_SECONDS = 1


@dataclass
class Cost:
    """The cost of one input."""

    group: str
    name: str
    sent: int
    cpu_seconds: float
    memory: int
    livez_seconds: float

    def row(self) -> str:
        """Return the row of the table."""
        mebibytes = max(self.sent, 1) / 2**20
        return (
            f"| {self.group} | {self.name} | {mebibytes:.1f} | {self.cpu_seconds / mebibytes:.2f} "
            f"| {max(0, self.memory) / 2**20:.0f} | {1000 * self.livez_seconds:.0f} |"
        )


class Server:
    """A server process."""

    def __init__(self, bundle: Path) -> None:
        command = [sys.executable, "-c", START, "serve", str(bundle), "--port", "0", "--json"]
        command += ["--body-seconds", str(_BODY_SECONDS)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        url = json.loads(self._process.stdout.readline())["url"]  # type: ignore[union-attr]  # stdout is a pipe
        self.place = ("127.0.0.1", int(url.rpartition(":")[2]))
        while self.get("/readyz") != 200:
            time.sleep(0.1)

    def get(self, path: str) -> int:
        """Return the status of a request."""
        connection = http.client.HTTPConnection(*self.place, timeout=60)
        connection.request("GET", path)
        with contextlib.closing(connection):
            return connection.getresponse().status

    def cpu_seconds(self) -> float:
        """Return the user and system time of the process."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def memory(self) -> int:
        """Return the resident memory in bytes."""
        return int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def end(self) -> None:
        """Stop the process."""
        self._process.terminate()
        self._process.wait()


def send(place: tuple[str, int], content: bytes, sent: list[int]) -> None:
    """Send bytes, read everything, and count the bytes that the server took."""
    with socket.create_connection(place) as connection, contextlib.suppress(OSError):
        connection.settimeout(_QUIET_SECONDS)

        def read() -> None:
            with contextlib.suppress(OSError):
                while connection.recv(65536):
                    pass

        reading = threading.Thread(target=read)
        reading.start()
        for start in range(0, len(content), 16_384):
            connection.sendall(content[start : start + 16_384])
            sent.append(len(content[start : start + 16_384]))
        reading.join()


def measure(server: Server, group: str, name: str, content: bytes) -> Cost:
    """Measure one input."""
    sent: list[int] = []
    longest, cpu, memory, most = 0.0, server.cpu_seconds(), server.memory(), 0
    senders = [threading.Thread(target=send, args=(server.place, content, sent)) for _ in range(_CONNECTIONS)]
    for sender in senders:
        sender.start()
    while any(sender.is_alive() for sender in senders):
        started = time.perf_counter()
        server.get("/livez")
        longest = max(longest, time.perf_counter() - started)
        most = max(most, server.memory() - memory)
        time.sleep(0.02)
    return Cost(group, name, sum(sent), server.cpu_seconds() - cpu, most, longest)


def inputs(size: int) -> Iterator[tuple[str, str, bytes]]:
    """Yield the group, the name and the bytes of each input."""
    for path in ENDPOINTS[:4]:
        for name, body in BODIES.items():
            content = body(path, size)
            if content is not None:
                yield path, name, _last(request(path.replace("praise", "MODEL"), content))
    for name, lines in BULK.items():
        yield "/v1/score/bulk", name, _last(request("/v1/score/bulk", lines(size // 8)))
    for name, stream in STREAMS.items():
        yield "connection", name, stream(size)


def _last(content: bytes) -> bytes:
    return content.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--size", type=int, default=200_000, help="Bytes of each input.")
    parser.add_argument("--all", action="store_true", help="Print every input.")
    given = parser.parse_args()
    name = json.loads((given.bundle / "bundle.json").read_text())["name"].encode()
    server = Server(given.bundle)
    groups: dict[str, list[Cost]] = {}
    try:
        for group, title, content in inputs(given.size):
            cost = measure(server, group, title, content.replace(b"/v2/models/MODEL", b"/v2/models/" + name, 1))
            groups.setdefault(group, []).append(cost)
            sys.stderr.write(f"{cost.row()}\n")
    finally:
        server.end()
    print("| endpoint | input | MiB taken | CPU s per MiB | memory, MiB more | longest /livez, ms |")
    print("|---|---|---|---|---|---|")
    for costs in groups.values():
        ordered = sorted(costs, key=lambda each: -each.cpu_seconds / max(each.sent, 1))
        for each in ordered if given.all else ordered[:_PRINTED]:
            print(each.row())
    every = [cost for costs in groups.values() for cost in costs]
    slowest = max(every, key=lambda cost: cost.livez_seconds)
    place = f"{slowest.group}, {slowest.name}"
    print(f"\n{len(every)} inputs; longest /livez: {1000 * slowest.livez_seconds:.0f} ms ({place})")


if __name__ == "__main__":
    main()
