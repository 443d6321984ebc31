"""A shrunk student compared with the fine-tuned one that it was distilled from, on Beetle.

    python benchmarks/shrunk_student.py choose DATA OUT STUDENT [STUDENT ...] --layers 2 3 4 --epochs 6
    python benchmarks/shrunk_student.py report DATA OUT STUDENT [STUDENT ...] --layers 3 --epochs 6

DATA contains `beetle/`; a STUDENT is a checkpoint of `quantization_students.py`. Training texts are the rows of
train.csv except 400 validation rows, and synthetic.csv, without labels. `choose` omits the texts of eight questions
and evaluates every setting on the validation rows and on the rows of train.csv with one of the eight questions, which
represent new questions. `report` trains on all texts, exports the fine-tuned student with the project file's defaults
and the shrunk one with int8 only, and then evaluates both on the test rows. OUT/report.json has, for every student and
over all: bytes of the whole bundle, texts per second with one and two callers, kappa, and the loss of kappa compared
with the fine-tuned student in PyTorch. Existing shrunk students in OUT are not trained again.
"""

import argparse
import csv
import json
import random
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from quantization_sets import LESSONS, MAX_TOKENS, VALIDATION_ROWS, Row
from rich.console import Console

from edgedistill.agreement import Estimate, agreement
from edgedistill.agreement.confusion import kappas
from edgedistill.agreement.paired import change
from edgedistill.project.student import ShrinkSection
from edgedistill.student.compression import compress_student
from edgedistill_export import Checkpoint, ExportPlan, export_bundle
from edgedistill_export.quantize.speed import measure_speeds
from edgedistill_serve.bundle.loading import Bundle
from edgedistill_serve.bundle.manifest import MODEL_FILES
from edgedistill_serve.scoring.encoding import Encoder
from edgedistill_serve.scoring.scorer import Scorer
from edgedistill_serve.scoring.session import Session
from edgedistill_serve.task.task import task_inputs

CONSOLE = Console(width=160)
TASK = LESSONS["beetle"].task
TESTS = ("test_ua", "test_uq")
FIRST = "fine-tuned"
CALLERS = (1, 2)
ROUNDS = 7
RESAMPLES = 2000
QUESTIONS = 8


def read(file: Path) -> list[Row]:
    """Rows of a CSV file, with the first reference answer only."""
    with file.open(encoding="utf-8", newline="") as stream:
        return [row | {"reference_answer": row["reference_answer"].split(" || ")[0]} for row in csv.DictReader(stream)]


def split_rows(data: Path) -> tuple[list[Row], list[dict[str, str]]]:
    """The validation rows of `quantization_sets.py`, and every other text once."""
    rows = read(data / "train.csv")
    random.Random(0).shuffle(rows)  # noqa: S311 - a draw of rows, not a secret
    validation, others = rows[:VALIDATION_ROWS], rows[VALIDATION_ROWS:] + read(data / "synthetic.csv")
    excluded = {tuple(task_inputs(row, TASK).values()) for row in validation}
    excluded |= {tuple(task_inputs(row, TASK).values()) for test in TESTS for row in read(data / f"{test}.csv")}
    texts = {tuple(task_inputs(row, TASK).values()): task_inputs(row, TASK) for row in others}
    return validation, [text for whole, text in texts.items() if whole not in excluded]


def labels(student: Checkpoint, rows: list[Row]) -> list[str]:
    """The labels predicted by a student in PyTorch."""
    return [TASK.names[best] for best in student.logits(rows).argmax(axis=1)]


