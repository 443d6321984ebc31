"""The HTTP server compared with others: throughput, latency, label changes, and cost when idle.

    python benchmarks/serve_http.py BUNDLE CHECKPOINT BEETLE --peers FOLDER [--rounds 3] [--out FILE]

BUNDLE has the response as its only input and serves int8; CHECKPOINT is the one it was exported from; BEETLE has the
CSV files of the Beetle answers. A text is a question and a learner's answer to it. FOLDER has one virtual environment
per peer:

    litserve    litserve, onnxruntime, tokenizers, numpy
    infinity    infinity-emb[torch,server]==0.0.78

In the same rounds, the same bundle also scores lists of distinct texts inside one process: 5,000 texts at once, and 64
at a time, as many as there are requests at once. Texts of similar length are scored together, so that a longer list
has less padding; the second figure shows what HTTP itself costs.

Missing peers are skipped and listed. The benchmark needs wrk and curl. The load generators share the cores with the
servers; while one server is measured, the others are stopped.
"""

import argparse
import asyncio
import csv
import itertools
import json
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from http_load import LoadResult, send_all, send_at_rate
from peers.systems import Shares, System, cpu_seconds, infinity, litserve, memory, ours, running
from serve_inprocess import LIST, LISTS, OURS, Process

CONNECTIONS = LIST
REQUESTS = 20_000
IN_PROCESS = 5_000
"""Number of texts per round that are scored without HTTP."""
INSIDE = {"in process, all at once": OURS, f"in process, {LIST} at a time": LISTS}
WRK = """
local bodies = {}
for line in io.lines(%r) do bodies[#bodies + 1] = line end
local threads = 0
function setup(thread) thread:set("first", threads); threads = threads + 1 end
function init() asked = first; wrk.method = "POST"; wrk.headers["Content-Type"] = "application/json" end
function request() asked = asked + 2; return wrk.format(nil, nil, nil, bodies[(asked - 1) %% #bodies + 1]) end
function done(summary, latency)
  local failed = summary.errors.status + summary.errors.read + summary.errors.write + summary.errors.timeout
  io.write(string.format("RESULT %%d %%d %%d %%d %%d\\n", summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(99), failed))
end
"""
FIRST_SCORE = """
import time; began = time.perf_counter()
from edgedistill_serve import Bundle, Scorer
Scorer(Bundle.load({bundle!r})).score(["You kept trying until it worked."])
print(time.perf_counter() - began)
"""


def read_texts(folder: Path) -> list[str]:
    """Return all distinct questions with their answers, shuffled."""
    found = {}
    for file in sorted(folder.glob("*.csv")):
        with file.open(encoding="utf-8", newline="") as stream:
            for row in csv.DictReader(stream):
                found[f"{row['question']} {row['response']}"] = None
    texts = list(found)
    random.Random(0).shuffle(texts)  # noqa: S311  # not used for security
    return texts


def numbered_texts(texts: list[str]) -> Iterator[str]:
    """Repeat the texts endlessly, each time with another number, so that all are distinct."""
    for turn in itertools.count():
        for text in texts:
            yield f"{text} {turn}"


def shuffled_repeats(texts: list[str], number: int) -> list[str]:
    """Return all texts equally often, in random order, and different from the texts of other rounds."""
    repeated = [f"{text} ({number})" for text in itertools.islice(itertools.cycle(texts), REQUESTS)]
    random.Random(number).shuffle(repeated)  # noqa: S311  # not used for security
    return repeated


def throughput(system: System, port: int, pid: int, texts: list[str], folder: Path, seconds: int) -> dict[str, float]:
    """Measure throughput with wrk (64 connections, one text per request) and the CPU time of the server.

    On a machine with other load, CPU time per request is more reliable than throughput.
    """
    bodies, script = folder / "bodies.txt", folder / "ask.lua"
    bodies.write_bytes(b"".join(system.encoded(text) + b"\n" for text in texts))
    script.write_text(WRK % str(bodies))
    command = ["wrk", "-t2", f"-c{CONNECTIONS}", f"-d{seconds}s", "-s", script, f"http://127.0.0.1:{port}{system.path}"]
    used = cpu_seconds(pid)
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    used = cpu_seconds(pid) - used
    requests, duration, p50, p99, failed = map(int, re.search(r"RESULT (.*)", output)[1].split())  # type: ignore[index]  # wrk wrote it
    return {
        "per_second": 1e6 * requests / duration,
        "cpu_ms_each": 1000 * used / max(1, requests),
        "p50_ms": p50 / 1000,
        "p99_ms": p99 / 1000,
        "failed": failed,
    }


