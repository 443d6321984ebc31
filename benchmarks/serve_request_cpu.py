"""CPU time per request, without the score, of several versions of the package.

    python benchmarks/serve_request_cpu.py BUNDLE this=serve/src other=/another/checkout/serve/src

Every version serves BUNDLE in a separate process and scores the same text repeatedly, so that the score comes from the
cache. The versions take turns. A round sends a number of requests to each of them over persistent connections, and
reads the user and system time of the process before and after. Other load on the machine changes these times less than
rates, and affects all versions of a round, so that ratios are computed within rounds.
"""

import argparse
import json
import os
import random
import selectors
import socket
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

TEXT = "You kept trying different strategies until the fractions had a common denominator."
START = "from edgedistill_serve.cli.main import main; main()"


class Server:
    """A server process with one version of the package."""

    def __init__(self, source: str, bundle: Path) -> None:
        command = [sys.executable, "-c", START, "serve", str(bundle), "--port", "0", "--json"]
        environment = {**os.environ, "PYTHONPATH": source}
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment, text=True
        )
        url = json.loads(self._process.stdout.readline())["url"]  # type: ignore[union-attr]  # stdout is a pipe
        self.place = ("127.0.0.1", int(url.rpartition(":")[2]))

    def cpu_seconds(self) -> float:
        """Return the user and system time of the process."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def end(self) -> None:
        """Stop the process."""
        self._process.terminate()
        self._process.wait()


def answer_size(place: tuple[str, int], request: bytes) -> int:
    """Send a request until the answer is a score, and return the size of the answer in bytes."""
    while True:
        with socket.create_connection(place) as connection:
            connection.sendall(request)
            answer = connection.recv(65536)
        if answer.startswith(b"HTTP/1.1 200"):
            return len(answer)
        time.sleep(0.1)


def measure(server: Server, path: str, requests: int, connections: int) -> float:
    """Return the CPU time per request in microseconds."""
    body = json.dumps({"response": TEXT}).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    answer_size(server.place, request)
    with ExitStack() as stack, selectors.DefaultSelector() as ready:
        for _ in range(connections):
            connection = stack.enter_context(socket.create_connection(server.place))
            ready.register(connection, selectors.EVENT_READ, connection)
        before = server.cpu_seconds()
        for key in list(ready.get_map().values()):
            key.data.sendall(request)
        answered, asked, partial = 0, connections, dict.fromkeys(ready.get_map(), b"")
        while answered < requests:
            for key, _ in ready.select():
                answer = partial[key.fd] + key.data.recv(65536)
                end = answer.find(b"\r\n\r\n")
                partial[key.fd] = b"" if end >= 0 and answer.endswith(b"}") else answer
                if partial[key.fd]:
                    continue
                if not answer.startswith(b"HTTP/1.1 200"):
                    sys.exit(answer.decode())
                answered += 1
                if asked < requests:
                    asked += 1
                    key.data.sendall(request)
        return 1e6 * (server.cpu_seconds() - before) / requests


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument(
        "versions", nargs="+", metavar="NAME=FOLDER", help="Folder that contains the package edgedistill_serve."
    )
    parser.add_argument("--path", default="/v1/score")
    parser.add_argument("--requests", type=int, default=10_000, help="Number of requests per version and round.")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--connections", type=int, default=64)
    given = parser.parse_args()
    names = [each.partition("=")[0] for each in given.versions]
    found: dict[str, list[float]] = {name: [] for name in names}
    with ExitStack() as stack:
        servers = {}
        for each in given.versions:
            name, _, source = each.partition("=")
            servers[name] = Server(source, given.bundle)
            stack.callback(servers[name].end)
            measure(servers[name], given.path, 2000, given.connections)
        for number in range(given.rounds):
            for name in random.Random(number).sample(names, len(names)):  # noqa: S311  # not used for security
                found[name].append(measure(servers[name], given.path, given.requests, given.connections))
    for name in names:
        ratios = [one / first for one, first in zip(found[name], found[names[0]], strict=True)]
        each = ", ".join(f"{one:.0f}" for one in found[name])
        print(f"{name}: {statistics.median(found[name]):.0f} us of CPU per request ({each}),", end=" ")
        print(f"{statistics.median(ratios):.3f} of {names[0]} ({min(ratios):.3f} to {max(ratios):.3f})")


if __name__ == "__main__":
    main()
