"""Comparison of web frameworks and servers: requests per second of one endpoint in every combination.

    python benchmarks/serve_http_stack.py BUNDLE --out results.json

Every combination answers a `POST` with one response: parse JSON, score on one of two threads, write JSON. First the
score is a constant, so that only the stack is measured; then BUNDLE scores. `wrk` sends requests over 64 connections
and shares the cores with the server. The combinations take turns in several rounds; the figures are medians of requests
per second and of the CPU time of the server per request, which depends less on other load on the machine.

Requires wrk and, in addition to edgedistill-serve[cpu]: uvicorn, httptools, uvloop, granian, starlette, litestar.
"""

import argparse
import asyncio
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec

from edgedistill_serve import Bundle, Score, Scorer

FRAMEWORKS = ("bare", "starlette", "litestar")
SERVERS = ("uvicorn h11", "uvicorn httptools", "uvicorn httptools uvloop", "granian")
FIRST = "starlette, uvicorn h11"
WITH_MODEL = (FIRST, "starlette, uvicorn httptools", "bare, uvicorn httptools", "starlette, granian")
RESPONSE = {"response": "You kept trying different strategies until the fractions had a common denominator."}
CONSTANT = Score("process", 0.7, {"process": 0.7, "outcome": 0.2, "no_praise": 0.1}, "accept", None, False, 14)
SCRIPT = """\
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = [[{body}]]
"""
THREADS = 2

Answer = Callable[[bytes], Awaitable[bytes]]


def answering(bundle: str) -> Answer:
    """Return the function that every combination calls with a body."""
    pool = ThreadPoolExecutor(THREADS)
    scorer = Scorer(Bundle.load(bundle), threads=1) if bundle else None

    def score(given: dict[str, Any]) -> Score:
        return scorer.score_one(given) if scorer else CONSTANT

    async def answer(body: bytes) -> bytes:
        given = msgspec.json.decode(body)
        return msgspec.json.encode(await asyncio.get_running_loop().run_in_executor(pool, score, given))

    return answer


def bare(answer: Answer) -> Any:
    """An ASGI application without a framework: a dictionary of paths."""

    async def score(receive: Any, send: Any) -> None:
        body = bytearray()
        more = True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        content = await answer(bytes(body))
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    routes = {("POST", "/score"): score}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await routes[scope["method"], scope["path"]](receive, send)

    return app


def starlette(answer: Answer) -> Any:
    """The same application with Starlette."""
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    async def score(request: Request) -> Response:
        return Response(await answer(await request.body()), media_type="application/json")

    return Starlette(routes=[Route("/score", score, methods=["POST"])])


def litestar(answer: Answer) -> Any:
    """The same application with Litestar."""
    from litestar import Litestar, MediaType, Request, post

    @post("/score", media_type=MediaType.JSON, status_code=200)
    async def score(request: Request) -> bytes:
        return await answer(await request.body())

    return Litestar([score], openapi_config=None)


def serve(pairing: str, bundle: str, port: int) -> None:
    """Serve one combination until the process ends."""
    framework, server = pairing.split(", ")
    if server == "granian":
        from granian import Granian
        from granian.constants import Interfaces

        os.environ["STACK"] = json.dumps([framework, bundle])
        Granian(
            f"{__file__}:granian_app", port=port, interface=Interfaces.ASGI, factory=True, log_enabled=False
        ).serve()
        return
    import uvicorn

    app = globals()[framework](answering(bundle))
    loop = "uvloop" if server.endswith("uvloop") else "asyncio"
    uvicorn.run(app, port=port, http=server.split()[1], loop=loop, ws="none", log_config=None, access_log=False)


def granian_app() -> Any:
    """Create the application in the worker process of granian."""
    framework, bundle = json.loads(os.environ["STACK"])
    return globals()[framework](answering(bundle))


def measure(pairing: str, bundle: str, seconds: int, connections: int) -> dict[str, float]:
    """Start a combination, measure it with wrk, and end it."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen([sys.executable, __file__, bundle or "-", "--serve", pairing, "--port", str(port)])
    try:
        wait_for(port)
        with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
            script.write(SCRIPT.format(body=json.dumps(RESPONSE)))
            script.flush()
            command = ["wrk", "-t1", f"-c{connections}", "--latency", "-s", script.name]
            address = f"http://127.0.0.1:{port}/score"
            subprocess.run([*command, "-d1", address], capture_output=True, check=True)
            before = cpu_seconds(process.pid)
            found = subprocess.run([*command, f"-d{seconds}", address], capture_output=True, text=True, check=True)
            cpu = cpu_seconds(process.pid) - before
    finally:
        process.terminate()
        process.wait(30)
    if "Non-2xx" in found.stdout:
        raise RuntimeError(found.stdout)
    (rate,) = re.findall(r"Requests/sec:\s+([\d.]+)", found.stdout)
    (requests,) = re.findall(r"(\d+) requests in", found.stdout)
    return {"requests_per_s": float(rate), "cpu_us": 1e6 * cpu / int(requests)}


def cpu_seconds(process: int) -> float:
    """Return the CPU time of a process and of its children."""
    folder = Path(f"/proc/{process}")
    fields = (folder / "stat").read_text().rpartition(")")[2].split()
    children = (folder / f"task/{process}/children").read_text().split()
    ticks = int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK") + sum(cpu_seconds(int(child)) for child in children)


def wait_for(port: int) -> None:
    """Wait until the port accepts connections."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise RuntimeError("the server did not start")


def compare(bundle: str, pairings: list[str], options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Measure combinations in turns, and print their ratios to the first one; more is better."""
    found: dict[str, list[dict[str, float]]] = {pairing: [] for pairing in pairings}
    for _ in range(options.rounds):
        for pairing in pairings:
            found[pairing].append(measure(pairing, bundle, options.seconds, options.connections))
    middle = {
        pairing: {name: statistics.median(row[name] for row in rows) for name in rows[0]}
        for pairing, rows in found.items()
    }
    first = middle[FIRST]
    for row in middle.values():
        row["rate_ratio"] = row["requests_per_s"] / first["requests_per_s"]
        row["cpu_ratio"] = first["cpu_us"] / row["cpu_us"]
    print(f"\n{'bundle' if bundle else 'constant'}: requests/s, ratio; microseconds of CPU a request, ratio")
    for pairing, row in middle.items():
        rate, cpu, rate_ratio, cpu_ratio = row.values()
        print(f"  {pairing:38} {rate:9.1f} {rate_ratio:5.2f}   {cpu:8.1f} {cpu_ratio:5.2f}", flush=True)
    return middle


def main() -> None:
    """Run the benchmark, or a server for it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle")
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve, "" if options.bundle == "-" else options.bundle, options.port)
        return
    pairings = [f"{framework}, {server}" for framework in FRAMEWORKS for server in SERVERS]
    pairings.sort(key=lambda pairing: pairing != FIRST)
    found = {
        "connections": options.connections,
        "constant": compare("", pairings, options),
        "bundle": compare(options.bundle, list(WITH_MODEL), options),
    }
    if options.out:
        options.out.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
