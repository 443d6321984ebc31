"""A vocabulary cut of a Unigram student, measured on unseen rows: bytes, tokens, labels, speed.

    python benchmarks/multilingual.py CHECKPOINT OUT.json SET [SET ...] [--train-rows 400] [--test-rows 400]

CHECKPOINT is the folder of a BERT encoder with a Unigram tokenizer, such as that of
`edgedistill backbones get e5-multilingual`. A SET is a folder with train.csv and test.csv or test_ua.csv, whose columns
`response` and `label` are read. The student is the encoder as it is, with a logistic regression on the state of its
first token (no fine-tuning, so that a run takes minutes): it is not a good classifier, and its labels change more
easily than those of a fine-tuned one. Its vocabulary is cut for the train rows; nothing of the test rows is used. Both
students are exported to int8 and scored on the test rows, one at a time, in alternating rounds. OUT.json is written
after every set; sets that it has are not measured again.

With `--fine-tuned` the student is fine-tuned (preset quick, seed 0; further rows of train.csv select the epoch), once
with the full vocabulary, which is then cut, and once with the vocabulary cut before. The results are named
SET-fine-tuned.
"""

import argparse
import csv
import json
import shutil
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from rich.console import Console
from safetensors.torch import load_file, save_file
from sklearn.linear_model import LogisticRegression

from edgedistill.data.types import CodedResponse, MixtureRow, Response, ValidationRows
from edgedistill.project.student import StudentSection
from edgedistill.student import train_student
from edgedistill.student.cut_backbone import cut_backbone
from edgedistill_export import Checkpoint, ExportPlan, export_bundle
from edgedistill_export.quantize.vocabulary import cut_vocabulary
from edgedistill_serve.scoring.encoding import Encoder
from edgedistill_serve.scoring.scorer import Scorer
from edgedistill_serve.task.task import Label, Task

CONSOLE = Console(width=160)
MAX_TOKENS = 128
VALIDATION_ROWS = 100
ROUNDS = 5


def read(file: Path, count: int) -> list[dict[str, str]]:
    """Up to ``count`` rows of a CSV file, spread evenly over it."""
    with file.open(encoding="utf-8", newline="") as stream:
        rows = [{"response": row["response"], "label": row["label"]} for row in csv.DictReader(stream)]
    rows = [row for row in rows if row["response"].strip() and row["label"].strip()]
    places = np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(int)
    return [rows[place] for place in places]


def write_student(backbone: Path, folder: Path, rows: list[dict[str, str]], task: Task) -> Checkpoint:
    """Write a classifier: the encoder, a pooler that keeps the first token's state, a logistic regression on it."""
    folder.mkdir(parents=True)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(backbone / name, folder / name)
    config = json.loads((backbone / "config.json").read_text("utf-8"))
    names = dict(enumerate(task.names))
    (folder / "config.json").write_text(
        json.dumps(
            config
            | {
                "architectures": ["BertForSequenceClassification"],
                "id2label": names,
                "label2id": {name: number for number, name in names.items()},
                "problem_type": "single_label_classification",
            }
        )
    )
    weights = {f"bert.{name}": tensor for name, tensor in load_file(backbone / "model.safetensors").items()}
    width = config["hidden_size"]
    # tanh of a small multiple is nearly that multiple.
    scale = 0.05
    weights["bert.pooler.dense.weight"] = torch.eye(width) * scale
    weights["bert.pooler.dense.bias"] = torch.zeros(width)
    weights["classifier.weight"] = torch.zeros(len(names), width)
    weights["classifier.bias"] = torch.zeros(len(names))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    student = Checkpoint.load(folder, task, MAX_TOKENS)
    states = np.stack([_pooled(student, row) for row in rows])
    mean, spread = states.mean(axis=0), states.std(axis=0) + 1e-6
    head = LogisticRegression(max_iter=3000, C=0.1).fit((states - mean) / spread, [row["label"] for row in rows])
    order = [list(head.classes_).index(name) for name in task.names]
    coefficients, intercepts = head.coef_, head.intercept_
    if len(names) == 2:
        coefficients, intercepts = (
            np.vstack([-coefficients, coefficients]) / 2,
            np.hstack([-intercepts, intercepts]) / 2,
        )
    coefficients = coefficients[order] / spread
    weights["classifier.weight"] = torch.tensor(coefficients, dtype=torch.float32)
    weights["classifier.bias"] = torch.tensor(intercepts[order] - coefficients @ mean, dtype=torch.float32)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return Checkpoint.load(folder, task, MAX_TOKENS)


