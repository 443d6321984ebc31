"""The measured servers: how to start them, and the format of their requests and answers."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

HERE = Path(__file__).parent
Shares = dict[str, float]


@dataclass(frozen=True)
class System:
    """A server.

    Attributes:
        name: Name in the table.
        command: Returns the command that starts the server on a port.
        path: Path for one response.
        ready: Path that answers with 200 when the server is ready.
        body: Returns the request for a text.
        shares: Returns the probability of every label from an answer.
        lists: Path for several texts, the encoding of their request, and the parser of its answer; None if the server
            accepts one text per request only.
    """

    name: str
    command: Callable[[int], Sequence[str]]
    path: str
    ready: str
    body: Callable[[str], Any]
    shares: Callable[[Any], Shares]
    lists: tuple[str, Callable[[Sequence[str]], bytes], Callable[[bytes], list[Shares]]] | None = None

    def encoded(self, text: str) -> bytes:
        """Return the body of a request."""
        return json.dumps(self.body(text)).encode()


def ours(bundle: Path, *, workers: int = 1, threads: int | None = None) -> System:
    """`edgedistill-serve serve`; by default, one process with a thread for each core."""
    command = Path(sys.executable).parent / "edgedistill-serve"
    options = ["--workers", str(workers), *([] if threads is None else ["--threads", str(threads)])]
    return System(
        "edgedistill-serve" if workers == 1 else f"edgedistill-serve, {workers} workers of {threads} threads",
        lambda port: [str(command), "serve", str(bundle), "--port", str(port), *options],
        "/v1/score",
        "/readyz",
        lambda text: {"response": text},
        lambda answer: answer["probabilities"],
        (
            "/v1/score/bulk",
            lambda texts: b"".join(json.dumps(text).encode() + b"\n" for text in texts),
            lambda body: [json.loads(line)["probabilities"] for line in body.splitlines()],
        ),
    )


def litserve(bundle: Path, environment: Path, *, workers: int, threads: int) -> System:
    """LitServe around the same int8 session."""
    python, script = environment / "bin" / "python", HERE / "litserve_server.py"
    return System(
        f"LitServe, {workers} workers of {threads} threads",
        lambda port: [str(python), str(script), str(bundle), str(port), str(workers), str(threads)],
        "/predict",
        "/health",
        lambda text: {"response": text},
        lambda answer: answer["probabilities"],
    )


def infinity(checkpoint: Path, environment: Path) -> System:
    """Infinity with torch, fp32."""
    program = environment / "bin" / "infinity_emb"
    options = (
        *("v2", "--model-id", str(checkpoint), "--served-model-name", "m", "--engine", "torch", "--device", "cpu"),
        *("--batch-size", "32", "--no-bettertransformer", "--no-model-warmup", "--host", "127.0.0.1"),
        *("--log-level", "error"),
    )

    def shares(row: list[dict[str, Any]]) -> Shares:
        return {each["label"]: each["score"] for each in row}

    return System(
        "infinity /classify, torch fp32",
        lambda port: [str(program), *options, "--port", str(port)],
        "/classify",
        "/health",
        lambda text: {"model": "m", "input": [text]},
        lambda answer: shares(answer["data"][0]),
        (
            "/classify",
            lambda texts: json.dumps({"model": "m", "input": list(texts)}).encode(),
            lambda body: [shares(row) for row in json.loads(body)["data"]],
        ),
    )


@contextmanager
def running(system: System, log: Path) -> Iterator[tuple[int, int, float]]:
    """Start a server.

    Yields:
        Its port, its process id, and the seconds until it was ready.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    quiet = {"HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1", "INFINITY_ANONYMOUS_USAGE_STATS": "0"}
    began = time.perf_counter()
    with log.open("ab") as stream:
        process = subprocess.Popen(
            list(system.command(port)),
            stdout=stream,
            stderr=stream,
            env={**os.environ, **quiet},
            start_new_session=True,
        )
    try:
        while not _answers(f"http://127.0.0.1:{port}{system.ready}"):
            if process.poll() is not None or time.perf_counter() - began > 180:
                raise SystemExit(f"{system.name} did not start: see {log}")
            time.sleep(0.02)
        yield port, process.pid, time.perf_counter() - began
    finally:
        os.killpg(process.pid, 15)
        try:
            process.wait(45)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            process.wait()


def _answers(url: str) -> bool:
    try:
        with urlopen(url, timeout=5) as answer:  # noqa: S310  # a local address
            return bool(answer.status == 200)
    except (URLError, OSError):
        return False


def family(pid: int) -> list[int]:
    """Return a process and its descendants."""
    found = [pid]
    for parent in found:
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            found += map(int, task.read_text().split())
    return found


def memory(pid: int) -> tuple[float, float]:
    """Return the memory of a process and its descendants in MB, as RSS and PSS.

    RSS counts a shared page in every process; PSS divides it among the processes that share it.
    """
    found = {"Rss:": 0, "Pss:": 0}
    for each in family(pid):
        for line in Path(f"/proc/{each}/smaps_rollup").read_text().splitlines()[1:]:
            name, size, *_ = line.split()
            found[name] = found.get(name, 0) + int(size)
    return found["Rss:"] / 1024, found["Pss:"] / 1024


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process and its descendants in seconds."""
    ticks = 0
    for each in family(pid):
        fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")
