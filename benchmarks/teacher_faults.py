"""3,000 votes from a teacher that fails in ten ways, and a labeller that is killed at random moments.

    python benchmarks/teacher_faults.py SHARED [--responses 1000] [--kills 5] [--seed 0]

SHARED holds `teacher/recorded_teacher.py`, a server that replays recorded answers, and `data/beetle/votes.jsonl`. Two
runs, each with a cache and a server of its own:

    faults   the labeller runs to its end against --fault 429, 500, 503, slow, drop, truncate, badjson, badlabel, empty,
             refusal; every vote is in the cache or its response is set aside, and no answer that could be used was
             asked for twice: the server's count of answers without a fault is the number of answers in the cache
    kills    against a sound but slowed server, the labeller is ended by SIGKILL at random moments and started again;
             the requests that the server saw more than once are those in flight, at most the concurrency at each kill
"""

import argparse
import csv
import json
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

FAULTS = (
    "429:0.1,500:0.05,503:0.02,slow:0.02,drop:0.05,truncate:0.02,badjson:0.03,badlabel:0.02,empty:0.02,refusal:0.01"
)
UNUSABLE = ("truncate", "badjson", "badlabel", "empty", "refusal")
PROJECT = """\
name: {name}
task:
  instructions: Compare the learner's answer with the reference answers, which are separated by ||.
  labels: [{{name: correct}}, {{name: contradictory}}, {{name: incorrect}}]
  inputs: [question, reference_answer, response]
data: {{human: human.csv, unlabelled: responses.csv}}
teacher:
  base_url: {address}
  model: recorded
  api_key_env: null
  votes: 3
  tries: 10
  concurrency: 16
  gate: {{metric: kappa, at_least: -1, least_rows: 1}}
"""
LABEL = """
import json, sys
from pathlib import Path
from edgedistill.project import read_project
from edgedistill.data import read_records
from edgedistill.pipeline import RunFolder
from edgedistill.pipeline.run import Run
project = read_project(Path(sys.argv[1]))
run = Run(project, read_records(project), RunFolder(project.run_folder))
done = run.code_jointly(run.records.unlabelled, "label: responses")
usage = done.usage
print(json.dumps({"labelled": len(done.labels), "set_aside": [row.reason for row in done.set_aside],
                  "asked": usage.asked, "cached": usage.cached, "retries": dict(usage.retries)}))
"""


class Counting:
    """Stands between the labeller and the recorded teacher: counts each body that arrives, and passes it on."""

    def __init__(self, port: int, delay: float) -> None:
        self.seen: Counter[bytes] = Counter()
        counting, lock = self, threading.Lock()

        class Passed(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                length = int(self.headers["content-length"])
                body = self.rfile.read(length)
                if len(body) < length:  # the labeller was killed while it sent this
                    self.close_connection = True
                    return
                with lock:
                    counting.seen[body] += 1
                time.sleep(delay)
                address = f"http://127.0.0.1:{port}{self.path}"
                request = urllib.request.Request(address, body, {"content-type": "application/json"})
                with urllib.request.urlopen(request) as reply:  # noqa: S310  # an address of our own
                    data = reply.read()
                self.send_response(200)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, *_: object) -> None:
                pass  # a labeller that was killed

        self.server = Server(("127.0.0.1", 0), Passed)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.server.server_port)


def teacher(shared: Path, *options: str) -> tuple[subprocess.Popen[str], int]:
    """Start a recorded teacher and return it with its port."""
    program, votes = shared / "teacher" / "recorded_teacher.py", shared / "data" / "beetle" / "votes.jsonl"
    command = [sys.executable, str(program), "--votes", str(votes), "--port", "0", *options]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    line = server.stdout.readline() if server.stdout else ""
    return server, int(line.split("127.0.0.1:")[1].split("/")[0])


