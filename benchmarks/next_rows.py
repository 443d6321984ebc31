"""Does it help to choose the rows that people code next?

    python benchmarks/next_rows.py DATA --out FOLDER                         the frozen encoder, all strategies
    python benchmarks/next_rows.py DATA --out FOLDER --student fine-tuned    a confirmation with the fine-tuned student
    python benchmarks/next_rows.py DATA --out FOLDER --student curves        do learning curves predict more rows?
    python benchmarks/next_rows.py DATA --out FOLDER --summary FILE.json     what docs/results holds

DATA has folders `beetle` and `networks` with train.csv, test_ua.csv (unseen answers) and test_uq.csv (unseen
questions), and `beetle/votes.jsonl`. FOLDER keeps a line per finished run, so that a stopped benchmark continues.

In each repetition 250 random train rows are validation rows, which choose the classifier's penalty, and the others are
the pool. 100 rows of the pool are drawn at random by question, and then 100 a wave up to 500, as
`edgedistill.decisions.row_signals` and `sampling` draw them, with the probabilities of the student trained on the rows
so far. Measured after each wave: κ on both test sets (quadratic weighted on networks); and the estimate of the labels'
shares in the pool from machine codes corrected by the coded rows (design-based, cross-fitted in five folds; Egami et
al. 2023): width of the 95 % interval, error, and whether the interval covers the truth.

Curves: from nested subsets of 400 rows of the pool, κ on the validation rows with 600, 800 and 1,200 is predicted and
then measured with as many.

`voted` is Beetle with a pool of the rows that a recorded teacher coded; 50 rows a wave up to 250.
"""

import argparse
import csv
import json
import random
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

from edgedistill.agreement.confusion import confusion_matrix, kappas
from edgedistill.data.types import TeacherLabel
from edgedistill.decisions import learning_curve as curves
from edgedistill.decisions.learning_curve import learning_curve, nested_order
from edgedistill.decisions.row_signals import coverage, disagreement, novelty_ranks, uncertainty
from edgedistill.decisions.sampling import (
    effective_probabilities,
    inclusion_probabilities,
    mixture_sizes,
    sampling_order,
    systematic_sample,
    wave_weight,
)
from edgedistill.student.frozen import FrozenHead, States, fit_heads, pooled_states, probabilities_of_logits
from edgedistill.student.model import backbone_folder
from edgedistill_serve.task.task import Label, Task

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

LABELS = {
    "beetle": ("nominal", ("correct", "contradictory", "incorrect"), 128),
    "networks": ("ordinal", ("Incorrect", "Partially correct", "Correct"), 256),
}
STRATEGIES: dict[str, dict[str, float]] = {
    "simple random": {"random": 1.0},
    "random by question": {"random": 1.0},
    "uncertainty": {"random": 0.3, "uncertainty": 0.7},
    "mostly uncertainty": {"random": 0.1, "uncertainty": 0.9},
    "coverage": {"random": 0.3, "coverage": 0.7},
    "novelty": {"random": 0.3, "novelty": 0.7},
    "mixed": {"random": 0.3, "uncertainty": 0.7 / 3, "coverage": 0.7 / 3, "novelty": 0.7 / 3},
    "most uncertain": {},
}
VOTED: dict[str, dict[str, float]] = {
    "random by question": {"random": 1.0},
    "uncertainty": {"random": 0.3, "uncertainty": 0.7},
    "disagreement": {"random": 0.3, "disagreement": 0.7},
    "mixed": {"random": 0.3, **dict.fromkeys(("uncertainty", "disagreement", "coverage", "novelty"), 0.7 / 4)},
}
CONFIRMED = {
    "voted": (50, 150, ("random by question", "disagreement")),
    "beetle": (100, 200, ("random by question", "uncertainty")),
}
"""What the fine-tuned student confirms: rows at random, rows by each strategy, and the strategies."""
SHOWN = curves.WIDEST
FOLDS = 5
PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1)


