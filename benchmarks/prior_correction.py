"""What moving the student's label shares to those of human codes changes: macro-F1 and κ, with and without.

    python benchmarks/prior_correction.py DATA --out docs/results/prior_correction.json

DATA has the folders beetle, babe, hyperbole, intimacy and networks; only their `train.csv` is read, without repeated
rows, and without the 600 rows of BABE on which `students.py` tests. In each of ten random partitions, a linear
classifier on the frozen encoder minilm is fitted on 500 rows with human codes, or with the majority vote of a recorded
language model; 50, 100, 200 or 400 human-coded rows choose its penalty and fit the correction; up to 2,000 others
measure it. Compared with the classifier as it is:

- `always`: the constants of `edgedistill.student.prior_correction`, whatever the rows;
- `as implemented`: the same where it has enough rows and a row of every label, and else no change;
- `maximum likelihood`: constants and a temperature by maximum likelihood, with a normal prior (SD 0.5) on the constants
  (bias-corrected temperature scaling, Alexandari et al. 2020, arXiv:1901.06852).

Differences are means over partitions with 95 % t intervals. Partitions share rows, so that the intervals say how far
the choice of rows matters in this set, not how another set would differ. Results are added to the JSON file set by set;
what is there is not computed again.
"""

import argparse
import json
import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax
from scipy.stats import t as student_t
from students import TASKS, Row, read, votes

from edgedistill.agreement.confusion import confusion_matrix, kappas, macro_f1s
from edgedistill.data.twins import same_row
from edgedistill.student import backbone_folder
from edgedistill.student.frozen import FrozenHead, fit_heads, pooled_states
from edgedistill.student.prior_correction import PRIOR_ROWS, fit_prior_correction, shift_to
from edgedistill_serve.task.task import Task, task_inputs

CONSOLE = Console(width=150)
TEACHERS = {"beetle": ("votes",), "babe": ("votes_gpt_4", "votes_mixtral_8x7b", "votes_llama_13b")}
PARTITIONS, TRAINING, MEASURED = 10, 500, 2000
VALIDATION = (50, 100, 200, 400)
MAX_TOKENS = 128
PENALTIES = (1e-3, 1e-2, 1e-1, 1.0)
Floats = NDArray[np.float64]
Places = NDArray[np.int64]


def rows_of(data: Path, name: str) -> list[Row]:
    """Return the distinct rows of a set that may be used."""
    task, rows = TASKS[name], read(data / name / "train.csv")
    tested: set[str] = set()
    if name == "babe":
        shuffled, voted = list(rows), votes(data, name)
        random.Random(0).shuffle(shuffled)  # noqa: S311  the draw of students.py, not a secret
        tested = {row["id"] for row in [row for row in shuffled if row["id"] in voted][:600]}
    distinct = {
        same_row(task_inputs(row, task)): row
        for row in reversed(rows)
        if row["label"] in task.names and row["id"] not in tested
    }
    return list(distinct.values())


class Labelled:
    """The rows of a set with human codes, pooled states, and the labels of a source."""

    def __init__(self, data: Path, name: str) -> None:
        self.task: Task = TASKS[name]
        self.rows = rows_of(data, name)
        self.codes = [row["label"] for row in self.rows]
        inputs = [task_inputs(row, self.task) for row in self.rows]
        self.states = pooled_states(backbone_folder("minilm", Path()), self.task, MAX_TOKENS, inputs)["mean"]

    def heads(self, training: Places, labels: Sequence[str], validation: Places) -> tuple[FrozenHead, ...]:
        """Fit a classifier for every penalty."""
        codes = [self.codes[place] for place in validation]
        states = {"mean": self.states[training]}, {"mean": self.states[validation]}
        return fit_heads(states[0], labels, states[1], codes, self.task, poolings=("mean",), penalties=PENALTIES)

    def targets(self, places: Places) -> NDArray[np.int64]:
        """Return the classes of the human codes."""
        return np.array([self.task.names.index(self.codes[place]) for place in places])

    def best(self, heads: Sequence[FrozenHead], validation: Places) -> FrozenHead:
        """Return the classifier with the lowest loss on rows."""
        codes = self.targets(validation)

        def loss(head: FrozenHead) -> float:
            logits = head.logits(self.states[validation]).astype(np.float64)
            return float(-log_softmax(logits, axis=1)[np.arange(len(codes)), codes].mean())

        return min(heads, key=loss)


def partitions(labelled: Labelled, labels: dict[str, str]) -> Iterator[tuple[Places, Places, Places]]:
    """Yield the places of training, validation and measured rows; training rows have a label of the source."""
    has = np.array([row["id"] in labels for row in labelled.rows])
    for seed in range(PARTITIONS):
        order = np.random.default_rng(seed).permutation(len(labelled.rows))
        training = order[has[order]][:TRAINING]
        rest = np.random.default_rng(100 + seed).permutation(np.setdiff1d(order, training))
        yield training, rest[: max(VALIDATION)], rest[max(VALIDATION) :][:MEASURED]


