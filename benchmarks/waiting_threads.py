"""How much longer does training take on a busy machine where OpenMP's threads wait in a loop?

    python benchmarks/waiting_threads.py --out docs/results/waiting_threads.json

One epoch of MiniLM on 160 responses of the example lesson, in a process of its own, while one other process computes on
each core: with OpenMP's default, and with OMP_WAIT_POLICY=PASSIVE, in turns. The figure is a ratio of medians.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROUNDS = 3
TRAIN = """
import pandas as pd, time
import os
wanted = os.environ.pop("WANTED", "")
os.environ["OMP_WAIT_POLICY"] = wanted or "ACTIVE"
if not wanted:
    os.environ.pop("OMP_WAIT_POLICY")
import torch  # OpenMP reads the environment here, before edgedistill can set it
import edgedistill as ed
rows = pd.read_csv("examples/praise/human.csv").head(220)
labels = [ed.Label(name, "") for name in sorted(rows.label.unique())]
task = ed.Task("nominal", labels=labels)
student = ed.StudentClassifier(task=task, backbone="minilm", epochs=1)
train, validation = rows.head(160), rows.tail(60)
start = time.perf_counter()
student.fit(train, "label", validation=validation)
print(time.perf_counter() - start)
"""
BUSY = "while True: pass"


def seconds(policy: str) -> float:
    """Return the seconds of one training."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("OMP_")} | {"WANTED": policy}
    ended = subprocess.run([sys.executable, "-c", TRAIN], env=environ, capture_output=True, text=True, check=True)
    return float(ended.stdout.split()[-1])


def main() -> None:
    """Measure with and without other load."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    found: dict[str, object] = {"cores": cores, "rounds": ROUNDS}
    for load, number in (("alone", 0), ("busy", cores)):
        others = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(number)]
        times: dict[str, list[float]] = {"": [], "PASSIVE": []}
        try:
            for _ in range(ROUNDS):
                for policy, taken in times.items():
                    taken.append(seconds(policy))
        finally:
            for other in others:
                other.kill()
                other.wait()
        medians = {policy: statistics.median(taken) for policy, taken in times.items()}
        found[load] = {
            "seconds_default": [round(each, 2) for each in times[""]],
            "seconds_passive": [round(each, 2) for each in times["PASSIVE"]],
            "default_to_passive": round(medians[""] / medians["PASSIVE"], 2),
        }
        print(load, json.dumps(found[load]), time.strftime("%H:%M:%S"), flush=True)
        given.out.write_text(json.dumps(found, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