@dataclass(frozen=True)
class Rows:
    """Coded rows: inputs, label indices, questions and pooled states."""

    ids: tuple[str, ...]
    inputs: tuple[dict[str, str], ...]
    labels: Ints
    questions: tuple[str, ...]
    states: States

    def part(self, places: Sequence[int] | Ints) -> "Rows":
        """Return some rows."""
        index = [int(place) for place in places]
        return Rows(
            tuple(self.ids[i] for i in index),
            tuple(self.inputs[i] for i in index),
            self.labels[index],
            tuple(self.questions[i] for i in index),
            {name: each[index] for name, each in self.states.items()},
        )


def task_of(data: str) -> Task:
    """Return the task of a data set."""
    kind, labels, _ = LABELS[data]
    return Task(kind, tuple(map(Label, labels)), ("question", "reference_answer", "response"))


def read_rows(folder: Path, data: str, part: str, out: Path) -> Rows:
    """Read a file, with pooled states that are computed once."""
    task = task_of(data)
    with (folder / data / f"{part}.csv").open(encoding="utf-8-sig", newline="") as stream:
        table = list(csv.DictReader(stream))
    inputs = tuple(
        {**{n: row[n] for n in task.inputs}, "reference_answer": row["reference_answer"].split(" || ")[0]}
        for row in table
    )
    cache = out / f"states-{data}-{part}.npz"
    if not cache.exists():
        states = pooled_states(backbone_folder("minilm", Path()), task, LABELS[data][2], inputs)
        np.savez(cache, **states)
    states = dict(np.load(cache))
    labels = np.array([task.names.index(row["label"]) for row in table], dtype=np.int64)
    questions = tuple(f"{row['question']}\n{row['reference_answer']}" for row in table)
    return Rows(tuple(row["id"] for row in table), inputs, labels, questions, states)


def read_votes(folder: Path) -> dict[str, TeacherLabel]:
    """Read the recorded teacher's labels of Beetle's train rows, by id."""
    votes: dict[str, list[str]] = {}
    with (folder / "beetle" / "votes.jsonl").open(encoding="utf-8") as stream:
        for line in map(json.loads, stream):
            if line["part"] == "train":
                votes[line["id"]] = [vote["label"] for vote in line["votes"]]
    found = {}
    for ident, cast in votes.items():
        label = max(sorted(set(cast)), key=cast.count)
        shares = {name: cast.count(name) / len(cast) for name in sorted(set(cast))}
        found[ident] = TeacherLabel(ident, label, shares[label], shares, tuple(cast), "recorded")
    return found


def named(rows: Rows, task: Task) -> list[str]:
    """Return the label of each row."""
    return [task.names[label] for label in rows.labels]


def predicted(head: FrozenHead, rows: Rows, task: Task) -> Floats:
    """Return the probabilities of each label."""
    logits = (rows.states[head.pooling] @ head.weights.T + head.bias).astype(np.float32)
    return probabilities_of_logits(logits, task).astype(np.float64)


def kappa(truth: Ints, coded: Ints, task: Task) -> float:
    """Return κ, quadratic weighted for an ordinal task."""
    table = confusion_matrix(truth, coded, len(task.names))[None].astype(np.float64)
    return float(kappas(table, quadratic=task.kind == "ordinal")[0])


@dataclass(frozen=True)
class Drawn:
    """A wave, as `effective_probabilities` reads it."""

    weight: float
    drawn: dict[str, float]


