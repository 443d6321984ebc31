"""The server under constant load for a long time: errors, latency and memory.

    python benchmarks/serve_soak.py BUNDLE BEETLE [--minutes 30] [--share 0.8] [--out FILE]

BUNDLE has the response as its only input; BEETLE has the CSV files of the Beetle answers. Server and load generator
share the cores of this command (`taskset -c 0 python …` for one core). First wrk measures the highest rate, then new
texts arrive at random times at a share of that rate. Memory is the resident set of the server, sampled every second;
the slope is that of a line through the second half.
"""

import argparse
import asyncio
import itertools
import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from http_load import send_at_rate
from peers.systems import System, memory, ours, running
from serve_http import REQUESTS, encode_bodies, numbered_texts, quantiles, read_texts, throughput


def soak(system: System, port: int, pid: int, texts: Iterator[str], rate: float, minutes: float) -> dict[str, Any]:
    """Send requests at a constant rate, and fit a line through the memory of the second half."""
    samples: list[tuple[float, float]] = []
    began = time.perf_counter()
    found = asyncio.run(
        send_at_rate(
            port,
            system.path,
            encode_bodies(system, texts),
            rate=rate,
            seconds=60 * minutes,
            each=lambda: samples.append((time.perf_counter() - began, memory(pid)[0])),
        )
    )
    later = samples[len(samples) // 2 :]
    slope = statistics.linear_regression(*zip(*later, strict=True)).slope * 3600
    return {"rate": rate, "minutes": minutes, **quantiles(found),
            "rss_mb_first": samples[0][1], "rss_mb_last": samples[-1][1],
            "rss_mb_largest": max(mb for _, mb in samples), "rss_mb_per_hour_of_second_half": slope}  # fmt: skip


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("beetle", type=Path)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--share", type=float, default=0.8)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    system, fresh = ours(given.bundle), numbered_texts(read_texts(given.beetle))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with running(system, folder / "server.log") as (port, pid, _):
            found = [
                throughput(system, port, pid, list(itertools.islice(fresh, REQUESTS)), folder, 10)["per_second"]
                for _ in range(3)
            ]
            rate = statistics.median(found)
            print(f"{len(os.sched_getaffinity(0))} cores, load {os.getloadavg()}; {rate:.0f}/s at most", flush=True)
            result = soak(system, port, pid, fresh, given.share * rate, given.minutes)
    print(json.dumps(result, indent=1))
    if given.out:
        given.out.write_text(json.dumps({"most_per_second": rate, **result}, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
