"""The whole pipeline on real learners' answers: Beetle, with a recorded teacher.

    python benchmarks/beetle.py SHARED --out FOLDER

SHARED contains `data/beetle/` (train.csv, test_ua.csv, votes.jsonl) and `teacher/recorded_teacher.py`, an
OpenAI-compatible server that replays recorded answers. Three students are trained, each with several seeds:

    a   250 human-coded rows
    b   the teacher-labelled rows
    c   both

Test rows are test_ua (439). Of the 800 train rows with recorded answers of the teacher, 160 are validation rows, on
which the gate is evaluated, and 640 are teacher-labelled. With `--validation apart` the validation rows are 160 other
rows: then all 800 are teacher-labelled and the gate cannot be evaluated.
"""

import argparse
import csv
import json
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

INPUTS = ("question", "reference_answer", "response")
CONDITIONS = {
    "a": {"human": "all", "teacher": 0},
    "b": {"human": 0, "teacher": "all"},
    "c": {"human": "all", "teacher": "all"},
}
PROJECT = """\
name: {name}
task:
  kind: nominal
  instructions: >
    A learner in a tutor on basic electricity answered a question. Compare the answer with the reference answers, which
    are separated by ||.
  labels:
    - {{name: correct, definition: The answer says what a reference answer says.}}
    - {{name: contradictory, definition: The answer contradicts the reference answers.}}
    - {{name: incorrect, definition: "The answer is partial, irrelevant, or says that the learner does not know."}}
  inputs: [question, reference_answer, response]
data: {{human: human.csv, unlabelled: responses.csv}}
teacher:
  base_url: {address}
  model: recorded
  api_key_env: null
  votes: 3
  tries: 2
  gate: {{metric: kappa, at_least: 0.6}}
mix: {{human: {human}, teacher: {teacher}}}
student:
  max_tokens: 128
  search: {{learning_rate: [5e-5], batch_size: [16], epochs: [5]}}
  seeds: [{seed}]
export: {{precision: int8, max_flip_rate: 0.01}}
"""


def write_rows(path: Path, rows: list[dict[str, str]], columns: tuple[str, ...]) -> None:
    """Write a CSV file with these columns."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def write_data(data: Path, folder: Path, *, apart: bool) -> None:
    """Sample the human-coded rows and the rows to label, reproducibly."""

    def read(name: str) -> list[dict[str, str]]:
        with (data / name).open(encoding="utf-8", newline="") as stream:
            return list(csv.DictReader(stream))

    train, test = read("train.csv"), read("test_ua.csv")
    votes = (json.loads(line) for line in (data / "votes.jsonl").open(encoding="utf-8"))
    recorded = {row["id"] for row in votes if row["part"] == "train"}
    draw = random.Random(0)  # noqa: S311 - a draw of rows, not a secret
    covered = [row for row in train if row["id"] in recorded]
    others = [row for row in train if row["id"] not in recorded]
    draw.shuffle(covered)
    draw.shuffle(others)
    human = [row | {"split": "train"} for row in others[:250]]
    human += [row | {"split": "validation"} for row in (others[250:410] if apart else covered[:160])]
    human += [row | {"split": "test"} for row in test]
    write_rows(folder / "human.csv", human, ("id", *INPUTS, "label", "split"))
    write_rows(folder / "responses.csv", covered, ("id", *INPUTS))


def run(folder: Path, name: str, seed: int, address: str) -> dict[str, Any]:
    """Run one condition with one seed and return the results in its run folder."""
    project = folder / f"{name}{seed}.yaml"
    project.write_text(PROJECT.format(name=project.stem, seed=seed, address=address, **CONDITIONS[name]), "utf-8")
    command = [Path(sys.executable).parent / "edgedistill", "run", project, "--accept-teacher"]
    start = time.monotonic()
    with (folder / f"{project.stem}.log").open("w") as log:
        subprocess.run(command, check=True, stdout=log, stderr=subprocess.STDOUT)
    seconds = time.monotonic() - start
    results = folder / "runs" / project.stem
    run_log, evaluation, gate = (
        json.loads((results / file).read_text("utf-8")) for file in ("run.json", "evaluation.json", "gate.json")
    )
    return {
        "stages": run_log["stages"],
        "rows": run_log["rows"],
        "evaluation": evaluation,
        "gate": gate,
        "wall": seconds,
    }


def print_results(results: dict[str, list[dict[str, Any]]]) -> None:
    """Print the results: the gate, the three students and the teacher, the int8 step, seconds per stage."""
    first = results["a"][0]
    print("rows:", *(json.dumps(row["used"] | row["set_aside"]) for row in first["rows"]))
    print("gate on validation rows:", json.dumps(first["gate"]["agreement"], indent=None))
    print(f"teacher on test_ua: {format_agreement(first['evaluation']['agreement']['teacher'])}")
    for name, runs in results.items():
        rows = runs[0]["stages"]["mix"]["rows"]
        for figure in ("macro_f1", "kappa", "accuracy"):
            found = [each["evaluation"]["agreement"]["student"][figure]["value"] for each in runs]
            spread = statistics.stdev(found) if len(found) > 1 else 0.0
            mean = f"{figure} {statistics.mean(found):.3f} ± {spread:.3f} (sd of {len(found)} seeds)"
            print(f"({name}) {rows} rows  {mean}", found)
        print(f"    seed {0}: {format_agreement(runs[0]['evaluation']['agreement']['student'])}")
        for each in runs:
            flips = [
                f"{step['before']}→{step['after']} {step['flips']}/{step['rows']}"
                for step in each["stages"]["export"]["steps"]
            ]
            seconds = {stage: entry["seconds"] for stage, entry in each["stages"].items()}
            print(
                "   ",
                ", ".join(flips),
                "serves",
                each["stages"]["export"]["served"],
                seconds,
                f"wall {each['wall']:.0f} s",
            )


def format_agreement(agreement: dict[str, Any]) -> str:
    """Agreement in one line."""
    names = ("accuracy", "macro_f1", "kappa")
    return ", ".join("{} {value:.3f} [{low:.3f}, {high:.3f}]".format(name, **agreement[name]) for name in names)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shared", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--validation", choices=["recorded", "apart"], default="recorded")
    parser.add_argument("--port", type=int, default=8817)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    data = arguments.shared / "data" / "beetle"
    write_data(data, arguments.out, apart=arguments.validation == "apart")
    script = arguments.shared / "teacher" / "recorded_teacher.py"
    command = [sys.executable, script, "--votes", data / "votes.jsonl", "--port", str(arguments.port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as teacher:
        try:
            print(teacher.stdout.readline().strip())  # type: ignore[union-attr]  # stdout is a pipe
            address = f"http://127.0.0.1:{arguments.port}/v1"
            print_results(
                {name: [run(arguments.out, name, seed, address) for seed in arguments.seeds] for name in CONDITIONS}
            )
        finally:
            teacher.terminate()


if __name__ == "__main__":
    main()