class Repetition:
    """One random split of a data set, and the waves of one strategy on it."""

    def __init__(
        self, train: Rows, tests: dict[str, Rows], task: Task, seed: int, teacher: dict[str, TeacherLabel]
    ) -> None:
        self.task, self.tests, self.teacher = task, tests, teacher
        shuffled = list(range(len(train.ids)))
        random.Random(seed).shuffle(shuffled)  # noqa: S311 - a split, not a secret
        if teacher:
            voted = [place for place in shuffled if train.ids[place] in teacher]
            others = [place for place in shuffled if train.ids[place] not in teacher]
            self.validation, self.pool = train.part(others[:250]), train.part(voted)
        else:
            self.validation, self.pool = train.part(shuffled[:250]), train.part(shuffled[250:])
        self.seed = seed

    def fit(self, coded: Ints) -> FrozenHead:
        """Fit the classifier on coded rows of the pool; validation rows choose it."""
        rows = self.pool.part(coded)
        validation = named(self.validation, self.task)
        return fit_heads(
            rows.states,
            named(rows, self.task),
            self.validation.states,
            validation,
            self.task,
            poolings=("mean",),
            penalties=PENALTIES,
        )[0]

    def refit(self, head: FrozenHead, coded: Ints) -> FrozenHead:
        """Fit a classifier with the same pooling and penalty on other rows."""
        from edgedistill.student.frozen import _fit_head

        rows = self.pool.part(coded)
        return _fit_head(head.pooling, head.penalty, rows.states[head.pooling], named(rows, self.task), self.task)

    def signals(self, probabilities: Floats, coded: Ints, frame: Ints) -> dict[str, Floats]:
        """Return all signals of the uncoded rows."""
        pool = self.pool
        vectors = pool.states["mean"] / np.linalg.norm(pool.states["mean"], axis=1, keepdims=True)
        found = {
            "uncertainty": uncertainty(probabilities[frame]),
            "novelty": novelty_ranks(1 - (vectors[frame] @ vectors[coded].T).max(axis=1)),
        }
        covered = coverage([(pool.questions[i],) for i in frame], [(pool.questions[i],) for i in coded])
        found |= {} if covered is None else {"coverage": covered}
        if self.teacher:
            labels = {pool.ids[i]: self.task.names[probabilities[i].argmax()] for i in frame}
            found["disagreement"] = disagreement([pool.ids[i] for i in frame], self.teacher, labels, self.task)
        return found

    def waves(self, strategy: str, shares: dict[str, float], size: int, waves: int) -> Iterator[dict[str, Any]]:
        """Draw and train wave by wave; yield what is measured after each."""
        pool, everything = self.pool, np.arange(len(self.pool.ids))
        coded, drawn = np.zeros(0, dtype=np.int64), list[Drawn]()
        head: FrozenHead | None = None
        for wave in range(waves):
            rng = np.random.default_rng([self.seed, wave, zlib.crc32(strategy.encode()) if wave else 0])
            frame = np.setdiff1d(everything, coded)
            use = shares if head is not None else {"random": 1.0}
            by_question = strategy != "simple random" or head is None
            if head is not None and not shares:
                found = uncertainty(predicted(head, pool.part(frame), self.task))
                coded = np.concatenate([coded, frame[np.argsort(-found, kind="stable")[:size]]])
            else:
                signals = {} if head is None else self.signals(predicted(head, pool, self.task), coded, frame)
                largest = size / (size + len(coded)) if len(coded) else 1.0
                largest = largest if largest * len(frame) >= size else 1.0
                sizes = mixture_sizes({name: signals[name] for name in use if name != "random"}, use, len(frame))
                probabilities = inclusion_probabilities(sizes, size, largest)
                order = sampling_order([(pool.questions[i],) if by_question else () for i in frame], rng)
                chosen = order[systematic_sample(probabilities[order], rng.random())]
                weight = wave_weight(size, len(coded), float(probabilities.max()))
                drawn.append(Drawn(weight, {pool.ids[frame[i]]: float(probabilities[i]) for i in chosen}))
                coded = np.concatenate([coded, frame[chosen]])
            head = self.fit(coded)
            result: dict[str, Any] = {"codes": len(coded)}
            for name, rows in self.tests.items():
                result[f"kappa_{name}"] = kappa(rows.labels, predicted(head, rows, self.task).argmax(axis=1), self.task)
            if shares:
                result |= self.estimate(head, coded, effective_probabilities(drawn), rng)
            yield result

    def estimate(
        self, head: FrozenHead, coded: Ints, weights: dict[str, float], rng: np.random.Generator
    ) -> dict[str, float]:
        """Estimate the labels' shares in the pool, with cross-fitted machine codes."""
        pool, labels = self.pool, len(self.task.names)
        fold = rng.integers(FOLDS, size=len(pool.ids))
        machine = np.zeros((len(pool.ids), labels))
        for each in range(FOLDS):
            others = coded[fold[coded] != each]
            of_fold = np.flatnonzero(fold == each)
            codes = predicted(self.refit(head, others), pool.part(of_fold), self.task).argmax(axis=1)
            machine[of_fold] = np.eye(labels)[codes]
        truth = np.eye(labels)[pool.labels]
        corrected = machine.copy()
        inverse = np.array([1 / weights[pool.ids[i]] for i in coded])
        corrected[coded] += inverse[:, None] * (truth[coded] - machine[coded])
        error = corrected.mean(axis=0) - truth.mean(axis=0)
        half = 1.96 * corrected.std(axis=0, ddof=1) / np.sqrt(len(pool.ids))
        return {
            "width": float(2 * half.mean()),
            "error": float(np.sqrt((error**2).mean())),
            "covered": float((np.abs(error) <= half).mean()),
        }