def encode_bodies(system: System, texts: Iterator[str]) -> Iterator[bytes]:
    """Yield the bodies of requests."""
    return (system.encoded(text) for text in texts)


def latency(system: System, port: int, texts: Iterator[str], rate: float, seconds: float) -> dict[str, float]:
    """Measure latency at a constant rate."""
    found = asyncio.run(send_at_rate(port, system.path, encode_bodies(system, texts), rate=rate, seconds=seconds))
    return {"rate": rate, **quantiles(found)}


def quantiles(found: LoadResult) -> dict[str, float]:
    """Return quantiles and counts."""
    return {
        "p50_ms": found.milliseconds(0.5),
        "p99_ms": found.milliseconds(0.99),
        "requests": len(found.seconds),
        "errors": found.errors,
    }


def latency_with_bulk(
    system: System, port: int, texts: Iterator[str], rate: float, seconds: float, folder: Path
) -> dict[str, Any]:
    """Measure latency at a constant rate without a bulk stream, with one at full speed, and without one again."""
    path, encode, _ = system.lists  # type: ignore[misc]  # only for our server
    lines = folder / "bulk.ndjson"
    lines.write_bytes(encode(list(itertools.islice(texts, 400_000))))
    url = f"http://127.0.0.1:{port}{path}"
    command = ["curl", "-sS", "-X", "POST", "-H", "Content-Type: application/x-ndjson", "-T", lines, url]
    before = latency(system, port, texts, rate, seconds)
    answers = folder / "bulk.out"
    with answers.open("wb") as stream, subprocess.Popen(command, stdout=stream) as bulk:
        time.sleep(2)
        rows, began = answers.read_bytes().count(b"\n"), time.perf_counter()
        during = latency(system, port, texts, rate, seconds)
        rows = answers.read_bytes().count(b"\n") - rows
        during["bulk_rows_per_second"] = rows / (time.perf_counter() - began)
        bulk.terminate()
    time.sleep(1)
    return {"without": before, "with": during, "without_again": latency(system, port, texts, rate, seconds)}


def label_changes(system: System, port: int, texts: list[str]) -> dict[str, Any]:
    """Score the same rows one by one, shuffled in bulk, and with 64 clients; count label changes."""
    bodies = [system.encoded(text) for text in texts]

    def shares(found: LoadResult) -> list[Shares]:
        if found.errors:
            raise SystemExit(f"{system.name}: {found.errors} of {len(bodies)} requests failed")
        return [system.shares(json.loads(found.bodies[number])) for number in range(len(bodies))]

    alone = shares(asyncio.run(send_all(port, system.path, bodies, clients=1)))
    concurrent = shares(asyncio.run(send_all(port, system.path, bodies, clients=CONNECTIONS)))
    result = {"rows": len(texts), "by_64_clients": compare(alone, concurrent)}
    if system.lists is not None:
        result["shuffled_in_bulk"] = compare(alone, score_in_bulk(system, port, texts))
    return result


def score_in_bulk(system: System, port: int, texts: list[str]) -> list[Shares]:
    """Score rows in random order, many per request, and return the results in the original order."""
    path, encode, decode = system.lists  # type: ignore[misc]  # checked by the caller
    order = list(range(len(texts)))
    random.Random(7).shuffle(order)  # noqa: S311  # not used for security
    size = len(order) if path.endswith("bulk") else 32
    found: dict[int, Shares] = {}
    for first in range(0, len(order), size):
        part = order[first : first + size]
        command = ["curl", "-sS", "-H", "Content-Type: application/json", "--data-binary", "@-"]
        body = encode([texts[number] for number in part])
        url = f"http://127.0.0.1:{port}{path}"
        output = subprocess.run([*command, url], input=body, check=True, capture_output=True).stdout
        found.update(zip(part, decode(output), strict=True))
    return [found[number] for number in range(len(texts))]


