"""What the labeller costs around the client: requests/s and CPU per request against a bare `asyncio.gather`.

    python benchmarks/teacher_overhead.py [--requests 2000] [--concurrency 16] [--rounds 5]

The teacher answers at once, from a process of its own, so that all that is measured is the client's side. Each round
runs both one after the other, in fresh processes: on a shared machine only the ratios within a round mean something.
The bare loop sends the same bodies with httpx2 and keeps nothing. The labeller builds prompts and keys, keeps the
budget and the rate limit, claims each request, writes each answer to disk before it counts, and counts the votes.
"""

import argparse
import asyncio
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import httpx2

from edgedistill.data.types import Response
from edgedistill.project.teacher import BudgetSection, PricesSection, TeacherSection
from edgedistill.teacher import AnswerCache, Budget, Codebook, SpendingLog, label_responses
from edgedistill.teacher.codebook import AnswerFormat
from edgedistill.teacher.endpoint import build_body
from edgedistill.teacher.labelling import LabellingPlan, use_same_examples
from edgedistill_serve.task.task import Label

BOOK = Codebook(
    "Code the praise in the tutor's response to a student who has just got the right answer after several tries.",
    (Label("process", "praises effort"), Label("outcome", "praises the result"), Label("none")),
    ("response",),
)


def rows(count: int) -> list[Response]:
    """Responses of the length that learners write."""
    text = "I like how you kept going and tried another way to find the answer, number {}."
    return [Response(f"r{row}", {"response": text.format(row)}, "responses.csv", row) for row in range(count)]


def section(port: int, concurrency: int) -> TeacherSection:
    """A teacher section for the instant teacher."""
    return TeacherSection(
        base_url=f"http://127.0.0.1:{port}/v1",
        model="m",
        api_key_env=None,
        votes=1,
        concurrency=concurrency,
        prices=PricesSection(input_usd_per_million=1.0, output_usd_per_million=1.0),
        budget=BudgetSection(usd=1000.0),
    )


def bare(port: int, count: int, concurrency: int) -> None:
    """Send the labeller's own bodies by `asyncio.gather`."""
    given = section(port, concurrency)
    plan = LabellingPlan(rows(count), BOOK, given, use_same_examples(()))
    bodies = [
        build_body(plan.build_request(coding_request, AnswerFormat.SCHEMA), "max_tokens")
        for coding_request in plan.coding_requests()
    ]

    async def send_all() -> None:
        at_once = asyncio.Semaphore(concurrency)
        async with httpx2.AsyncClient(base_url=given.base_url) as client:

            async def send(body: dict[str, object]) -> None:
                async with at_once:
                    json.loads((await client.post("/chat/completions", json=body)).content)

            await asyncio.gather(*map(send, bodies))

    measured(lambda: asyncio.run(send_all()), count)


def labeller(port: int, count: int, concurrency: int) -> None:
    """Label as a project with a budget does."""
    with tempfile.TemporaryDirectory() as folder, AnswerCache(Path(folder)) as cache:
        responses, given = rows(count), section(port, concurrency)
        budget = Budget.from_section(given, SpendingLog(Path(folder), "benchmark"), "label")
        measured(lambda: label_responses(responses, BOOK, given, cache, api_key="none", budget=budget), count)


def measured(work: Callable[[], object], count: int) -> None:
    """Print requests/s and CPU milliseconds per request of some work."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    before, start = used.ru_utime + used.ru_stime, time.perf_counter()
    work()
    seconds = time.perf_counter() - start
    used = resource.getrusage(resource.RUSAGE_SELF)
    cpu = (used.ru_utime + used.ru_stime - before) / count * 1000
    print(json.dumps({"per_second": count / seconds, "cpu_ms": cpu}))


WORK = {"bare": bare, "labeller": labeller}


def main() -> None:
    """Run the rounds and print their ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=WORK, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.only:
        WORK[given.only](given.port, given.requests, given.concurrency)
        return
    program = Path(__file__).with_name("instant_teacher.py")
    server = subprocess.Popen([sys.executable, str(program)], stdout=subprocess.PIPE, text=True)
    try:
        port = server.stdout.readline().strip() if server.stdout else ""
        common = ["--port", port, "--requests", str(given.requests), "--concurrency", str(given.concurrency)]
        rounds = [one_round(common, number) for number in range(given.rounds)]
    finally:
        server.terminate()
        server.wait()
    speed = statistics.median(found["labeller"]["per_second"] / found["bare"]["per_second"] for found in rounds)
    cpu = statistics.median(found["bare"]["cpu_ms"] / found["labeller"]["cpu_ms"] for found in rounds)
    print(f"median of {given.rounds}, labeller against the bare loop: requests/s x {speed:.2f}, 1/CPU x {cpu:.2f}")


def one_round(common: list[str], number: int) -> dict[str, dict[str, float]]:
    """Run each once, in an order that turns from round to round."""
    names = list(WORK)
    names = names[number % 2 :] + names[: number % 2]
    found: dict[str, dict[str, float]] = {}
    for name in names:
        command = [sys.executable, __file__, "--only", name, *common]
        found[name] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    message = (f"{name} {found[name]['per_second']:.0f}/s {found[name]['cpu_ms']:.2f} ms CPU" for name in WORK)
    print(f"round {number + 1}: " + "; ".join(message), flush=True)
    return found


if __name__ == "__main__":
    main()