def run_frozen(folder: Path, out: Path, repetitions: int) -> None:
    """Run every strategy on every data set; finished runs are skipped."""
    done = {(run["data"], run["strategy"], run["repetition"]) for run in read_lines(out / "frozen.jsonl")}
    votes = read_votes(folder)
    for repetition in range(repetitions):
        for data, strategies in (("beetle", STRATEGIES), ("networks", STRATEGIES), ("voted", VOTED)):
            source = "beetle" if data == "voted" else data
            task = task_of(source)
            parts = {part: read_rows(folder, source, part, out) for part in ("train", "test_ua", "test_uq")}
            train = parts.pop("train")
            size, waves = (50, 5) if data == "voted" else (100, 5)
            for strategy, shares in strategies.items():
                if (data, strategy, repetition) in done:
                    continue
                of = Repetition(train, parts, task, repetition, votes if data == "voted" else {})
                measured = list(of.waves(strategy, shares, size, waves))
                write_line(
                    out / "frozen.jsonl",
                    {"data": data, "strategy": strategy, "repetition": repetition, "waves": measured},
                )
                print(data, strategy, repetition, [round(each["kappa_test_ua"], 3) for each in measured], flush=True)


class FineTuned:
    """Fits the fine-tuned student on rows of a repetition's pool."""

    def __init__(self, of: Repetition, data: str, epochs: int) -> None:
        import edgedistill as ed

        self.of, self.task = of, task_of(data)
        coded = ed.Task(self.task.kind, [ed.Label(name) for name in self.task.names], inputs=list(self.task.inputs))
        self.settings: dict[str, Any] = {
            "task": coded,
            "epochs": epochs,
            "learning_rate": 1e-4,
            "max_tokens": LABELS[data][2] // 2,
            "random_state": of.seed,
        }

    def frame(self, rows: Rows) -> Any:
        """Return rows as a DataFrame."""
        import pandas as pd

        pairs = zip(rows.inputs, rows.labels, strict=True)
        return pd.DataFrame([{**inputs, "label": self.task.names[label]} for inputs, label in pairs])

    def fit(self, places: Ints) -> Any:
        """Train on rows of the pool; validation rows choose the epoch."""
        from edgedistill.classifier import StudentClassifier

        rows = self.frame(self.of.pool.part(places))
        return StudentClassifier(**self.settings).fit(rows, "label", validation=self.frame(self.of.validation))

    def scores(self, clf: Any, rows: Rows) -> Floats:
        """Return probabilities in the task's order."""
        found: Floats = clf.predict_proba(self.frame(rows))
        return found[:, [list(clf.classes_).index(name) for name in self.task.names]]

    def kappas(self, clf: Any) -> dict[str, float]:
        """Return κ on both test sets."""
        return {
            f"kappa_{name}": kappa(rows.labels, self.scores(clf, rows).argmax(axis=1), self.task)
            for name, rows in self.of.tests.items()
        }


def run_fine_tuned(folder: Path, out: Path, repetitions: int, epochs: int) -> None:
    """Some random rows and then more by each strategy, with the fine-tuned student."""
    import torch

    torch.set_num_threads(1)
    done = {(run["data"], run["strategy"], run["repetition"]) for run in read_lines(out / "fine-tuned.jsonl")}
    for data, (first, more, strategies) in CONFIRMED.items():
        for repetition in range(repetitions):
            left = [each for each in strategies if (data, each, repetition) not in done]
            if left:
                confirm(folder, out, data, repetition, left, (first, more), epochs)


