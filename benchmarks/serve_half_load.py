"""Latency at constant rates, of one process with two threads and of two workers with one thread each, in turns.

    python benchmarks/serve_half_load.py BUNDLE BEETLE [--rates 60 120] [--out docs/results/serve_half_load.json]

BUNDLE has the response as its only input; BEETLE has the CSV files of the Beetle answers. Requests come at random times
with a constant mean rate, independent of earlier answers (`http_load.send_at_rate`); every text is new to the server's
cache, which is off. The load generator shares the cores with the servers.
"""

import argparse
import asyncio
import itertools
import json
import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from http_load import send_at_rate
from serve_ceiling import serving
from serve_http import read_texts

SYSTEMS = {"1 process, 2 threads": ("1", "2"), "2 workers, 1 thread": ("2", "1")}


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("beetle", type=Path)
    parser.add_argument("--rates", type=float, nargs="+", default=[60.0, 120.0])
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--seconds", type=int, default=6)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    bodies = itertools.cycle([json.dumps({"response": text}).encode() for text in read_texts(given.beetle)])
    results: list[dict[str, Any]] = []
    with ExitStack() as stack:
        ports = {
            name: stack.enter_context(
                serving(given.bundle, "--recent", "0", "--workers", workers, "--threads", threads, free=False)
            )[0]
            for name, (workers, threads) in SYSTEMS.items()
        }
        for rate, _, name in itertools.product(given.rates, range(given.turns), SYSTEMS):
            found = asyncio.run(send_at_rate(ports[name], "/v1/score", bodies, rate=rate, seconds=given.seconds))
            p50, p99 = found.milliseconds(0.5), found.milliseconds(0.99)
            results.append(
                {
                    "system": name, "rate": rate, "p50_ms": p50, "p99_ms": p99, "ratio": p99 / p50,
                    "requests": len(found.seconds), "errors": found.errors, "load": os.getloadavg()[0],
                }
            )  # fmt: skip
            print(f"{name}, {rate:g}/s: p50 {p50:.1f} ms, p99 {p99:.1f} ms, {found.errors} errors", flush=True)
    if given.out:
        given.out.write_text(json.dumps(results, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
