"""A nano student beside one with the backbone's six layers, on five sets: κ, bytes of the bundle, texts per second.

    python benchmarks/ladder.py SHARED --out FOLDER --kinds nano frozen
    python benchmarks/ladder.py SHARED --out FOLDER --kinds nano frozen fine-tuned --summary docs/results/ladder.json

SHARED contains `data/` with beetle, networks, babe, hyperbole and intimacy. Rows are those of `students.py`: the first
400 shuffled train rows validate, ROWS others train. FOLDER gets a folder per student, with its checkpoint, the int8
bundle and the labels of the test rows; what is there is not made again, so that a stopped benchmark continues.

The summary has for each set and test file κ of each student and what nano loses to the others, with 95 % intervals over
rows (paired on the same rows), the bytes of each bundle, and the speeds of all bundles of the set measured side by
side: texts per second of processor time from text to score, on one thread, the median of interleaved rounds.
"""

import argparse
import json
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from students import TASKS, Run, parts

from edgedistill.agreement import Estimate, agreement
from edgedistill.agreement.paired import change
from edgedistill.data.types import MixtureRow, ValidationRows
from edgedistill.project.student import StudentSection
from edgedistill.student import backbone_folder, train_student
from edgedistill.student.frozen import train_frozen_student
from edgedistill.student.model import choose_max_tokens
from edgedistill.student.nano import train_nano_student
from edgedistill_export import ExportPlan, export_bundle
from edgedistill_serve import Bundle, Scorer
from edgedistill_serve.task.task import task_inputs

CONSOLE = Console(width=150)
KINDS = ("nano", "frozen", "fine-tuned")
ROUNDS, TIMED_ROWS = 7, 200


def train(kind: str, run: Run, data: Path, folder: Path) -> None:
    """Train a student, export it with int8, and write the labels of the test rows."""
    training, validation, tests = parts(run, data)
    task, backbone = TASKS[run.data], backbone_folder("minilm", Path())
    max_tokens = choose_max_tokens(backbone, task, (row.inputs for row in training))
    start = time.process_time()
    _train(kind, run, training, validation, max_tokens, folder)
    seconds = time.process_time() - start
    rows = [dict(row.response.inputs) for row in validation]
    plan = ExportPlan(run.data, task, max_tokens, "int8", 0.05, fp32_beside=False)
    exported = export_bundle(folder / "student", folder / "bundle", plan, rows)
    scorer = Scorer(exported.bundle)
    labels = {
        name: [score.label for score in scorer.score([task_inputs(row, task) for row in test])]
        for name, test in tests.items()
    }
    result = {
        "run": asdict(run),
        "kind": kind,
        "rows": len(training),
        "max_tokens": max_tokens,
        "training_cpu_seconds": round(seconds, 1),
        "served": exported.served,
        "bytes": sum(file.stat().st_size for file in (folder / "bundle").rglob("*") if file.is_file()),
        "int8_flips": [exported.steps[-1].flips, exported.steps[-1].rows],
        "codes": {name: [row["label"] for row in test] for name, test in tests.items()},
        "labels": labels,
    }
    (folder / "result.part").write_text(json.dumps(result), "utf-8")
    (folder / "result.part").rename(folder / "result.json")


def _train(
    kind: str, run: Run, training: Sequence[MixtureRow], validation: ValidationRows, max_tokens: int, folder: Path
) -> None:
    task, backbone = TASKS[run.data], backbone_folder("minilm", Path())
    section = StudentSection(max_tokens=max_tokens, seeds=(run.seed,))
    if kind == "nano":
        section = section.model_copy(update={"kind": "nano"})
        train_nano_student(training, validation, task, section, backbone, folder / "student", folder / "start")
    elif kind == "frozen":
        train_frozen_student(training, validation, task, section, backbone, folder / "student")
    else:
        kept = folder / "search"
        kept.mkdir(parents=True, exist_ok=True)
        train_student(training, validation, task, section, backbone, folder / "student", kept=kept)


def speeds(folders: Mapping[str, Path], rows: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    """Texts per second of processor time of each bundle, and the ratio to those of the fine-tuned student."""
    scorers = {kind: Scorer(Bundle.load(each / "bundle"), threads=1, score_cache=0) for kind, each in folders.items()}
    rounds: list[dict[str, float]] = []
    for _ in range(ROUNDS):
        measured = {}
        for kind, scorer in scorers.items():
            start = time.process_time()
            scorer.score(rows)
            measured[kind] = len(rows) / max(time.process_time() - start, 1e-9)
        rounds.append(measured)
    return {
        kind: {
            "texts_per_second": round(statistics.median(each[kind] for each in rounds), 1),
            "cpu_seconds_per_1000": round(1000 / statistics.median(each[kind] for each in rounds), 3),
            **(
                {"times_fine_tuned": round(statistics.median(each[kind] / each["fine-tuned"] for each in rounds), 1)}
                if "fine-tuned" in scorers
                else {}
            ),
        }
        for kind in scorers
    }


def summarize(folders: Mapping[str, Path], run: Run, data: Path) -> dict[str, Any]:
    """Return the figures of one set and seed."""
    task, (_, _, tests) = TASKS[run.data], parts(run, data)
    results = {kind: json.loads((folder / "result.json").read_text("utf-8")) for kind, folder in folders.items()}
    rows = [task_inputs(row, task) for test in tests.values() for row in test][:TIMED_ROWS]
    measured: dict[str, Any] = {
        kind: {name: found[name] for name in ("rows", "bytes", "served", "int8_flips", "training_cpu_seconds")}
        for kind, found in results.items()
    }
    for kind, found in speeds(folders, rows).items():
        measured[kind] |= found
    for kind, found in results.items():
        measured[kind]["kappa"] = {
            name: _estimate(agreement(codes, found["labels"][name], task).kappa)
            for name, codes in found["codes"].items()
        }
        if "nano" in results and kind != "nano":
            measured[kind]["kappa_that_nano_loses"] = {
                name: _estimate(change(codes, found["labels"][name], results["nano"]["labels"][name], task).kappa_lost)
                for name, codes in found["codes"].items()
            }
    return measured


def _estimate(found: Estimate | None) -> list[float] | None:
    return None if found is None else [round(value, 3) for value in (found.value, found.low, found.high)]


def main() -> None:
    """Train what is missing; write the summary of what is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shared", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sets", nargs="*", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--kinds", nargs="*", default=list(KINDS), choices=KINDS)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--seeds", nargs="*", type=int, default=[0])
    parser.add_argument("--summary", type=Path)
    given = parser.parse_args()
    data, summary = given.shared / "data", {}
    for seed in given.seeds:
        for name in given.sets:
            run = Run("all-rows", name, "human", given.rows, "standard", seed)
            folders = {kind: given.out / f"{name}-{given.rows}-{kind}-{seed}" for kind in KINDS}
            for kind in given.kinds:
                if not (folders[kind] / "result.json").exists():
                    train(kind, run, data, folders[kind])
            there = {kind: folder for kind, folder in folders.items() if (folder / "result.json").exists()}
            summary[f"{name}-{seed}"] = summarize(there, run, data)
            CONSOLE.print(name, seed, summary[f"{name}-{seed}"])
            if given.summary:
                given.summary.write_text(json.dumps(summary, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