def always(logits: Floats, targets: NDArray[np.int64]) -> Floats:
    """Return the constants of the product, whatever the rows."""
    own = softmax(logits, axis=1).mean(axis=0)
    counts = np.bincount(targets, minlength=logits.shape[1])
    return shift_to(logits, (counts + PRIOR_ROWS * own) / (len(targets) + PRIOR_ROWS))


def maximum_likelihood(logits: Floats, targets: NDArray[np.int64], sd: float = 0.5) -> Floats:
    """Return constants to add to logits, by maximum likelihood together with a temperature."""
    rows, labels = logits.shape
    smoothing = 1 / (rows + 2)
    wanted = np.where(np.eye(labels)[targets] == 1, 1 - smoothing, smoothing / (labels - 1))

    def loss(given: Floats) -> float:
        scaled = logits * np.exp(given[0]) + given[1:]
        return float(-(wanted * log_softmax(scaled, axis=1)).sum() + (given[1:] ** 2).sum() / (2 * sd**2))

    found = minimize(loss, np.zeros(labels + 1)).x
    return np.asarray(found[1:] / np.exp(found[0]))


def figures(task: Task, targets: NDArray[np.int64], logits: Floats) -> Floats:
    """Return macro-F1 and κ, which is quadratic weighted for an ordinal task."""
    table = confusion_matrix(targets, logits.argmax(axis=1), len(task.names))[None]
    return np.array([macro_f1s(table)[0], kappas(table, quadratic=task.kind == "ordinal")[0]], dtype=np.float64)


def measure(labelled: Labelled, labels: dict[str, str]) -> dict[str, Any]:
    """Return the figures of one source of labels."""
    plain: dict[int, list[Floats]] = {size: [] for size in VALIDATION}
    gained: dict[int, dict[str, list[Floats]]] = {size: {} for size in VALIDATION}
    unchanged = dict.fromkeys(VALIDATION, 0)
    for training, held, measured in partitions(labelled, labels):
        heads = labelled.heads(training, [labels[labelled.rows[place]["id"]] for place in training], held)
        for size in VALIDATION:
            validation = held[:size]
            head, codes, truth = (
                labelled.best(heads, validation),
                labelled.targets(validation),
                labelled.targets(measured),
            )
            logits, others = (
                head.logits(labelled.states[places]).astype(np.float64) for places in (validation, measured)
            )
            found = fit_prior_correction(logits, [labelled.codes[place] for place in validation], labelled.task)
            shifts = {
                "always": always(logits, codes),
                "as implemented": np.array([found.shift.get(name, 0.0) for name in labelled.task.names]),
                "maximum likelihood": maximum_likelihood(logits, codes),
            }
            unchanged[size] += not found.shift
            plain[size].append(figures(labelled.task, truth, others))
            for name, shift in shifts.items():
                change = figures(labelled.task, truth, others + shift) - plain[size][-1]
                gained[size].setdefault(name, []).append(change)
    return {
        f"{size} validation rows": {
            "without": dict(zip(("macro_f1", "kappa"), np.mean(plain[size], axis=0).round(4).tolist(), strict=True)),
            "left unchanged": f"{unchanged[size]} of {PARTITIONS}",
            **{name: interval(changes) for name, changes in gained[size].items()},
        }
        for size in VALIDATION
    }


def interval(changes: Sequence[Floats]) -> dict[str, list[float]]:
    """Return mean, lower and upper limit of the change of each figure."""
    found = {}
    for name, values in zip(("macro_f1", "kappa"), np.array(changes).T, strict=True):
        half = float(student_t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
        found[name] = [round(float(values.mean()) + side, 4) for side in (0, -half, half)]
    return found


def sources(data: Path, name: str, labelled: Labelled) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield each source of labels of a set, and its labels by row."""
    yield "human", {row["id"]: row["label"] for row in labelled.rows}
    for file in TEACHERS.get(name, ()):
        shares = votes(data, name, f"{file}.jsonl")
        yield file, {row: max(share, key=share.__getitem__) for row, share in shares.items()}


def main() -> None:
    """Read the command line, compute what is missing and write the result file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    found = json.loads(options.out.read_text("utf-8")) if options.out.exists() else {}
    for name in TASKS:
        if all(f"{name}, {source}" in found for source in ("human", *TEACHERS.get(name, ()))):
            continue
        labelled = Labelled(options.data, name)
        for source, labels in sources(options.data, name, labelled):
            start = time.process_time()
            found[f"{name}, {source}"] = measure(labelled, labels)
            CONSOLE.print(f"{name}, {source}: {time.process_time() - start:.0f} s")
            options.out.parent.mkdir(parents=True, exist_ok=True)
            options.out.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    main()
