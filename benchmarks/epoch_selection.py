"""Which epoch of a fine-tuning to keep: rules on few validation rows, judged on rows of train.csv that they do not see.

    python benchmarks/epoch_selection.py DATA --out FOLDER --summary docs/results/epoch_selection.json

DATA is as for `students.py`; test files are not read. Beetle and BABE are trained on a recorded teacher's labels, the
others on human codes, by the preset `standard`. After each epoch the student's logits of up to 750 human-coded rows
that it was not trained on are kept in FOLDER; a run whose file is there is not made again. Then, 100 times, some of
these rows are drawn to validate, and the epoch that a rule selects on them is judged by its macro-F1 on all others;
where a teacher's labels trained it, after the prior correction (docs/decisions/0073-label-shares-of-human-codes.md).

    macro-F1   the highest macro-F1; ties go to the lower cross-entropy
    loss       the lowest cross-entropy
    quarter    the highest macro-F1 of all epochs but those of the first quarter
    last       the last epoch
    late       the latest epoch whose accuracy is at most one standard error of the difference below the highest
    any        an epoch at random
    best       the highest macro-F1 on the judging rows: what a perfect rule would reach

The summary has the mean macro-F1 of each rule by set, training rows and validation rows, and its mean over the runs.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from scipy.special import softmax
from students import TASKS
from training_options import TEACHERS, rows_of

from edgedistill.agreement.confusion import macro_f1s
from edgedistill.data.types import CodedResponse, Response, ValidationRows
from edgedistill.project.student import StudentSection
from edgedistill.student import backbone_folder, train_student, trial
from edgedistill.student.model import choose_max_tokens
from edgedistill.student.prior_correction import PRIOR_ROWS, shift_to

CONSOLE = Console(width=150)
RUNS = (
    ("hyperbole", 100),
    ("hyperbole", 250),
    ("babe", 250),
    ("babe", 1000),
    ("babe", 1750),
    ("beetle", 100),
)
RULES = ("macro-F1", "quarter", "loss", "last", "late", "any", "best")
VALIDATION_ROWS = (100, 150, 400)
DRAWS = 100
Floats = NDArray[np.float64]


def make(name: str, count: int, seed: int, data: Path, file: Path) -> None:
    """Train a student and write the logits and targets of the held-out rows after each epoch."""
    training, validation, development, _ = rows_of(data, name, count)
    task, backbone = TASKS[name], backbone_folder("minilm", Path())
    section = StudentSection(
        max_tokens=choose_max_tokens(backbone, task, (row.inputs for row in training)), seeds=(seed,)
    )
    coded = [
        CodedResponse(Response(row["id"], {one: row[one] for one in task.inputs}, "train.csv", 0), row["label"])
        for row in development
    ]
    epochs: list[Any] = []

    class Recording(trial.StudentTrainer):
        """The product's trainer, which keeps what it predicts."""

        def __init__(self, **given: Any) -> None:
            super().__init__(**given)
            measure = self.compute_metrics

            def measured(prediction: Any) -> dict[str, float]:
                epochs.append((np.asarray(prediction.predictions), np.asarray(prediction.label_ids)))
                return dict(measure(prediction))

            self.compute_metrics = measured

    with TemporaryDirectory() as folder, mock.patch.object(trial, "StudentTrainer", Recording):
        rows = ValidationRows((*validation, *coded))
        train_student(training, rows, task, section, backbone, Path(folder) / "student")
    with file.open("wb") as stream:
        np.savez(stream, logits=np.stack([logits for logits, _ in epochs]), targets=epochs[0][1])