def confirm(
    folder: Path,
    out: Path,
    data: str,
    repetition: int,
    strategies: Sequence[str],
    sizes: tuple[int, int],
    epochs: int,
) -> None:
    """Train on random rows, draw more by each strategy, train again and measure."""
    source = "beetle" if data == "voted" else data
    train, test = (read_rows(folder, source, part, out) for part in ("train", "test_ua"))
    votes = read_votes(folder) if data == "voted" else {}
    of = Repetition(train, {"test_ua": test}, task_of(source), repetition, votes)
    student = FineTuned(of, source, epochs)
    everything, questions = np.arange(len(of.pool.ids)), of.pool.questions
    rng = np.random.default_rng([repetition, 0, 0])
    order = sampling_order([(question,) for question in questions], rng)
    coded = order[systematic_sample(np.full(len(everything), sizes[0] / len(everything)), rng.random())]
    first = student.fit(coded)
    signals_from, start = student.scores(first, of.pool), student.kappas(first)
    frame = np.setdiff1d(everything, coded)
    signals = of.signals(signals_from, coded, frame)
    for strategy in strategies:
        rng = np.random.default_rng([repetition, 1, zlib.crc32(strategy.encode())])
        shares = {**STRATEGIES, **VOTED}[strategy]
        mixed = mixture_sizes({name: signals[name] for name in shares if name != "random"}, shares, len(frame))
        drawing = inclusion_probabilities(mixed, sizes[1], sizes[1] / sum(sizes))
        order = sampling_order([(questions[i],) for i in frame], rng)
        chosen = order[systematic_sample(drawing[order], rng.random())]
        measured = student.kappas(student.fit(np.concatenate([coded, frame[chosen]])))
        run = {"data": data, "strategy": strategy, "repetition": repetition}
        waves = [{"codes": sizes[0], **start}, {"codes": sum(sizes), **measured}]
        write_line(out / "fine-tuned.jsonl", {**run, "waves": waves})
        print(data, strategy, repetition, start, measured, flush=True)


def run_curves(folder: Path, out: Path, repetitions: int) -> None:
    """Predict κ with more train rows from 400 of them, and train on as many."""
    curves.WIDEST = 9.0  # all predictions are measured; the summary counts those that are shown
    done = {(run["data"], run["repetition"]) for run in read_lines(out / "curves.jsonl")}
    for repetition in range(repetitions):
        for data in ("beetle", "networks"):
            if (data, repetition) in done:
                continue
            task = task_of(data)
            of = Repetition(read_rows(folder, data, "train", out), {}, task, repetition, {})
            human, labels = named(of.validation, task), named(of.pool, task)

            def coding(places: Sequence[int], of: Repetition = of, task: Task = task) -> list[str]:
                probabilities = predicted(of.fit(np.array(places)), of.validation, task)
                return [task.names[place] for place in probabilities.argmax(axis=1)]

            orders = [nested_order(labels[:400], task, seed) for seed in range(5)]
            codings = {size: [coding(order[:size]) for order in orders] for size in (50, 100, 200, 400)}
            curve = learning_curve(human, codings, task)
            line: dict[str, Any] = {"data": data, "repetition": repetition, "outlook": curve.outlook, "predictions": []}
            for each in curve.predictions:
                # The same 400 rows and others, as after more coding, on the same validation rows.
                more = [
                    [*range(400), *(400 + place for place in nested_order(labels[400:], task, seed)[: each.rows - 400])]
                    for seed in range(3)
                ]
                truth = fmean(kappa(of.validation.labels, indices(coding(rows), task), task) for rows in more)
                line["predictions"].append({**asdict(each), "truth": truth})
            line["at_400"] = curve.points[-1].mean.value
            write_line(out / "curves.jsonl", line)
            print(line, flush=True)


