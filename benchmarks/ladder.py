"""Students of four sizes on five sets: κ, bytes, texts per second, and how often the smallest-not-worse rule is right.

    python benchmarks/ladder.py SHARED --out FOLDER --sizes "6 layers" nano frozen
    python benchmarks/ladder.py SHARED --out FOLDER --summary docs/results/ladder.json

SHARED contains `data/` with beetle, networks, babe, hyperbole and intimacy. As in `students.py`, 400 train rows
validate and ROWS others train, all with human codes. The students are made as `student: {sizes: [nano, frozen, 3, 6]}`
makes them: the six layers are fine-tuned, three layers and nano learn from them on the texts of all other
train rows, and the frozen encoder has a linear classifier. FOLDER gets a folder per set and seed with the checkpoints,
the int8 bundles and the labels of validation and test rows; what is there is not made again.

The summary has for each set, seed and size κ on each test file and what the size loses to the six layers, with 95 %
intervals over rows (paired on the same rows); the bytes of the bundle; and texts per second of processor time from text
to score, all sizes in turns on one thread, the median of the rounds. `rule` repeats the choice of `student.sizes` on
random samples of 100, 200 and 400 validation rows, and counts how often the size that it picks loses at most the margin
(.03 of κ) to the best size on the test rows.
"""

import argparse
import json
import statistics
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from students import TASKS, Run, parts

from edgedistill.agreement import Estimate, agreement
from edgedistill.agreement.confusion import kappas
from edgedistill.agreement.paired import change
from edgedistill.project.student import ShrinkSection, StudentSection
from edgedistill.student import backbone_folder, train_student
from edgedistill.student.compression import compress_student
from edgedistill.student.frozen import train_frozen_student
from edgedistill.student.model import choose_max_tokens
from edgedistill.student.nano import train_nano_student
from edgedistill.student.sizes import with_soft_labels
from edgedistill_export import ExportPlan, export_bundle
from edgedistill_export.checkpoint import Checkpoint
from edgedistill_serve import Bundle, Scorer
from edgedistill_serve.task.task import Task, task_inputs

CONSOLE = Console(width=150)
SIZES = ("nano", "3 layers", "6 layers", "frozen")
"""In ascending order of bytes, as far as int8 is served."""
LARGEST = "6 layers"
MARGIN = 0.03
ROUNDS, TIMED_ROWS, DRAWS, RESAMPLES = 7, 200, 200, 200


def make(run: Run, data: Path, folder: Path, sizes: Sequence[str]) -> None:
    """Train and export the students that are missing, and write the labels of validation and test rows."""
    training, validation, tests, texts = parts(run, data)
    task, backbone = TASKS[run.data], backbone_folder("minilm", Path())
    max_tokens = choose_max_tokens(backbone, task, (row.inputs for row in training))
    section = StudentSection(max_tokens=max_tokens, seeds=(run.seed,))
    validating = [dict(row.response.inputs) for row in validation]
    inputs = {"validation": validating} | {
        name: [{one: row[one] for one in task.inputs} for row in rows] for name, rows in tests.items()
    }
    codes = {"validation": list(validation.labels)} | {
        name: [row["label"] for row in rows] for name, rows in tests.items()
    }
    largest = folder / LARGEST / "student"
    for size in (LARGEST, "nano", "frozen", "3 layers"):
        place = folder / size
        if size not in sizes or (place / "result.json").exists():
            continue
        start = time.process_time()
        if size == LARGEST:
            train_student(training, validation, task, section, backbone, largest)
        elif size == "3 layers":
            compress_student(
                largest, place / "student", texts, validating, task, ShrinkSection(layers=3, seed=run.seed), max_tokens
            )
        elif size == "nano":
            rows = with_soft_labels(training, texts, Checkpoint.load(largest, task, max_tokens), validation)
            loss = section.loss.model_copy(update={"targets": "soft"})
            small = section.model_copy(update={"kind": "nano", "loss": loss})
            train_nano_student(rows, validation, task, small, backbone, place / "student", place / "start")
        else:
            train_frozen_student(training, validation, task, section, backbone, place / "student")
        seconds = time.process_time() - start
        plan = ExportPlan(run.data, task, max_tokens, "int8", 0.05, fp32_beside=False)
        exported = export_bundle(place / "student", place / "bundle", plan, validating)
        scorer = Scorer(exported.bundle)
        result = {
            "rows": len(training),
            "training_cpu_seconds": round(seconds, 1),
            "served": exported.served,
            "bytes": sum(file.stat().st_size for file in (place / "bundle").rglob("*") if file.is_file()),
            "codes": codes,
            "labels": {
                name: [score.label for score in scorer.score([task_inputs(row, task) for row in rows])]
                for name, rows in inputs.items()
            },
        }
        (place / "result.part").write_text(json.dumps(result), "utf-8")
        (place / "result.part").rename(place / "result.json")


def speeds_in_turns(
    scorers: Mapping[str, Scorer], rows: Sequence[Mapping[str, str]], rounds: int
) -> list[dict[str, float]]:
    """Texts per second of processor time of each scorer, by round; in a round all score the rows, one after another."""
    found: list[dict[str, float]] = []
    for _ in range(rounds):
        measured = {}
        for name, scorer in scorers.items():
            start = time.process_time()
            scorer.score(rows)
            measured[name] = len(rows) / max(time.process_time() - start, 1e-9)
        found.append(measured)
    return found