def selected(rule: str, logits: Floats, targets: NDArray[np.int64]) -> int:
    """The epoch that a rule keeps, given the logits of shape (epochs, rows, labels) of its validation rows."""
    if rule == "last":
        return len(logits) - 1
    figures, losses = macro(logits, targets), cross_entropies(logits, targets).mean(axis=1)
    if rule == "loss":
        return int(losses.argmin())
    if rule in ("macro-F1", "quarter"):
        first = len(logits) // 4 if rule == "quarter" else 0
        return max(range(first, len(logits)), key=lambda epoch: (figures[epoch], -losses[epoch]))
    right = (logits.argmax(axis=2) == targets).astype(float)
    best = int(right.mean(axis=1).argmax())
    apart = right[best] - right
    error = apart.std(axis=1) / np.sqrt(len(targets))
    return int(np.flatnonzero(apart.mean(axis=1) <= error)[-1])


def cross_entropies(logits: Floats, targets: NDArray[np.int64]) -> Floats:
    """Cross-entropy of each epoch and row, of shape (epochs, rows)."""
    tops = logits.max(axis=2, keepdims=True)
    shares = logits - tops - np.log(np.exp(logits - tops).sum(axis=2, keepdims=True))
    return -np.take_along_axis(shares, np.broadcast_to(targets[None, :, None], (len(logits), len(targets), 1)), 2)[
        ..., 0
    ]


def macro(logits: Floats, targets: NDArray[np.int64]) -> Floats:
    """Macro-F1 of each epoch."""
    count = logits.shape[2]
    pairs = targets * count + logits.argmax(axis=2)
    return macro_f1s(np.stack([np.bincount(each, minlength=count**2).reshape(count, count) for each in pairs]))


def corrected(logits: Floats, targets: NDArray[np.int64], some: NDArray[np.int64]) -> Floats:
    """The logits of one epoch with the prior correction that its validation rows give."""
    own = softmax(logits[some], axis=1).mean(axis=0)
    human = np.bincount(targets[some], minlength=logits.shape[1])
    return np.asarray(logits + shift_to(logits[some], (human + PRIOR_ROWS * own) / (len(some) + PRIOR_ROWS)))


def judged(file: Path) -> dict[str, dict[str, float]]:
    """The mean macro-F1 of each rule by number of validation rows."""
    with np.load(file) as found:
        logits, targets = found["logits"].astype(float), found["targets"]
    rng = np.random.default_rng(0)
    figures: dict[str, dict[str, float]] = {}
    for count in VALIDATION_ROWS:
        if count > len(targets) - 300:
            continue
        values: dict[str, list[float]] = {rule: [] for rule in RULES}
        for _ in range(DRAWS):
            order = rng.permutation(len(targets))
            some, others = order[:count], order[count:]
            scores = logits
            if file.stem.partition("-")[0] in TEACHERS:
                scores = np.stack([corrected(epoch, targets, some) for epoch in logits])
            truth = macro(scores[:, others], targets[others])
            for rule in RULES:
                if rule == "any":
                    values[rule].append(float(truth.mean()))
                elif rule == "best":
                    values[rule].append(float(truth.max()))
                else:
                    values[rule].append(float(truth[selected(rule, logits[:, some], targets[some])]))
        figures[str(count)] = {rule: round(float(np.mean(each)), 4) for rule, each in values.items()}
    return figures


def summary(out: Path) -> dict[str, Any]:
    """Figures of each run, and their means over all runs that have so many validation rows."""
    runs = {file.stem: judged(file) for file in sorted(out.glob("*.npz"))}
    means: dict[str, Any] = {}
    for count in map(str, VALIDATION_ROWS):
        some = [run[count] for run in runs.values() if count in run]
        means[count] = {rule: round(float(np.mean([each[rule] for each in some])), 4) for rule in RULES}
    return {"runs": runs, "mean": means}


def main(given: Sequence[str] | None = None) -> None:
    """Make what is missing; write the summary of what is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", nargs="*", type=int, default=[0])
    parser.add_argument("--summary", type=Path)
    options = parser.parse_args(given)
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    for seed in options.seeds:
        for name, count in RUNS:
            file = options.out / f"{name}-{count}-{seed}.npz"
            if not file.exists():
                CONSOLE.print(name, count, seed)
                make(name, count, seed, options.data, file)
    found = summary(options.out)
    CONSOLE.print(found["mean"])
    if options.summary:
        options.summary.write_text(json.dumps(found, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