def compare(alone: list[Shares], other: list[Shares]) -> dict[str, float]:
    """Return the number of label changes and the largest change of a probability."""
    label = [max(each, key=each.__getitem__) for each in alone]
    changed = sum(max(each, key=each.__getitem__) != was for each, was in zip(other, label, strict=True))
    largest = max(abs(one[name] - two[name]) for one, two in zip(alone, other, strict=True) for name in one)
    return {"labels_changed": changed, "largest_change": largest}


def measure_idle(pid: int) -> dict[str, float]:
    """Measure an idle server."""
    time.sleep(2)
    before = cpu_seconds(pid)
    time.sleep(8)
    used = 100 * (cpu_seconds(pid) - before) / 8
    return {"cpu_percent": used, **dict(zip(("rss_mb", "pss_mb"), memory(pid), strict=True))}


def measure_first_score(bundle: Path) -> float:
    """Return the time from import to first score in a new interpreter, in seconds; median of five."""
    command = [sys.executable, "-c", FIRST_SCORE.format(bundle=str(bundle))]
    return statistics.median(
        float(subprocess.run(command, check=True, capture_output=True, text=True).stdout) for _ in range(5)
    )


@contextmanager
def resumed(pid: int) -> Iterator[None]:
    """Resume a stopped server for the block."""
    os.killpg(pid, signal.SIGCONT)
    time.sleep(0.5)
    yield
    os.killpg(pid, signal.SIGSTOP)


@contextmanager
def process_inside(name: str, bundle: Path, texts: Iterator[str]) -> Iterator[Process]:
    """Start a scorer without HTTP for the block."""
    process = Process(INSIDE[name], bundle)
    process.speed([{"response": text} for text in itertools.islice(texts, 100)])
    yield process
    process.end()


def speed_inside(process: Process, texts: Iterator[str]) -> dict[str, float]:
    """Measure throughput without HTTP."""
    listed = [{"response": text} for text in itertools.islice(texts, IN_PROCESS)]
    return dict(zip(("per_second", "per_cpu_second"), process.speed(listed), strict=True))


