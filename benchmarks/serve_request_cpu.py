"""What a request costs the server beside its score: processor time per request, of several versions of the package.

    python benchmarks/serve_request_cpu.py BUNDLE this=serve/src other=/another/checkout/serve/src

Every version serves BUNDLE in a process of its own and is asked for the same text again and again, so that its score
comes from the memory of recent scores and costs nothing. The versions take turns; a round asks each of them so many
times, over so many kept connections, and reads the user and system time of its process before and after. Others who
use the machine change these times less than they change rates, and the versions of one round alike, so that ratios are
taken within rounds.
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
    """One version of the package, serving."""

    def __init__(self, source: str, bundle: Path) -> None:
        command = [sys.executable, "-c", START, "serve", str(bundle), "--port", "0", "--json"]
        environment = {**os.environ, "PYTHONPATH": source}
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment, text=True
        )
        url = json.loads(self._process.stdout.readline())["url"]  # type: ignore[union-attr]  # stdout is a pipe
        self.place = ("127.0.0.1", int(url.rpartition(":")[2]))

    def cpu_seconds(self) -> float:
        """Return the user and system time that it has used."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def end(self) -> None:
        """Stop it."""
        self._process.terminate()
        self._process.wait()


def answer_size(place: tuple[str, int], request: bytes) -> int:
    """Ask until the answer is a score, and return how many bytes it has."""
    while True:
        with socket.create_connection(place) as connection:
            connection.sendall(request)
            answer = connection.recv(65536)
        if answer.startswith(b"HTTP/1.1 200"):
            return len(answer)
        time.sleep(0.1)


def ask(server: Server, path: str, requests: int, connections: int) -> float:
    """Return the processor time of a request in microseconds."""
    body = json.dumps({"response": TEXT}).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    request = head.encode() + body
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
    parser.add_argument("versions", nargs="+", metavar="NAME=FOLDER", help="Where the package edgedistill_serve lies.")
    parser.add_argument("--path", default="/v1/score")
    parser.add_argument("--requests", type=int, default=10_000, help="Of each version in each round.")
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
            ask(servers[name], given.path, 2000, given.connections)
        for number in range(given.rounds):
            for name in random.Random(number).sample(names, len(names)):  # noqa: S311  # an order, not a secret
                found[name].append(ask(servers[name], given.path, given.requests, given.connections))
    for name in names:
        ratios = [one / first for one, first in zip(found[name], found[names[0]], strict=True)]
        each = ", ".join(f"{one:.0f}" for one in found[name])
        print(f"{name}: {statistics.median(found[name]):.0f} us of CPU a request ({each}),", end=" ")
        print(f"{statistics.median(ratios):.3f} of {names[0]} ({min(ratios):.3f} to {max(ratios):.3f})")


if __name__ == "__main__":
    main()