def speeds(folder: Path, sizes: Sequence[str], rows: Sequence[Mapping[str, str]]) -> dict[str, dict[str, float]]:
    """Texts per second of processor time of each bundle, and the ratio to those of the six layers."""
    scorers = {size: Scorer(Bundle.load(folder / size / "bundle"), threads=1, score_cache=0) for size in sizes}
    rounds = speeds_in_turns(scorers, rows, ROUNDS)
    return {
        size: {
            "texts_per_second": round(statistics.median(each[size] for each in rounds), 1),
            "cpu_seconds_per_1000": round(1000 / statistics.median(each[size] for each in rounds), 3),
            "times_6_layers": round(statistics.median(each[size] / each[LARGEST] for each in rounds), 1),
        }
        for size in sizes
    }


Codes = NDArray[np.int64]


def kappas_of(drawn: NDArray[np.int64], codes: Codes, labels: Mapping[str, Codes], task: Task) -> dict[str, Any]:
    """κ of each size on each sample of rows, of shape (samples,).

    Args:
        drawn: How often each row is in each sample, of shape (samples, rows).
        codes: Human codes by place of the label.
        labels: Labels of each size.
        task: The task.
    """
    count = len(task.names)
    return {
        size: kappas(
            (drawn @ np.eye(count**2)[codes * count + given]).reshape(-1, count, count),
            quadratic=task.kind == "ordinal",
        )
        for size, given in labels.items()
    }


def picked(drawn: NDArray[np.int64], codes: Codes, labels: Mapping[str, Codes], task: Task) -> str:
    """The smallest size that is not worse than the best; the first sample is the rows, the others resample them."""
    found = kappas_of(drawn, codes, labels, task)
    best = max(labels, key=lambda size: found[size][0])
    for size in labels:
        lost = found[best] - found[size]
        if size == best or np.nanpercentile(lost[1:], 97.5) <= MARGIN:
            return size
    raise AssertionError("the best is not worse than itself")


def rule(results: Mapping[str, Any], task: Task) -> dict[str, Any]:
    """How often the size picked on a sample of validation rows loses at most the margin on the test rows."""
    place = {name: number for number, name in enumerate(task.names)}

    def numbers(names: Sequence[str]) -> Codes:
        return np.array([place[name] for name in names])

    codes = results[LARGEST]["codes"]
    figures: dict[str, Any] = {}
    truth = {}
    for test in codes:
        if test != "validation":
            labels = {size: numbers(results[size]["labels"][test]) for size in results}
            whole = np.ones((1, len(codes[test])), int)
            truth[test] = {
                size: float(each[0]) for size, each in kappas_of(whole, numbers(codes[test]), labels, task).items()
            }
    labels = {size: numbers(results[size]["labels"]["validation"]) for size in results}
    validation = numbers(codes["validation"])
    rng = np.random.default_rng(0)
    for count in (100, 200, 400):
        picks = []
        for _ in range(DRAWS):
            some = rng.choice(len(validation), count, replace=True)
            drawn = np.vstack([np.ones(count, int), rng.multinomial(count, np.full(count, 1 / count), size=RESAMPLES)])
            picks.append(picked(drawn, validation[some], {size: labels[size][some] for size in results}, task))
        figures[f"{count} rows"] = {
            "picked": {size: round(number / DRAWS, 3) for size, number in Counter(picks).items()},
            "right": {
                test: round(sum(max(found.values()) - found[size] <= MARGIN for size in picks) / DRAWS, 3)
                for test, found in truth.items()
            },
        }
    return figures


def summarize(folder: Path, run: Run, data: Path) -> dict[str, Any]:
    """Return the figures of one set and seed."""
    task, tests = TASKS[run.data], parts(run, data)[2]
    files = {size: folder / size / "result.json" for size in SIZES}
    results = {size: json.loads(file.read_text("utf-8")) for size, file in files.items() if file.exists()}
    rows = [task_inputs(row, task) for test in tests.values() for row in test][:TIMED_ROWS]
    measured: dict[str, Any] = {
        size: {name: found[name] for name in ("rows", "bytes", "served", "training_cpu_seconds")}
        for size, found in results.items()
    }
    for size, found in speeds(folder, list(results), rows).items():
        measured[size] |= found
    for size, found in results.items():
        measured[size]["kappa"] = {
            name: _estimate(agreement(codes, found["labels"][name], task).kappa)
            for name, codes in found["codes"].items()
        }
        if size != LARGEST:
            measured[size]["kappa_lost"] = {
                name: _estimate(change(codes, results[LARGEST]["labels"][name], found["labels"][name], task).kappa_lost)
                for name, codes in found["codes"].items()
            }
    return measured | {"rule": rule(results, task)}


def _estimate(found: Estimate | None) -> list[float] | None:
    return None if found is None else [round(value, 3) for value in (found.value, found.low, found.high)]


def main() -> None:
    """Make what is missing; write the summary of what is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shared", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sets", nargs="*", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--sizes", nargs="*", default=list(SIZES), choices=SIZES)
    parser.add_argument("--rows", type=int, default=600)
    parser.add_argument("--seeds", nargs="*", type=int, default=[0])
    parser.add_argument("--summary", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    data, summary = given.shared / "data", {}
    for seed in given.seeds:
        for name in given.sets:
            run = Run("all-rows", name, "human", given.rows, "standard", seed)
            folder = given.out / f"{name}-{given.rows}-{seed}"
            make(run, data, folder, given.sizes)
            if given.summary:
                summary[f"{name}-{seed}"] = summarize(folder, run, data)
                CONSOLE.print(name, seed, summary[f"{name}-{seed}"])
                given.summary.write_text(json.dumps(summary, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
