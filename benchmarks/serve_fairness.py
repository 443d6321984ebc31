"""How evenly connections spread over two processes that serve one address.

    python benchmarks/serve_fairness.py [--rounds 20] [--out docs/results/serve_fairness.json]

Clients keep their connections, as HTTP clients, proxies and load balancers do, so that a process with twice the
connections has twice the work for hours. Three ways are compared:

    reuseport   each process has a socket of its own (SO_REUSEPORT); the kernel chooses by a hash of the addresses
    shared      both accept from one socket, as asyncio does: whoever is notified first takes all that wait
    counted     both accept from one socket, one connection at a time, and leave it to the process that has fewer

Connections are opened one after another (as clients come), or at once (as a load balancer starts), while the processes
are idle or already work for 8 connections. Each answer takes 150 µs of processor time. The result is the share of the
busier process: half is perfect.
"""

import argparse
import asyncio
import itertools
import json
import multiprocessing
import os
import socket
import statistics
import time
from pathlib import Path
from typing import Any

from edgedistill_serve.server.shared_state import SharedState
from edgedistill_serve.server.transport.shared_listener import SharedListener

WAYS = ("reuseport", "shared", "counted")
COST = 150e-6
CONNECTIONS = (2, 4, 8, 16, 64)
PROCESSES = 2


class Answering(asyncio.Protocol):
    """Answers each byte after some processor time, with the number of the process."""

    count = 0
    listener: SharedListener | None = None
    process = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count the connection."""
        self.transport = transport
        type(self).count += 1
        if self.listener is not None:
            self.listener.update()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # asyncio's interface
        """Discount it."""
        type(self).count -= 1
        if self.listener is not None:
            self.listener.update()

    def data_received(self, data: bytes) -> None:  # noqa: ARG002  # asyncio's interface
        """Answer."""
        until = time.thread_time() + COST
        while time.thread_time() < until:
            pass
        self.transport.write(b"%d" % self.process)  # type: ignore[attr-defined]  # a stream


def listen(port: int, *, reuse: bool) -> socket.socket:
    """Return a listening socket."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if reuse:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(2048)
    listener.setblocking(False)
    return listener


def serve(way: str, listener: socket.socket, number: int, descriptor: int) -> None:
    """Serve in one process until it is terminated."""

    async def run() -> None:
        Answering.process = number
        if way == "counted":
            state = SharedState(descriptor)
            Answering.listener = SharedListener(
                listener, Answering, None, state=state, process=number, connections=lambda: Answering.count
            )
        else:
            await asyncio.get_running_loop().create_server(Answering, sock=listener, backlog=2048)
        await asyncio.Event().wait()

    asyncio.run(run())


async def ask(streams: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> int:
    """Send a byte, and return the process that answers."""
    streams[1].write(b"x")
    return int(await streams[0].read(1))


async def measure(port: int, connections: int, *, at_once: bool, busy: bool) -> float:
    """Return the share of the busier process."""
    others = [await asyncio.open_connection("127.0.0.1", port) for _ in range(8 if busy else 0)]

    async def work(streams: Any) -> None:
        while True:
            await ask(streams)

    working = [asyncio.create_task(work(each)) for each in others]
    await asyncio.sleep(0.05 if busy else 0)
    if at_once:
        streams = await asyncio.gather(*(asyncio.open_connection("127.0.0.1", port) for _ in range(connections)))
    else:
        streams = []
        for _ in range(connections):
            streams.append(await asyncio.open_connection("127.0.0.1", port))
            await ask(streams[-1])
    answered = [await ask(each) for each in streams]
    for task in working:
        task.cancel()
    for each in (*streams, *others):
        each[1].close()
    await asyncio.sleep(0.05)
    return max(answered.count(number) for number in range(PROCESSES)) / connections


def measure_way(way: str, rounds: int) -> dict[str, dict[str, float]]:
    """Return the share of the busier process in each situation."""
    fork = multiprocessing.get_context("fork")
    first = listen(0, reuse=way == "reuseport")
    port = first.getsockname()[1]
    listeners = [first, listen(port, reuse=True) if way == "reuseport" else first]
    descriptor = SharedState.create(PROCESSES)
    processes = [
        fork.Process(target=serve, args=(way, listener, number, descriptor), daemon=True)
        for number, listener in enumerate(listeners)
    ]
    for process in processes:
        process.start()
    for listener in listeners:
        listener.close()
    time.sleep(0.3)
    results = {}
    for busy, at_once, connections in itertools.product((False, True), (False, True), CONNECTIONS):
        shares = [asyncio.run(measure(port, connections, at_once=at_once, busy=busy)) for _ in range(rounds)]
        name = f"{'at once' if at_once else 'one by one'}, {'busy' if busy else 'idle'}, {connections}"
        results[name] = {"median": statistics.median(shares), "largest": max(shares)}
    for process in processes:
        process.terminate()
    return results


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    results: dict[str, Any] = {"cores": os.cpu_count(), "rounds": given.rounds, "load": os.getloadavg()[0]}
    for way in WAYS:
        for name, found in measure_way(way, given.rounds).items():
            results.setdefault(name, {})[way] = found
    for name, ways in results.items():
        if isinstance(ways, dict):
            print(f"{name:28}", *(f"{way} {each['median']:.2f} ({each['largest']:.2f})" for way, each in ways.items()))
    if given.out:
        given.out.write_text(json.dumps(results, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