def _pooled(student: Checkpoint, row: dict[str, str]) -> np.ndarray[Any, np.dtype[np.float32]]:
    (encoded,) = student.encoder.encode([row])
    with torch.inference_mode():
        found = student.model.base_model(input_ids=torch.tensor([encoded.ids])).pooler_output
    return np.asarray(found[0].numpy())


def tokens(encoder: Encoder, rows: list[dict[str, str]], pieces: list[str]) -> list[tuple[str, ...]]:
    """The tokens of each row by name, so that those of two vocabularies can be compared."""
    return [tuple(pieces[number] for number in encoded.ids) for encoded in encoder.encode(rows)]


def pieces_of(folder: Path) -> list[str]:
    """The vocabulary of a Unigram tokenizer."""
    return [piece for piece, _ in json.loads((folder / "tokenizer.json").read_text("utf-8"))["model"]["vocab"]]


def size(folder: Path) -> int:
    """Bytes of a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def measure(backbone: Path, data: Path, train_rows: int, test_rows: int, work: Path) -> dict[str, Any]:
    """Measure one set."""
    test_file = next(file for file in (data / "test.csv", data / "test_ua.csv") if file.exists())
    train, test = read(data / "train.csv", train_rows), read(test_file, test_rows)
    task = Task("nominal", tuple(Label(name) for name in sorted({row["label"] for row in train})), ("response",))
    full = write_student(backbone, work / "full", train, task)
    CONSOLE.print(f"{data.name}: student written")
    cut, kept = cut_vocabulary(full, train, work / "cut")
    before, after = (tokens(each.encoder, test, pieces_of(each.folder)) for each in (full, cut))
    labels = [each.logits(test).argmax(axis=1) for each in (full, cut)]
    correct = np.array([list(task.names).index(row["label"]) for row in test])
    scorers, bundles = {}, {}
    validation = train[:: max(1, len(train) // VALIDATION_ROWS)][:VALIDATION_ROWS]
    for name, student in (("full", full), ("cut", cut)):
        plan = ExportPlan(data.name, task, MAX_TOKENS, "int8", 1.0, fp32_beside=False)
        exported = export_bundle(student.folder, work / f"{name}-bundle", plan, validation)
        bundles[name] = {"bytes": size(exported.bundle.folder), "precision": exported.bundle.manifest.precision}
        scorers[name] = Scorer(exported.bundle, threads=1)
        CONSOLE.print(f"{data.name}: {name} {bundles[name]}")
    scored = {name: [score.label for score in scorer.score(test)] for name, scorer in scorers.items()}
    ratios = []
    for _ in range(ROUNDS):
        seconds = {}
        for name, scorer in scorers.items():
            start = time.process_time()
            scorer.score(test[:60])
            seconds[name] = time.process_time() - start
        ratios.append(seconds["full"] / seconds["cut"])
    return {
        "train_rows": len(train),
        "test_rows": len(test),
        "tokens": {"full": kept.pieces_before, "cut": kept.pieces},
        "bundles": bundles,
        "changed_tokenizations": float(np.mean([one != other for one, other in zip(before, after, strict=True)])),
        "more_tokens": sum(map(len, after)) / sum(map(len, before)),
        "label_flips": {
            "pytorch": float((labels[0] != labels[1]).mean()),
            "int8": float(np.mean([one != other for one, other in zip(scored["full"], scored["cut"], strict=True)])),
        },
        "accuracy": {
            name: float((found == correct).mean()) for name, found in zip(("full", "cut"), labels, strict=True)
        },
        "texts_per_second_cut_to_full": statistics.median(ratios),
    }


def measure_fine_tuned(backbone: Path, data: Path, train_rows: int, test_rows: int, work: Path) -> dict[str, Any]:
    """Measure one set with fine-tuned students: cut after training, and cut before."""
    test_file = next(file for file in (data / "test.csv", data / "test_ua.csv") if file.exists())
    known, test = read(data / "train.csv", train_rows + VALIDATION_ROWS), read(test_file, test_rows)
    step = len(known) // VALIDATION_ROWS
    validation, train = known[::step], [row for place, row in enumerate(known) if place % step]
    task = Task("nominal", tuple(Label(name) for name in sorted({row["label"] for row in known})), ("response",))
    texts = [{"response": row["response"]} for row in train]
    cut_backbone(backbone, work / "cut-backbone", texts, task)
    students, seconds = {}, {}
    for name, start in (("full", backbone), ("cut before", work / "cut-backbone")):
        begin = time.process_time()
        section = StudentSection(max_tokens=MAX_TOKENS, preset="quick")
        train_student(*_rows(train, validation), task, section, start, work / name)
        seconds[name] = round(time.process_time() - begin, 1)
        students[name] = Checkpoint.load(work / name, task, MAX_TOKENS)
        CONSOLE.print(f"{data.name}: {name} trained in {seconds[name]} s")
    students["cut after"], _ = cut_vocabulary(students["full"], texts, work / "cut after")
    labels = {name: student.logits(test).argmax(axis=1) for name, student in students.items()}
    correct = np.array([list(task.names).index(row["label"]) for row in test])
    plan = ExportPlan(data.name, task, MAX_TOKENS, "int8", 1.0, fp32_beside=False)
    exported = export_bundle(work / "cut before", work / "bundle", plan, validation)
    scored = [score.label for score in Scorer(exported.bundle, threads=1).score(test)]
    return {
        "train_rows": len(train),
        "validation_rows": len(validation),
        "test_rows": len(test),
        "training_cpu_seconds": seconds,
        "bundle_bytes_cut_before": size(exported.bundle.folder),
        "label_flips": {
            "full to cut after": float((labels["full"] != labels["cut after"]).mean()),
            "cut before, PyTorch to int8": float(
                np.mean([task.names[one] != other for one, other in zip(labels["cut before"], scored, strict=True)])
            ),
        },
        "accuracy": {name: float((found == correct).mean()) for name, found in labels.items()}
        | {"cut before, int8": float(np.mean([a == row["label"] for a, row in zip(scored, test, strict=True)]))},
    }


def _rows(train: list[dict[str, str]], validation: list[dict[str, str]]) -> tuple[list[MixtureRow], ValidationRows]:
    mixture = [
        MixtureRow(f"m{place}", {"response": row["response"]}, row["label"], "human", {row["label"]: 1.0})
        for place, row in enumerate(train)
    ]
    coded = [
        CodedResponse(Response(f"v{place}", {"response": row["response"]}, "train.csv", place), row["label"])
        for place, row in enumerate(validation)
    ]
    return mixture, ValidationRows(tuple(coded))


def main() -> None:
    """Measure the sets and write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("sets", type=Path, nargs="+")
    parser.add_argument("--train-rows", type=int, default=400)
    parser.add_argument("--test-rows", type=int, default=400)
    parser.add_argument("--fine-tuned", action="store_true")
    given = parser.parse_args()
    results = json.loads(given.out.read_text()) if given.out.exists() else {}
    for data in given.sets:
        name, measured = data.name, measure
        if given.fine_tuned:
            name, measured = f"{data.name}-fine-tuned", measure_fine_tuned
        if name in results:
            continue
        with TemporaryDirectory() as work:
            results[name] = measured(given.checkpoint, data, given.train_rows, given.test_rows, Path(work))
        CONSOLE.print(name, results[name])
        given.out.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