def measure_systems(systems: list[System], texts: list[str], given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Measure all servers in turns, with the others stopped; throughput is measured in several rounds."""
    fresh = numbered_texts(texts)
    results: dict[str, Any] = {system.name: {"distinct": [], "repeated": []} for system in systems}
    with ExitStack() as stack:
        inside = {name: stack.enter_context(process_inside(name, given.bundle, fresh)) for name in INSIDE}
        there = {}
        for system in systems:
            there[system.name] = port, pid, seconds = stack.enter_context(running(system, folder / "server.log"))
            throughput(system, port, pid, texts[-500:], folder, 3)
            results[system.name] |= {"seconds_until_ready": seconds, "idle": measure_idle(pid)}
            os.killpg(pid, signal.SIGSTOP)
            stack.callback(os.killpg, pid, signal.SIGCONT)
        for number in range(given.rounds):
            repeated = shuffled_repeats(texts, number)
            speeds = {name: speed_inside(process, fresh) for name, process in inside.items()}
            for name, system in itertools.product(INSIDE, systems):
                results[system.name].setdefault(name, []).append(speeds[name])
            for system in systems:
                distinct = list(itertools.islice(fresh, REQUESTS))
                port, pid, _ = there[system.name]
                with resumed(pid):
                    for name, asked in (("distinct", distinct), ("repeated", repeated)):
                        found = throughput(system, port, pid, asked, folder, given.seconds)
                        results[system.name][name].append(found | {"load": os.getloadavg()[0]})
        for system in systems:
            port, pid, _ = there[system.name]
            result = results[system.name]
            with resumed(pid):
                rate = statistics.median(each["per_second"] for each in result["distinct"])
                # At least one per second, also for a server without answers.
                result["half"] = latency(system, port, fresh, max(1.0, 0.5 * rate), given.seconds)
                if system is systems[0]:
                    result["bulk"] = latency_with_bulk(system, port, fresh, 0.1 * rate, given.seconds, folder)
                result["labels"] = label_changes(system, port, texts[: given.rows])
                result["rss_after_mb"] = memory(pid)[0]
    return results


def print_results(results: dict[str, Any]) -> None:
    """Print the medians and the ratios to the first system."""
    first = None
    for name, result in results.items():
        for kind in ("distinct", "repeated"):
            found = [each["per_second"] for each in result[kind]]
            middle = statistics.median(found)
            if kind == "distinct":
                first = first or middle
                print(
                    f"{name}: {middle:.0f}/s of distinct texts ({', '.join(f'{each:.0f}' for each in found)}),", end=" "
                )
                cpu = statistics.median(each["cpu_ms_each"] for each in result[kind])
                print(f"1 / {first / max(middle, 1e-9):.2f} of the first, {cpu:.2f} ms of CPU each;", end=" ")
            else:
                print(f"{middle:.0f}/s of repeated texts")
        print_in_process(result)
        half, labels = result["half"], result["labels"]
        print(f"  at half of that: p50 {half['p50_ms']:.1f} ms, p99 {half['p99_ms']:.1f} ms, {half['errors']} errors")
        for kind in ("by_64_clients", "shuffled_in_bulk"):
            if kind in labels:
                print(f"  labels changed {kind}: {labels[kind]['labels_changed']} of {labels['rows']}", end=" ")
                print(f"(a probability by up to {labels[kind]['largest_change']:.3f})")
        print(f"  idle {result['idle']}, after load RSS {result['rss_after_mb']:.0f} MB")
        if "bulk" in result:
            for kind, each in result["bulk"].items():
                print(f"  interactive {kind} a bulk stream: {each}")


def print_in_process(result: dict[str, Any]) -> None:
    """Print the speed over HTTP relative to the speed inside one process."""
    for name in INSIDE:
        pairs = list(zip(result["distinct"], result[name], strict=True))
        speed = statistics.median(inside["per_second"] for _, inside in pairs)
        share = statistics.median(http["per_second"] / inside["per_second"] for http, inside in pairs)
        by_cpu = statistics.median(1000 / http["cpu_ms_each"] / inside["per_cpu_second"] for http, inside in pairs)
        print(f"  {name} {speed:.0f}/s: over HTTP {share:.2f} of it, per second of processor time {by_cpu:.2f}")


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("beetle", type=Path)
    parser.add_argument("--peers", type=Path, required=True)
    parser.add_argument("--seconds", type=int, default=10, help="Length of each measurement.")
    parser.add_argument("--rounds", type=int, default=3, help="Number of rounds of throughput.")
    parser.add_argument("--rows", type=int, default=2000, help="Number of rows for label changes.")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    texts = read_texts(given.beetle)
    systems = [ours(given.bundle), ours(given.bundle, workers=2, threads=1)]
    if given.peers and (given.peers / "litserve").is_dir():
        systems += [litserve(given.bundle, given.peers / "litserve", workers=w, threads=t) for w, t in ((1, 2), (2, 1))]
    if given.peers and (given.peers / "infinity").is_dir():
        systems.append(infinity(given.checkpoint, given.peers / "infinity"))
    print(f"{len(texts)} distinct texts, {os.cpu_count()} cores, load {os.getloadavg()}")
    print(
        f"left out: {', '.join(each for each in ('litserve', 'infinity') if not (given.peers / each).is_dir()) or '-'}"
    )
    results: dict[str, Any] = {"load_before": os.getloadavg(), "first_score_seconds": measure_first_score(given.bundle)}
    print(f"import + load + first score: {results['first_score_seconds']:.2f} s")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        results["systems"] = measure_systems(systems, texts, given, folder)
        print_results(results["systems"])
    results["load_after"] = os.getloadavg()
    print(f"load before {results['load_before']}, after {results['load_after']}")
    if given.out:
        given.out.write_text(json.dumps(results, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
