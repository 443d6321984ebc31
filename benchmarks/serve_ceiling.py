"""The ceiling of the server: what remains of a request if its score costs nothing, for one and two processes.

    python benchmarks/serve_ceiling.py BUNDLE [--rounds 5] [--out docs/results/serve_ceiling.json]

BUNDLE has the response as its only input. wrk sends distinct responses over 64 connections; the score cache is off. The
scorer costs nothing (`free_scorer`), but everything around it happens: HTTP, checks, JSON, the queue and its thread,
log and metrics. wrk shares the cores with the server, and on two cores takes a part of what the second process could
use, so that requests per second of processor time are given, too. Ratios are those within a round.

Then the real bundle is served, and the memory of idle processes is measured: RSS, and PSS, which divides shared pages
among the processes that share them.
"""

import argparse
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from peers.systems import cpu_seconds, family, memory

HERE = Path(__file__).parent
CONNECTIONS = 64
SCRIPT = """
local sent = 0
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
function request()
  sent = sent + 1
  return wrk.format(nil, nil, nil, '{"response": "You kept trying until it worked, turn ' .. sent .. '."}')
end
function done(summary, latency)
  local failed = summary.errors.status + summary.errors.read + summary.errors.write + summary.errors.timeout
  io.write(string.format("RESULT %d %d %d %d %d\\n", summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(99), failed))
end
"""


@contextmanager
def serving(bundle: Path, *options: str, free: bool = True) -> Iterator[tuple[int, int]]:
    """Serve a bundle; yields port and process id."""
    paths = [*([str(HERE / "free_scorer")] if free else []), os.environ.get("PYTHONPATH", "")]
    command = [sys.executable, "-m", "edgedistill_serve", "serve", str(bundle), "--port", "0", "--json", *options]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        text=True,
    )
    try:
        url = json.loads(process.stdout.readline())["url"]  # type: ignore[union-attr]  # a pipe
        while True:
            try:
                urlopen(f"{url}/readyz").read()  # noqa: S310  # a local address
                break
            except OSError:
                time.sleep(0.1)
        yield int(url.rpartition(":")[2]), process.pid
    finally:
        process.terminate()
        process.wait(60)


def load(port: int, pid: int, script: Path, seconds: int) -> dict[str, float]:
    """Send requests as fast as possible."""
    used, own = cpu_seconds(pid), resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [
        "wrk",
        "-t1",
        f"-c{CONNECTIONS}",
        f"-d{seconds}s",
        "-s",
        str(script),
        f"http://127.0.0.1:{port}/v1/score",
    ]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    used, after = cpu_seconds(pid) - used, resource.getrusage(resource.RUSAGE_CHILDREN)
    requests, duration, p50, p99, failed = map(int, re.search(r"RESULT (.*)", output)[1].split())  # type: ignore[index]  # wrk wrote it
    if failed:
        raise SystemExit(f"{failed} of {requests} requests failed")
    generator = after.ru_utime + after.ru_stime - own.ru_utime - own.ru_stime
    return {
        "per_second": 1e6 * requests / duration,
        "cpu_us": 1e6 * used / requests,
        "per_cpu_second": requests / used,
        "generator_cpu_us": 1e6 * generator / requests,
        "p50_ms": p50 / 1000,
        "p99_ms": p99 / 1000,
    }


def measure_memory(bundle: Path) -> dict[str, Any]:
    """Return the memory of idle servers in MB, the supervisor included."""
    results = {}
    for workers in (1, 2):
        with serving(bundle, "--workers", str(workers), "--threads", "1", free=False) as (_, pid):
            time.sleep(3)
            used = cpu_seconds(pid)
            time.sleep(5)
            rss, pss = memory(pid)
            supervisor = memory_alone(pid) if workers > 1 else None
            idle = 100 * (cpu_seconds(pid) - used) / 5
            results[f"{workers} workers"] = {
                "rss_mb": rss, "pss_mb": pss, "supervisor_rss_mb": supervisor, "processes": len(family(pid)),
                "idle_cpu_percent": idle,
            }  # fmt: skip
    return results


def memory_alone(pid: int) -> float:
    """Return the RSS of one process in MB."""
    line = next(each for each in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines() if each.startswith("Rss:"))
    return int(line.split()[1]) / 1024


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--no-memory", action="store_true")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    results: dict[str, Any] = {"cores": os.cpu_count(), "load_before": os.getloadavg()[0], "1": [], "2": []}
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "load.lua"
        script.write_text(SCRIPT)
        options = ("--recent", "0", "--threads", "1")
        with (
            serving(given.bundle, *options, "--workers", "1") as one,
            serving(given.bundle, *options, "--workers", "2") as two,
        ):
            for place in (one, two):
                load(*place, script, 2)
            for _ in range(given.rounds):
                results["1"].append(load(*one, script, given.seconds))
                results["2"].append(load(*two, script, given.seconds))
    for workers in ("1", "2"):
        middle = {key: statistics.median(each[key] for each in results[workers]) for key in results[workers][0]}
        print(f"{workers} workers:", ", ".join(f"{key} {value:.0f}" for key, value in middle.items()))
    for key in ("per_second", "per_cpu_second"):
        ratios = [b[key] / a[key] for a, b in zip(results["1"], results["2"], strict=True)]
        results[f"ratio_{key}"] = ratios
        print(f"two workers / one, {key}: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
    if not given.no_memory:
        results["memory"] = measure_memory(given.bundle)
        print(json.dumps(results["memory"], indent=1))
    results["load_after"] = os.getloadavg()[0]
    print(f"load {results['load_before']:.1f} to {results['load_after']:.1f}")
    if given.out:
        given.out.write_text(json.dumps(results, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