def shrink(student: Path, folder: Path, section: ShrinkSection, texts: list[dict[str, str]], data: Path) -> None:
    """Shrink a student, and compare it on the validation rows and on those of omitted questions."""
    validation, _ = split_rows(data)
    rows = [task_inputs(row, TASK) for row in validation]
    shrunk = compress_student(student, folder, texts, rows, TASK, section, MAX_TOKENS)
    epochs = f"epoch {shrunk.best.epoch} of {section.epochs}"
    CONSOLE.print(f"{student.name}: layers {shrunk.layers}, {epochs}, {len(texts)} texts")
    known = {text["question"] for text in texts}
    new_questions = [row for row in read(data / "train.csv") if row["question"] not in known]
    for name, evaluated in (("validation rows", validation), ("rows of other questions", new_questions)):
        if evaluated:
            before, after = (labels(Checkpoint.load(each, TASK, MAX_TOKENS), evaluated) for each in (student, folder))
            found = change([row["label"] for row in evaluated], before, after, TASK)
            CONSOLE.print(f"  {len(evaluated)} {name}: flips {found.flip_rate}, kappa lost {found.kappa_lost}")


def without_questions(texts: list[dict[str, str]], count: int) -> list[dict[str, str]]:
    """The texts without those of some fixed questions."""
    questions = sorted({text["question"] for text in texts})
    left_out = set(random.Random(0).sample(questions, count))  # noqa: S311 - a draw of questions, not a secret
    return [text for text in texts if text["question"] not in left_out]


def exported(student: Path, folder: Path, data: Path, *, fp32_beside: bool) -> Bundle:
    """Export a student as int8."""
    plan = ExportPlan("beetle", TASK, MAX_TOKENS, "int8", 0.01, fp32_beside=fp32_beside)
    result = export_bundle(student, folder, plan, [task_inputs(row, TASK) for row in split_rows(data)[0]])
    CONSOLE.print(f"{folder}: serves {result.served}", *result.notes)
    return result.bundle


def timed(bundles: Mapping[str, Bundle], data: Path) -> dict[str, dict[int, dict[str, float]]]:
    """Texts per second of processor time, and the ratio to the first bundle, by bundle and number of callers.

    Medians of interleaved rounds.
    """
    rows = [task_inputs(row, TASK) for row in split_rows(data)[0]]
    encoded = {name: Encoder(bundle.tokenizer_file, MAX_TOKENS).encode(rows) for name, bundle in bundles.items()}
    graphs = {name: bundle.folder / MODEL_FILES[bundle.manifest.precision] for name, bundle in bundles.items()}
    sessions = {name: Session(graph) for name, graph in graphs.items()}
    rounds = [
        {
            name: measure_speeds({name: sessions[name]}, encoded[name], callers=CALLERS, rounds=1)[name].alone
            for name in bundles
        }
        for _ in range(ROUNDS)
    ]
    return {
        name: {
            callers: {
                "texts_per_second": statistics.median(each[name][callers] for each in rounds),
                "times": statistics.median(each[name][callers] / each[FIRST][callers] for each in rounds),
            }
            for callers in CALLERS
        }
        for name in bundles
    }


def predicted_labels(student: Path, bundles: Mapping[str, Bundle], rows: list[Row]) -> dict[str, list[str]]:
    """The labels predicted by the fine-tuned student in PyTorch, and by every bundle."""
    inputs = [task_inputs(row, TASK) for row in rows]
    served = {name: [score.label for score in Scorer(bundle).score(inputs)] for name, bundle in bundles.items()}
    return {FIRST: labels(Checkpoint.load(student, TASK, MAX_TOKENS), rows)} | {
        f"{name}, served": found for name, found in served.items()
    }


def report(student: Path, section: ShrinkSection, out: Path, data: Path) -> dict[str, Any]:
    """Bytes and speed of one student's bundles, and their labels of the test rows."""
    folder = out / student.name
    shrunk = folder / "shrunk"
    if not shrunk.exists():
        shrink(student, shrunk, section, split_rows(data)[1], data)
    bundles = {
        FIRST: exported(student, folder / "bundle", data, fp32_beside=True),
        "shrunk": exported(shrunk, folder / "bundle-shrunk", data, fp32_beside=False),
    }
    sizes = {
        name: sum(file.stat().st_size for file in bundle.folder.rglob("*") if file.is_file())
        for name, bundle in bundles.items()
    }
    found: dict[str, Any] = {"bytes": sizes, "speed": timed(bundles, data)}
    found["labels"] = {test: predicted_labels(student, bundles, read(data / f"{test}.csv")) for test in TESTS}
    CONSOLE.print(student.name, sizes, found["speed"])
    return found


