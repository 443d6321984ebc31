"""CPU time of a request in our HTTP protocol, in uvicorn and in granian, with the same small application.

    python benchmarks/serve_protocols.py [--rounds 7] [--out docs/results/serve_protocols.json]

The application parses a JSON body and answers with JSON of the size of a score; there is no framework, log or queue.
What differs is the protocol: ours (`http11.Connection`), uvicorn with httptools, and granian with its ASGI and its RSGI
interface (its own protocol in Rust, one worker, one blocking thread). All run on asyncio's event loop, as the server
does. wrk sends over 64 connections; the servers take turns; the CPU time is that of the whole process family, in which
granian has a supervisor. uvicorn and granian must be installed beside the package, in an environment of their own.
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
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
from peers.systems import cpu_seconds

ANSWER = {
    "model": "praise", "version": "227de735d8de", "label": "process", "probability": 0.9866880316783717,
    "probabilities": {"process": 0.9866880316783717, "outcome": 0.0066559841608141, "person": 0.0066559841608142},
    "decision": "accept", "reason": None, "truncated": False, "tokens": 20, "unknown_share": 0.0,
}  # fmt: skip
HEADERS = [("content-type", "application/json"), ("x-request-id", "0123456789abcdef0123456789abcdef")]
SCRIPT = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = '{"response": "You kept trying different strategies until it worked."}'
function done(summary, latency)
  io.write(string.format("RESULT %d %d %d\\n", summary.requests, summary.duration, summary.errors.status))
end
"""


def answer(body: bytes) -> bytes:
    """Parse a request, and encode an answer."""
    if not msgspec.json.decode(body)["response"]:
        raise ValueError("an empty response")
    return msgspec.json.encode(ANSWER)


async def asgi(scope: Any, receive: Callable[[], Any], send: Callable[[Any], Any]) -> None:
    """The application for ASGI."""
    if scope["type"] != "http":
        raise RuntimeError("no lifespan")
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message["body"], message.get("more_body", False)
    content = answer(body)
    headers = [(name.encode(), value.encode()) for name, value in HEADERS]
    headers.append((b"content-length", b"%d" % len(content)))
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": content})


async def rsgi(scope: Any, protocol: Any) -> None:  # noqa: ARG001  # granian's interface
    """The application for RSGI."""
    protocol.response_bytes(200, HEADERS, answer(await protocol()))


async def serve_ours(port: int) -> None:
    """Serve with our protocol."""
    from edgedistill_serve.server.limits import Limits
    from edgedistill_serve.server.transport.http11 import Connection, Connections

    connections = Connections(asgi, Limits(), 1000)
    server = await asyncio.get_running_loop().create_server(lambda: Connection(connections), "127.0.0.1", port)
    await server.serve_forever()


def serve(name: str, port: int) -> None:
    """Serve until the process is terminated."""
    if name == "ours":
        asyncio.run(serve_ours(port))
    elif name == "uvicorn":
        import uvicorn

        uvicorn.run(
            asgi, port=port, http="httptools", loop="asyncio", log_level="error", access_log=False, lifespan="off"
        )
    else:
        from granian import Granian

        interface: Any = name.partition(" ")[2]
        target = f"serve_protocols:{interface}"
        Granian(target, port=port, interface=interface, loop="asyncio", log_enabled=False, log_access=False).serve()


def load(port: int, pid: int, script: str, seconds: int) -> dict[str, float]:
    """Send requests as fast as possible."""
    used = cpu_seconds(pid)
    command = ["wrk", "-t1", "-c64", f"-d{seconds}s", "-s", script, f"http://127.0.0.1:{port}/v1/score"]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    used = cpu_seconds(pid) - used
    requests, duration, failed = map(int, re.search(r"RESULT (.*)", output)[1].split())  # type: ignore[index]  # wrk wrote it
    if failed or not requests:
        raise SystemExit(f"{failed} of {requests} requests failed")
    return {"per_second": 1e6 * requests / duration, "cpu_us": 1e6 * used / requests}


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--serve", nargs=2, metavar=("NAME", "PORT"), help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    if given.serve:
        serve(given.serve[0], int(given.serve[1]))
        return
    names = ["ours", "uvicorn", "granian asgi", "granian rsgi"]
    results: dict[str, Any] = {"cores": os.cpu_count(), "load": os.getloadavg()[0]}
    with ExitStack() as stack:
        script = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "load.lua"
        script.write_text(SCRIPT)
        places = {}
        for name in names:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
            command = [sys.executable, __file__, "--serve", name, str(port)]
            process = subprocess.Popen(command, cwd=Path(__file__).parent)
            stack.callback(process.wait)
            stack.callback(process.terminate)
            places[name] = port, process.pid
        time.sleep(3)
        for name in names:
            load(*places[name], str(script), 1)
        for _ in range(given.rounds):
            for name in names:
                results.setdefault(name, []).append(load(*places[name], str(script), given.seconds))
    for name in names:
        middle = {key: statistics.median(each[key] for each in results[name]) for key in ("per_second", "cpu_us")}
        ratios = [each["cpu_us"] / ours["cpu_us"] for each, ours in zip(results[name], results["ours"], strict=True)]
        print(f"{name}: {middle['per_second']:.0f}/s, {middle['cpu_us']:.0f} us of CPU a request,", end=" ")
        print(f"{statistics.median(ratios):.2f} of ours ({min(ratios):.2f} to {max(ratios):.2f})")
    if given.out:
        given.out.write_text(json.dumps(results, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
