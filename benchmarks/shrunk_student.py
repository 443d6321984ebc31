"""A shrunk student beside the fine-tuned one that taught it, on Beetle.

    python benchmarks/shrunk_student.py choose DATA OUT STUDENT [STUDENT ...] --layers 2 3 4 --epochs 6
    python benchmarks/shrunk_student.py report DATA OUT STUDENT [STUDENT ...] --layers 3 --epochs 6

DATA holds `beetle/`; a STUDENT is a checkpoint of `quantization_students.py`. Texts to learn from are the rows of
train.csv but for 400 validation rows, and synthetic.csv, without their labels. `choose` leaves out the texts of
eight questions, and prints what every choice gives on the validation rows and on the rows of train.csv with one of
the eight, which stand for questions to come. `report` learns from all texts, exports the fine-tuned student with
the project file's defaults and the shrunk one without fp32 beside int8, and only then looks at the test rows: kappa
of both, what is lost with its paired 95 % interval, bytes of the whole bundle, and texts per second alone on one
thread, the two in turns. A shrunk student that lies under OUT already is not made again.
"""

import argparse
import csv
import json
import random
import statistics
from dataclasses import asdict
from pathlib import Path

import torch
from quantization_sets import LESSONS, MAX_TOKENS, VALIDATION_ROWS, Row
from rich.console import Console

from edgedistill.agreement import agreement
from edgedistill.agreement.paired import change
from edgedistill.project.shrink_section import ShrinkSection
from edgedistill.student.shrinking import shrink_student
from edgedistill_export import Checkpoint, ExportPlan, export_bundle
from edgedistill_export.speed import speeds
from edgedistill_serve.bundle import Bundle
from edgedistill_serve.encoding import Encoder
from edgedistill_serve.manifest import MODEL_FILES
from edgedistill_serve.scorer import Scorer
from edgedistill_serve.session import Session
from edgedistill_serve.task import inputs_of

CONSOLE = Console(width=160)
TASK = LESSONS["beetle"].task
TESTS = ("test_ua", "test_uq")
ROUNDS = 7
QUESTIONS = 8


def read(file: Path) -> list[Row]:
    """Rows of a CSV file, with the first of the reference answers."""
    with file.open(encoding="utf-8", newline="") as stream:
        return [row | {"reference_answer": row["reference_answer"].split(" || ")[0]} for row in csv.DictReader(stream)]


def divided(data: Path) -> tuple[list[Row], list[dict[str, str]]]:
    """Validation rows, the same as in `quantization_sets.py`, and every other text once."""
    rows = read(data / "train.csv")
    random.Random(0).shuffle(rows)  # noqa: S311 - a draw of rows, not a secret
    validation, others = rows[:VALIDATION_ROWS], rows[VALIDATION_ROWS:] + read(data / "synthetic.csv")
    held = {tuple(inputs_of(row, TASK).values()) for row in validation}
    held |= {tuple(inputs_of(row, TASK).values()) for test in TESTS for row in read(data / f"{test}.csv")}
    texts = {tuple(inputs_of(row, TASK).values()): inputs_of(row, TASK) for row in others}
    return validation, [text for whole, text in texts.items() if whole not in held]


def labels(student: Checkpoint, rows: list[Row]) -> list[str]:
    """What a student says in PyTorch."""
    return [TASK.names[best] for best in student.logits(rows).argmax(axis=1)]


def shrink(student: Path, folder: Path, section: ShrinkSection, texts: list[dict[str, str]], data: Path) -> None:
    """Shrink a student, and say how it compares on the validation rows and on those of questions that are left out."""
    validation, _ = divided(data)
    rows = [inputs_of(row, TASK) for row in validation]
    shrunk = shrink_student(student, folder, texts, rows, TASK, section, MAX_TOKENS)
    epochs = f"epoch {shrunk.best.epoch} of {section.epochs}"
    CONSOLE.print(f"{student.name}: layers {shrunk.layers}, {epochs}, {len(texts)} texts")
    known = {text["question"] for text in texts}
    apart = [row for row in read(data / "train.csv") if row["question"] not in known]
    for name, judged in (("validation rows", validation), ("rows of other questions", apart)):
        if judged:
            before, after = (labels(Checkpoint.load(each, TASK, MAX_TOKENS), judged) for each in (student, folder))
            found = change([row["label"] for row in judged], before, after, TASK)
            CONSOLE.print(f"  {len(judged)} {name}: flips {found.flip_rate}, kappa lost {found.kappa_lost}")


def without_questions(texts: list[dict[str, str]], count: int) -> list[dict[str, str]]:
    """The texts but for those of some questions, always the same ones."""
    questions = sorted({text["question"] for text in texts})
    left_out = set(random.Random(0).sample(questions, count))  # noqa: S311 - a draw of questions, not a secret
    return [text for text in texts if text["question"] not in left_out]


