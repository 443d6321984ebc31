"""A labelling run whose every answer is in the cache: seconds and peak memory for 10,000, 30,000 and 100,000 votes.

    python benchmarks/teacher_cached.py [--votes 10000 30000 100000]

Each size is measured in a process of its own, after another has filled the cache. The votes are one per response, of
responses as long as learners write. `first read` is the time of reading the whole cache file once before, so that the
disk's share is known. Memory is the process's peak, the imports' share (measured before anything is read) beside it.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from teacher_overhead import BOOK, rows

from edgedistill.project.teacher import TeacherSection
from edgedistill.teacher import AnswerCache, CacheEntry, label_responses
from edgedistill.teacher.codebook import AnswerFormat
from edgedistill.teacher.labelling import LabellingPlan, use_same_examples

SECTION = TeacherSection(base_url="http://127.0.0.1:9/v1", model="m", api_key_env=None, votes=1)
MESSAGE = {"role": "assistant", "content": '{"label": "process"}', "refusal": None}
ANSWER = {
    "id": "chatcmpl-000000000000000000000000",
    "object": "chat.completion",
    "created": 1_750_000_000,
    "model": "m-2025-01-01",
    "system_fingerprint": "fp_0000000000",
    "choices": [{"index": 0, "finish_reason": "stop", "logprobs": None, "message": MESSAGE}],
    "usage": {"prompt_tokens": 200, "completion_tokens": 6, "total_tokens": 206},
}


def fill(folder: Path, votes: int) -> None:
    """Put an answer to every vote into the cache."""
    plan = LabellingPlan(rows(votes), BOOK, SECTION, use_same_examples(()))
    with AnswerCache(folder) as cache:
        requests = [
            plan.build_request(coding_request, AnswerFormat.SCHEMA) for coding_request in plan.coding_requests()
        ]
        for start in range(0, votes, 1000):
            cache.add_entries(
                [CacheEntry(each.key(), each.content(), ANSWER) for each in requests[start : start + 1000]]
            )


def run(folder: Path, votes: int) -> None:
    """Label from the cache and print what it took."""
    responses = rows(votes)
    imported = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    start = time.perf_counter()
    with (folder / "cache.db").open("rb") as file:
        while file.read(2**20):
            pass
    first_read = time.perf_counter() - start
    before = time.process_time()
    start = time.perf_counter()
    with AnswerCache(folder) as cache:
        done = label_responses(responses, BOOK, SECTION, cache, api_key="none")
    seconds = time.perf_counter() - start
    if done.usage.cached != votes or done.usage.asked or len(done.labels) != votes:
        sys.exit("not every vote came from the cache")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    message = {"seconds": seconds, "cpu": time.process_time() - before, "peak": peak, "before": imported}
    print(json.dumps(message | {"first_read": first_read, "file": (folder / "cache.db").stat().st_size / 1e6}))


def main() -> None:
    """Measure each size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--votes", type=int, nargs="+", default=[10_000, 30_000, 100_000])
    parser.add_argument("--work", choices=("fill", "run"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        (fill if given.work == "fill" else run)(given.folder, given.votes[0])
        return
    for votes in given.votes:
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, __file__, "--votes", str(votes), "--folder", folder, "--work"]
            subprocess.run([*command, "fill"], check=True)
            found = json.loads(subprocess.run([*command, "run"], check=True, capture_output=True, text=True).stdout)
        print(
            f"{votes:,} votes, {found['file']:.0f} MB: {found['seconds']:.1f} s, {found['cpu']:.1f} s CPU "
            f"({found['cpu'] / votes * 1e6:.0f} us a vote); peak {found['peak']:.0f} MiB, {found['before']:.0f} MiB of "
            f"them before; first read {found['first_read']:.2f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
