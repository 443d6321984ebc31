"""Soft labels (shares of the votes) versus hard labels for a student trained on teacher labels.

    OMP_NUM_THREADS=1 python benchmarks/soft_labels.py SHARED --out FILE

SHARED contains `data/beetle/` (train.csv, test_ua.csv, votes.jsonl: three votes of a teacher for each of 800 train
rows). Every student is minilm, trained on the teacher labels of these 800 rows with question and response, 5 epochs,
learning rate 5e-5, batch size 16. The epoch is selected, and conditions are compared, on 300 other human-coded train
rows. Then each student scores the test rows (test_ua, human-coded) once.
"""

import argparse
import csv
import hashlib
import json
import statistics
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from edgedistill.agreement import agreement
from edgedistill.data.types import CodedResponse, MixtureRow, Response, ValidationRows
from edgedistill.project.student import LossSection, SearchSection, StudentSection
from edgedistill.student import backbone_folder, train_student
from edgedistill_export.checkpoint import Checkpoint
from edgedistill_serve.task.task import Label, Task

TASK = Task("nominal", (Label("correct"), Label("contradictory"), Label("incorrect")), ("question", "response"))
CONDITIONS = {
    "hard": LossSection(),
    "soft": LossSection(targets="soft"),
    "soft-2": LossSection(targets="soft", temperature=2.0),
    "both": LossSection(targets="both"),
}
MAX_TOKENS = 64
VALIDATION_ROWS = 300


def main() -> None:
    """Train, compare on validation rows, then score the test rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shared", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--conditions", nargs="+", choices=CONDITIONS, default=["hard", "soft"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    arguments = parser.parse_args()
    data = arguments.shared / "data" / "beetle"
    mixture = teacher_labelled_rows(data / "votes.jsonl")
    validation = validation_rows(data / "train.csv", {row.id for row in mixture})
    divided = sum(max(row.shares.values()) < 1 for row in mixture)
    print(f"{len(mixture)} rows, {divided} with votes for two labels or more; {len(validation)} validation rows")
    with tempfile.TemporaryDirectory() as folder:
        found = [
            train_one(name, seed, mixture, validation, Path(folder) / f"{name}-{seed}")
            for seed in arguments.seeds
            for name in arguments.conditions
        ]
        test = list(csv.DictReader((data / "test_ua.csv").open(encoding="utf-8")))
        for one in found:
            one["test_macro_f1"] = test_macro_f1(Path(folder) / f"{one['condition']}-{one['seed']}", test)
    arguments.out.write_text(json.dumps({"rows": len(mixture), "divided": divided, "students": found}, indent=2) + "\n")
    for name in arguments.conditions:
        for figure in ("validation_macro_f1", "validation_loss", "test_macro_f1"):
            values = [one[figure] for one in found if one["condition"] == name]
            line = " ".join(f"{value:.3f}" for value in values)
            print(f"{name:7} {figure:20} {line}   mean {statistics.mean(values):.3f}")


def teacher_labelled_rows(file: Path) -> list[MixtureRow]:
    """The train rows with teacher labels: the mode of the votes and their shares; ties are omitted."""
    rows = []
    for line in file.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if row["part"] != "train":
            continue
        counts = Counter(vote["label"] for vote in row["votes"]).most_common()
        if len(counts) == 1 or counts[0][1] > counts[1][1]:
            total = sum(count for _, count in counts)
            shares = {label: count / total for label, count in counts}
            rows.append(MixtureRow(row["id"], inputs(row), counts[0][0], "teacher", shares))
    return rows


def validation_rows(file: Path, others: set[str]) -> ValidationRows:
    """Human-coded train rows without votes, sampled by a hash of their ids."""
    with file.open(encoding="utf-8") as stream:
        rows = [row for row in csv.DictReader(stream) if row["id"] not in others]
    drawn = sorted(rows, key=lambda row: hashlib.sha256(row["id"].encode()).digest())[:VALIDATION_ROWS]
    return ValidationRows(
        tuple(
            CodedResponse(Response(row["id"], inputs(row), file.name, number), row["label"])
            for number, row in enumerate(drawn, start=2)
        )
    )


def inputs(row: dict[str, Any]) -> dict[str, str]:
    """The inputs of the student."""
    return {name: row[name] for name in TASK.inputs}


def train_one(
    name: str, seed: int, mixture: list[MixtureRow], validation: ValidationRows, folder: Path
) -> dict[str, Any]:
    """Train one student and return its metrics on validation rows."""
    section = StudentSection(
        max_tokens=MAX_TOKENS,
        search=SearchSection(learning_rate=(5e-5,), batch_size=(16,), epochs=(5,)),
        seeds=(seed,),
        loss=CONDITIONS[name],
    )
    done = train_student(mixture, validation, TASK, section, backbone_folder("minilm", Path()), folder)
    best = done.best.best
    print(f"{name} seed {seed}: macro-F1 {best.macro_f1:.3f}, loss {best.loss:.3f}, epoch {best.epoch}", flush=True)
    return {
        "condition": name,
        "seed": seed,
        "epoch": best.epoch,
        "validation_macro_f1": best.macro_f1,
        "validation_loss": best.loss,
        "history": [epoch.macro_f1 for epoch in done.best.history],
    }


def test_macro_f1(folder: Path, rows: list[dict[str, Any]]) -> float:
    """Macro-F1 of a student on the test rows."""
    logits = Checkpoint.load(folder, TASK, MAX_TOKENS).logits([inputs(row) for row in rows])
    labels = [TASK.names[number] for number in logits.argmax(axis=1)]
    return float(agreement([row["label"] for row in rows], labels, TASK).macro_f1.value or 0.0)


if __name__ == "__main__":
    main()