def summarize(found: Sequence[Mapping[str, Any]], data: Path) -> dict[str, Any]:
    """Results of every student, their means over students, and the mean loss of kappa with its interval."""
    results: dict[str, Any] = {
        "bytes": [each["bytes"] for each in found],
        "speed": [each["speed"] for each in found],
        "mean_times": {
            name: {
                callers: statistics.mean(each["speed"][name][callers]["times"] for each in found) for callers in CALLERS
            }
            for name in found[0]["speed"]
        },
    }
    for test in TESTS:
        codes = [row["label"] for row in read(data / f"{test}.csv")]
        predicted = [each["labels"][test] for each in found]
        results[test] = {
            "kappa": {
                name: [agreement(codes, one[name], TASK).kappa.value for one in predicted] for name in predicted[0]
            },
            "lost": {
                name: {
                    "of_each": [asdict(change(codes, one[FIRST], one[name], TASK)) for one in predicted],
                    "mean": asdict(mean_lost(codes, [(one[FIRST], one[name]) for one in predicted])),
                }
                for name in predicted[0]
                if name != FIRST
            },
        }
    return results


def mean_lost(codes: Sequence[str], students: Sequence[tuple[list[str], list[str]]]) -> Estimate:
    """Mean over students of the kappa lost; resamples draw the rows, the same ones for all, and the students."""
    draw = np.random.default_rng(0)
    rows = np.concatenate(
        [np.ones((1, len(codes))), draw.multinomial(len(codes), [1 / len(codes)] * len(codes), RESAMPLES)]
    )
    lost = np.array([kappas_of(codes, before, rows) - kappas_of(codes, after, rows) for before, after in students])
    drawn = draw.integers(len(students), size=(RESAMPLES, len(students)))
    low, high = np.percentile(lost[drawn, np.arange(1, RESAMPLES + 1)[:, None]].mean(axis=1), (2.5, 97.5))
    return Estimate(float(lost[:, 0].mean()), float(low), float(high))


def kappas_of(codes: Sequence[str], predicted: Sequence[str], weights: np.ndarray) -> np.ndarray:
    """Kappa by resample; ``weights`` of shape (resamples, rows): how often each row was drawn."""
    names = TASK.names
    cells = [names.index(code) * len(names) + names.index(label) for code, label in zip(codes, predicted, strict=True)]
    confusions = (weights @ np.eye(len(names) ** 2)[cells]).reshape(-1, len(names), len(names))
    return kappas(confusions.astype(np.int64), quadratic=False)


def main() -> None:
    """Compare settings on validation rows, or report results on test rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["choose", "report"])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("students", type=Path, nargs="+")
    parser.add_argument("--layers", type=int, nargs="+", default=[ShrinkSection().layers])
    parser.add_argument("--epochs", type=int, nargs="+", default=[ShrinkSection().epochs])
    parser.add_argument("--temperature", type=float, default=ShrinkSection().temperature)
    parser.add_argument("--learning-rate", type=float, default=ShrinkSection().learning_rate)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    sections = [
        ShrinkSection(
            layers=layers, epochs=epochs, temperature=arguments.temperature, learning_rate=arguments.learning_rate
        )
        for layers in arguments.layers
        for epochs in arguments.epochs
    ]
    data = arguments.data / "beetle"
    if arguments.what == "choose":
        texts = without_questions(split_rows(data)[1], QUESTIONS)
        for section in sections:
            for student in arguments.students:
                shrink(
                    student, arguments.out / f"{student.name}-{section.layers}-{section.epochs}", section, texts, data
                )
        return
    found = [report(student, sections[0], arguments.out, data) for student in arguments.students]
    results = summarize(found, data)
    (arguments.out / "report.json").write_text(json.dumps(results, indent=2) + "\n", "utf-8")
    CONSOLE.print_json(data=results)


if __name__ == "__main__":
    main()