def indices(codes: Sequence[str], task: Task) -> Ints:
    """Return the index of each code."""
    return np.array([task.names.index(code) for code in codes], dtype=np.int64)


def curve_summary(out: Path) -> dict[str, Any]:
    """Return how often the predicted intervals held the gain in κ, by data set and factor."""
    found: dict[str, Any] = {}
    for run in read_lines(out / "curves.jsonl"):
        of_data = found.setdefault(run["data"], {"repetitions": 0, "outlooks": {}, "factors": {}})
        of_data["repetitions"] += 1
        of_data["outlooks"][run["outlook"]] = of_data["outlooks"].get(run["outlook"], 0) + 1
        for each in run["predictions"]:
            entry = of_data["factors"].setdefault(
                str(each["factor"]), {"rows": each["rows"], "held": [], "error": [], "width": []}
            )
            gain = each["truth"] - run["at_400"]
            entry["held"].append(each["gain"]["low"] <= gain <= each["gain"]["high"])
            entry["error"].append(each["gain"]["value"] - gain)
            entry["width"].append(each["gain"]["high"] - each["gain"]["low"])
    for of_data in found.values():
        for entry in of_data["factors"].values():
            entry["predictions"] = len(entry["held"])
            entry["held"], entry["error"] = round(fmean(entry["held"]), 3), interval(entry["error"])
            entry["shown"] = sum(width <= SHOWN for width in entry["width"])
            entry["width"] = interval(entry["width"])
    return found


def read_lines(file: Path) -> list[dict[str, Any]]:
    """Read the finished runs."""
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()] if file.exists() else []


def write_line(file: Path, value: dict[str, Any]) -> None:
    """Append a finished run."""
    with file.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(value) + "\n")


def interval(values: Sequence[float]) -> list[float]:
    """Return the mean and its 95 % t interval, rounded; of a single value the value."""
    mean, n = fmean(values), len(values)
    if n < 2:
        return [round(mean, 4)]
    half = float(t.ppf(0.975, n - 1) * np.std(values, ddof=1) / np.sqrt(n))
    return [round(mean, 4), round(mean - half, 4), round(mean + half, 4)]


def summary(out: Path) -> dict[str, Any]:
    """Return means over repetitions, and paired differences from the random draw by question, with intervals."""
    found: dict[str, Any] = {}
    for student in ("frozen", "fine-tuned"):
        runs: dict[str, dict[str, dict[int, list[dict[str, float]]]]] = {}
        for run in read_lines(out / f"{student}.jsonl"):
            runs.setdefault(run["data"], {}).setdefault(run["strategy"], {})[run["repetition"]] = run["waves"]
        for data, strategies in runs.items():
            base = strategies["random by question"]
            for strategy, repetitions in strategies.items():
                shared = sorted(base.keys() & repetitions.keys())
                waves = []
                for wave, first in enumerate(repetitions[shared[0]]):
                    entry: dict[str, Any] = {"codes": int(first["codes"])}
                    for name in (each for each in first if each != "codes"):
                        values = [repetitions[each][wave][name] for each in shared]
                        entry[name] = interval(values)
                        if strategy != "random by question" and name in base[shared[0]][wave]:
                            others = [base[each][wave][name] for each in shared]
                            entry[f"{name}_less_random"] = interval(np.subtract(values, others).tolist())
                    waves.append(entry)
                found.setdefault(student, {}).setdefault(data, {})[strategy] = {
                    "repetitions": len(shared),
                    "waves": waves,
                }
    return found


def main() -> None:
    """Run the benchmark or summarize it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--student", choices=["frozen", "fine-tuned", "curves"], default="frozen")
    parser.add_argument("--repetitions", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--summary", type=Path)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    if given.summary:
        given.summary.write_text(
            json.dumps({**summary(given.out), "curves": curve_summary(given.out)}, indent=1) + "\n", "utf-8"
        )
    elif given.student == "frozen":
        run_frozen(given.data, given.out, given.repetitions)
    elif given.student == "curves":
        run_curves(given.data, given.out, given.repetitions)
    else:
        run_fine_tuned(given.data, given.out, given.repetitions, given.epochs)


if __name__ == "__main__":
    main()