def counts(port: int) -> dict[str, int]:
    """What a recorded teacher was asked."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/requests") as reply:  # an address of our own
        found: dict[str, int] = json.load(reply)
    return found


def write_project(folder: Path, shared: Path, count: int, port: int) -> Path:
    """Write a project with so many distinct responses to label."""
    columns = ("id", "question", "reference_answer", "response", "label")
    rows: dict[tuple[str, ...], dict[str, Any]] = {}
    for line in (shared / "data" / "beetle" / "votes.jsonl").open(encoding="utf-8"):
        row = json.loads(line)
        key = tuple(" ".join((row.get(name) or "").split()) for name in columns[1:4])
        if len(row["votes"]) >= 3 and row["response"].strip():  # three votes are asked for
            rows.setdefault(key, row | {"label": row["votes"][0]["label"]})
    chosen = list(rows.values())
    files = {"human.csv": (chosen[count : count + 60], columns), "responses.csv": (chosen[:count], columns[:4])}
    for name, (part, wanted) in files.items():
        with (folder / name).open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, wanted, extrasaction="ignore", lineterminator="\n")
            writer.writeheader()
            writer.writerows(part)
    project = folder / "project.yaml"
    project.write_text(PROJECT.format(name="faults", address=f"http://127.0.0.1:{port}/v1"), "utf-8")
    return project


def stored(project: Path) -> int:
    """How many answers the project's cache holds; all of them are checked."""
    from edgedistill.teacher import AnswerCache

    with AnswerCache(project.parent / "teacher-cache") as cache:
        found = cache.verify()
    if found.damaged:
        sys.exit(f"{len(found.damaged)} damaged answers")
    return found.entries


def label(project: Path) -> "subprocess.CompletedProcess[str]":
    """Run the labeller to its end, in a process of its own."""
    return subprocess.run([sys.executable, "-c", LABEL, str(project)], stdout=subprocess.PIPE, text=True, check=False)


def faults(shared: Path, count: int, seed: int) -> bool:
    """Label under faults; say whether every vote is accounted for and none was paid twice."""
    server, port = teacher(shared, "--fault", FAULTS, "--slow", "1", "--seed", str(seed))
    try:
        with tempfile.TemporaryDirectory() as folder:
            project = write_project(Path(folder), shared, count, port)
            start = time.perf_counter()
            done = label(project)
            seconds = time.perf_counter() - start
            message = json.loads(done.stdout) if done.returncode == 0 else {}
            answers, seen = stored(project), counts(port)
    finally:
        server.terminate()
        server.wait()
    good = seen["requests"] - sum(seen.get(f"fault_{name}", 0) for name in UNUSABLE)
    print(f"faults: exit {done.returncode}, {seconds:.0f} s, {seen['seen']} requests; labeller's account: {message}")
    print(f"  answers without a fault that the server gave: {good}; answers in the cache: {answers}")
    accounted = message.get("labelled", 0) + len(message.get("set_aside", []))
    print(f"  responses accounted for: {accounted} of {count}; votes in the cache: {answers} of {count * 3}")
    return done.returncode == 0 and good == answers and accounted == count and message["asked"] == seen["seen"]


def kills(shared: Path, count: int, times: int, seed: int) -> bool:
    """Kill the labeller at random moments; say whether no more than what was in flight was asked again."""
    server, behind = teacher(shared)
    counting = Counting(behind, delay=0.03)
    chance = random.Random(seed)  # noqa: S311  # no secret
    beyond = 0
    try:
        with tempfile.TemporaryDirectory() as folder:
            project = write_project(Path(folder), shared, count, counting.port)
            for number in range(times):
                until = int(count * 3 * (number + chance.random()) / times)
                beyond += killed(project, counting, until)
            done = label(project)
            message, answers = json.loads(done.stdout), stored(project)
    finally:
        counting.server.shutdown()
        server.terminate()
        server.wait()
    repeated = sum(number - 1 for number in counting.seen.values())
    print(f"kills: {times}, exit {done.returncode} at last, {answers} answers in the cache, account: {message}")
    print(f"  requests repeated: {repeated} (at most {16 * times} in flight); beyond those in flight: {beyond}")
    return done.returncode == 0 and answers == count * 3 and beyond == 0 and repeated <= 16 * times


def killed(project: Path, counting: Counting, until: int) -> int:
    """Run the labeller until the server has seen so many requests, then kill it; return what was lost beyond 16."""
    child = subprocess.Popen([sys.executable, "-c", LABEL, str(project)], stdout=subprocess.DEVNULL)
    while sum(counting.seen.values()) < until and child.poll() is None:
        time.sleep(0.002)
    child.send_signal(signal.SIGKILL)
    child.wait()
    time.sleep(0.3)  # the server finishes what it was asked
    lost = len(counting.seen) - stored(project)
    print(
        f"  killed after {sum(counting.seen.values())} requests: {lost} of them have no answer in the cache", flush=True
    )
    return max(0, lost - 16)


def main() -> None:
    """Run both and exit 1 where a figure is not as it should be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shared", type=Path)
    parser.add_argument("--responses", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    sound = [
        kills(given.shared, given.responses, given.kills, given.seed),
        faults(given.shared, given.responses, given.seed),
    ]
    sys.exit(0 if all(sound) else 1)


if __name__ == "__main__":
    main()