def exported(student: Path, folder: Path, data: Path, *, fp32_beside: bool) -> Bundle:
    """Export a student as int8."""
    validation, _ = divided(data)
    plan = ExportPlan("beetle", TASK, MAX_TOKENS, "int8", 0.01, fp32_beside=fp32_beside)
    result = export_bundle(student, folder, plan, [inputs_of(row, TASK) for row in validation])
    CONSOLE.print(f"{folder.name}: serves {result.served}", *result.notes)
    return result.bundle


def tested(students: dict[str, Path], bundles: dict[str, Bundle], data: Path) -> dict[str, dict[str, object]]:
    """Look at the test rows: kappa of the students, and what the shrunk one loses, in PyTorch and as it is served."""
    told: dict[str, dict[str, object]] = {}
    for test in TESTS:
        rows = read(data / f"{test}.csv")
        codes, inputs = [row["label"] for row in rows], [inputs_of(row, TASK) for row in rows]
        said = {name: labels(Checkpoint.load(folder, TASK, MAX_TOKENS), rows) for name, folder in students.items()}
        said |= {f"{name}, served": [score.label for score in Scorer(bundles[name]).score(inputs)] for name in bundles}
        told[test] = {"kappa": {name: agreement(codes, found, TASK).kappa.value for name, found in said.items()}}
        for name in ("shrunk", "shrunk, served"):
            told[test][f"lost by {name}"] = asdict(change(codes, said["fine-tuned"], said[name], TASK))
    return told


def timed(bundles: dict[str, Bundle], data: Path) -> dict[str, float]:
    """Texts per second alone on one thread, of the processor's time; medians of rounds in which the two take turns."""
    rows = [inputs_of(row, TASK) for row in divided(data)[0]]
    encoded = {name: Encoder(bundle.tokenizer_file, MAX_TOKENS).encode(rows) for name, bundle in bundles.items()}
    graphs = {name: bundle.folder / MODEL_FILES[bundle.manifest.precision] for name, bundle in bundles.items()}
    sessions = {name: Session(graph) for name, graph in graphs.items()}
    found: dict[str, list[float]] = {name: [] for name in bundles}
    for _ in range(ROUNDS):
        for name in bundles:
            speed = speeds({name: sessions[name]}, encoded[name], callers=(1,), rounds=1)[name]
            found[name].append(speed.alone[1])
    ratios = [shrunk / whole for whole, shrunk in zip(found["fine-tuned"], found["shrunk"], strict=True)]
    return {name: statistics.median(each) for name, each in found.items()} | {"ratio": statistics.median(ratios)}


def report(student: Path, section: ShrinkSection, out: Path, data: Path) -> dict[str, object]:
    """Everything about one student."""
    folder = out / student.name
    if not (folder / "shrunk").exists():
        shrink(student, folder / "shrunk", section, divided(data)[1], data)
    students = {"fine-tuned": student, "shrunk": folder / "shrunk"}
    bundles = {
        name: exported(each, folder / f"bundle-{name}", data, fp32_beside=name == "fine-tuned")
        for name, each in students.items()
    }
    sizes = {
        name: sum(file.stat().st_size for file in bundle.folder.rglob("*") if file.is_file())
        for name, bundle in bundles.items()
    }
    fast = timed(bundles, data)
    CONSOLE.print(f"bytes {sizes}, texts/s {fast}")
    told: dict[str, object] = {"bytes": sizes, "texts_per_second": fast, "tests": tested(students, bundles, data)}
    (folder / "report.json").write_text(json.dumps(told, indent=2) + "\n", "utf-8")
    CONSOLE.print_json(data=told["tests"])
    return told


def main() -> None:
    """Choose on validation rows, or report on test rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["choose", "report"])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("students", type=Path, nargs="+")
    parser.add_argument("--layers", type=int, nargs="+", default=[ShrinkSection().layers])
    parser.add_argument("--epochs", type=int, nargs="+", default=[ShrinkSection().epochs])
    parser.add_argument("--temperature", type=float, default=ShrinkSection().temperature)
    parser.add_argument("--learning-rate", type=float, default=ShrinkSection().learning_rate)
    given = parser.parse_args()
    torch.set_num_threads(1)
    sections = [
        ShrinkSection(layers=layers, epochs=epochs, temperature=given.temperature, learning_rate=given.learning_rate)
        for layers in given.layers
        for epochs in given.epochs
    ]
    data = given.data / "beetle"
    if given.what == "choose":
        texts = without_questions(divided(data)[1], QUESTIONS)
        for section in sections:
            for student in given.students:
                shrink(student, given.out / f"{student.name}-{section.layers}-{section.epochs}", section, texts, data)
        return
    found = [report(student, sections[0], given.out, data) for student in given.students]
    for test in TESTS:
        lost = [each["tests"][test]["lost by shrunk, served"]["kappa_lost"]["value"] for each in found]  # type: ignore[index]  # JSON
        CONSOLE.print(f"{test}: kappa lost by the shrunk student as served: mean {statistics.mean(lost):+.3f}", lost)


if __name__ == "__main__":
    main()
