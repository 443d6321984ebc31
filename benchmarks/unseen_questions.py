"""How students, the overlap baseline and blends of the two do on questions that nobody trained on: Beetle.

    python benchmarks/unseen_questions.py SHARED --out FOLDER [--backbones minilm] [--seeds 0 1 2] [--epochs 6]
        [--learning-rate 5e-5] [--scored-epochs 1] [--train-rows 1000] [--test-rows 300] [--frozen-only]

SHARED contains `data/beetle/`. For each seed the train rows are divided by question: of their 36 question texts 7 are
held out for validation and 7 for development; of the rows of the others a tenth is for validation and a tenth for
development, too. The student is fine-tuned on the rest, and its probabilities after every epoch are kept in FOLDER, so
that an interrupted run goes on. `--train-rows` and `--test-rows` take some of the rows by chance, for a small run.
Validation rows choose epochs, penalties and weights; the development rows compare methods; the official test rows
(test_ua, those of questions that were trained on; test_uq) choose nothing. The result is written to
docs/results/unseen_questions.json, or to the file that `--result` names.
"""

import argparse
import csv
import json
import random
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.linear_model import LogisticRegression

from edgedistill.agreement import agreement
from edgedistill.student.data import Padding, TrainingRow, plan_batches
from edgedistill.student.frozen import FrozenHead, embedder, fit_heads, pooled_states, probabilities_of_logits
from edgedistill.student.model import backbone_folder, load_model, load_tokenizer_and_padding
from edgedistill.student.overlap import overlap_features
from edgedistill_serve.scoring.encoding import Encoder
from edgedistill_serve.task.task import Label, Task

LABELS = ("correct", "contradictory", "incorrect")
TASK = Task("nominal", tuple(map(Label, LABELS)), ("question", "reference_answer", "response"))
PARTS = ("train", "validation known", "validation unknown", "development known", "development unknown")
TESTS = {"test known": "test_ua", "test unknown": "test_uq"}
HELD_OUT, MAX_TOKENS, BATCH = 7, 128, 16
RESULTS = Path(__file__).parent.parent / "docs" / "results"
Array = npt.NDArray[Any]
Row = dict[str, str]


def read(file: Path) -> list[Row]:
    """Read rows, one reference answer a line."""
    with file.open(encoding="utf-8", newline="") as stream:
        return [
            row | {"reference_answer": row["reference_answer"].replace(" || ", "\n")} for row in csv.DictReader(stream)
        ]


def divide(rows: list[Row], seed: int) -> dict[str, list[int]]:
    """Return the places of the rows of each part."""
    random_state = random.Random(seed)  # noqa: S311 - a split, not a secret
    questions = sorted({row["question"] for row in rows})
    random_state.shuffle(questions)
    of = dict.fromkeys(questions[:HELD_OUT], "validation unknown")
    of |= dict.fromkeys(questions[HELD_OUT : 2 * HELD_OUT], "development unknown")
    parts: dict[str, list[int]] = {name: [] for name in PARTS}
    texts: dict[tuple[str, str], str] = {}
    for place, row in enumerate(rows):
        drawn = random_state.random()
        known = "validation known" if drawn < 0.1 else "development known" if drawn < 0.2 else "train"
        # Copies of a row stay together.
        part = texts.setdefault((row["question"], row["response"].lower()), of.get(row["question"], known))
        parts[part].append(place)
    return parts


def softmax(logits: Array) -> Array:
    """Return probabilities of logits, (rows, labels)."""
    return np.asarray(probabilities_of_logits(logits.astype(np.float32), TASK), dtype=np.float64)


def fine_tune(
    backbone: Path, rows: list[Row], train: list[int], others: list[int], file: Path, seed: int, given: Any
) -> Array:
    """Fine-tune a student; return the logits of the other rows after the scored epochs, (epochs, rows, labels)."""
    epochs = given.epochs
    if file.exists():
        return np.asarray(np.load(file))
    torch.manual_seed(seed)
    model = load_model(backbone, TASK)
    with tempfile.TemporaryDirectory() as folder:
        padding: Padding = load_tokenizer_and_padding(backbone, model, Path(folder))
        encoded = Encoder(Path(folder) / "tokenizer.json", MAX_TOKENS).encode(rows)
    every = [TrainingRow(one, LABELS.index(row["label"])) for one, row in zip(encoded, rows, strict=True)]
    optimizer = torch.optim.AdamW(model.parameters(), lr=given.learning_rate, weight_decay=0.01)
    steps = epochs * -(-len(train) // BATCH)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, (step + 1) / (0.1 * steps)) * (1 - step / steps)
    )
    kept = []
    for epoch in range(epochs):
        model.train()
        for batch in plan_batches([len(every[place]) for place in train], BATCH, seed, epoch):
            loss = model(**padding.batch([every[train[place]] for place in batch])).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        if (epoch + 1) % given.scored_epochs:
            continue
        model.eval()
        logits = np.zeros((len(every), len(LABELS)), dtype=np.float32)
        order = sorted(others, key=lambda at: len(every[at]))
        with torch.inference_mode():
            for start in range(0, len(order), 64):
                places = order[start : start + 64]
                inputs = padding.batch([every[place] for place in places])
                inputs.pop("labels")
                logits[places] = model(**inputs).logits.numpy()
        kept.append(logits)
        print(file.name, "epoch", epoch + 1, flush=True)
    np.save(file, np.array(kept))
    return np.array(kept)


def frozen_features(name: str, backbone: Path, rows: list[Row], folder: Path) -> dict[str, Array]:
    """Compute the baselines' features of all rows, or read those of an earlier run."""
    file = folder / f"{name}-features-{len(rows)}.npz"
    if not file.exists():
        states = pooled_states(backbone, TASK, MAX_TOKENS, rows)
        embed = embedder(backbone, MAX_TOKENS)
        first = [row | {"reference_answer": row["reference_answer"].splitlines()[0]} for row in rows]
        np.savez(
            file,
            mean=states["mean"],
            first=states["first"],
            overlap=overlap_features(rows, TASK, embed),
            overlap_of_first_reference=overlap_features(first, TASK, embed),
        )
    return dict(np.load(file))


class Comparison:
    """One division of the rows: what validation rows choose, and the figures of each method."""

    def __init__(self, rows: list[Row], parts: dict[str, list[int]]) -> None:
        self.rows, self.parts = rows, parts
        self.codes = np.array([LABELS.index(row["label"]) for row in rows])
        self.figures: dict[str, dict[str, dict[str, float]]] = {}

    def loss(self, probabilities: Array, part: str) -> float:
        """Mean cross-entropy of a part."""
        places = self.parts[part]
        return float(-np.log(np.maximum(probabilities[places, self.codes[places]], 1e-12)).mean())

    def score(self, probabilities: Array, part: str) -> dict[str, float]:
        """κ, macro-F1 and F1 of contradictory of a part."""
        places = self.parts[part]
        human = [self.rows[place]["label"] for place in places]
        found = agreement(human, [LABELS[at] for at in probabilities[places].argmax(axis=1)], TASK)
        kappa, macro_f1 = found.kappa, found.macro_f1
        return {
            "kappa": kappa.value if kappa else 0.0,
            "macro_f1": macro_f1.value if macro_f1 else 0.0,
            "contradictory": found.per_label["contradictory"].f1 or 0.0,
        }

    def add(self, name: str, probabilities: Array) -> Array:
        """Record the figures of a method."""
        self.figures[name] = {
            part: self.score(probabilities, part) for part in self.parts if part.startswith(("development", "test"))
        }
        return probabilities

    def regression(self, features: dict[str, Array], names: tuple[str, ...], by: str) -> Array:
        """Fit a logistic regression on features; the penalty has the lowest loss on a validation part."""
        every = np.concatenate([features[name] for name in names], axis=1)
        train, chosen = self.parts["train"], self.parts[by]
        labels = [row["label"] for row in self.rows]
        head: FrozenHead = fit_heads(
            {"mean": every[train]},
            [labels[place] for place in train],
            {"mean": every[chosen]},
            [labels[place] for place in chosen],
            TASK,
            poolings=("mean",),
        )[0]
        return softmax(head.logits(every))

    def best_epoch(self, logits: Array, by: str) -> int:
        """Return the epoch with the highest macro-F1 on a validation part, from 0."""
        return int(np.argmax([self.score(softmax(each), by)["macro_f1"] for each in logits]))

    def tempered(self, logits: Array, by: str) -> Array:
        """Return probabilities with the temperature that fits a validation part."""
        grid = [softmax(logits / temperature) for temperature in np.geomspace(0.5, 8, 33)]
        return min(grid, key=lambda each: self.loss(each, by))

    def blend(self, one: Array, other: Array, by: str) -> tuple[Array, float]:
        """Return the weighted mean with the lowest loss on a validation part, and the weight of the first."""
        grid = [(weight * one + (1 - weight) * other, float(weight)) for weight in np.linspace(0, 1, 21)]
        return min(grid, key=lambda each: self.loss(each[0], by))


def compare(rows: list[Row], parts: dict[str, list[int]], features: dict[str, Array], logits: Array | None) -> Any:
    """Return the figures of every method on one division, and what was chosen."""
    found = Comparison(rows, parts)
    chosen: dict[str, Any] = {}
    unknown, known = "validation unknown", "validation known"
    found.add("frozen encoder", found.regression(features, ("mean",), unknown))
    overlap = found.add("overlap baseline", found.regression(features, ("overlap",), unknown))
    found.add("overlap baseline, first reference", found.regression(features, ("overlap_of_first_reference",), unknown))
    found.add("frozen encoder and overlap in one", found.regression(features, ("mean", "overlap"), unknown))
    if logits is None:
        return found.figures, chosen
    for by in (known, unknown):
        epoch = chosen[f"epoch by {by}"] = found.best_epoch(logits, by)
        found.add(f"student, epoch by {by}", softmax(logits[epoch]))
        blended, chosen[f"weight by {by}"] = found.blend(found.tempered(logits[epoch], by), overlap, by)
        found.add(f"blend by {by}", blended)
    # Stacking: the head reads the student's logits and the nine numbers. Fitted on the validation rows of unknown
    # questions, because the student knows the train rows by heart.
    last = logits[chosen[f"epoch by {unknown}"]]
    both = np.concatenate([last, features["overlap"]], axis=1)
    at = parts[unknown]
    scale = both[at].std(axis=0) + 1e-6
    stacked = LogisticRegression(C=0.1, max_iter=1000).fit(both[at] / scale, found.codes[at])
    if len(stacked.classes_) == len(LABELS):
        found.add("stacked on validation rows", stacked.predict_proba(both / scale))
    # Decision by class weights that maximize macro-F1 on the validation rows of unknown questions.
    blended = found.blend(found.tempered(last, unknown), overlap, unknown)[0]
    weights = [np.array([1.0, rare, incorrect]) for rare in np.geomspace(0.5, 4, 13) for incorrect in (0.7, 1.0, 1.4)]
    best = max(weights, key=lambda each: found.score(blended * each, unknown)["macro_f1"])
    chosen["label weights"] = [round(float(each), 3) for each in best]
    found.add("blend by validation unknown, label weights", blended * best)
    return found.figures, chosen


def main() -> None:
    """Train what is not trained yet, compare, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("shared", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--backbones", nargs="+", default=["minilm"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--learning-rate", type=float, default=5e-5)
    parser.add_argument("--scored-epochs", type=int, default=1, help="score the rows after every so many epochs")
    parser.add_argument("--train-rows", type=int, default=4000)
    parser.add_argument("--test-rows", type=int, default=1000)
    parser.add_argument("--result", default="unseen_questions.json", help="file name in docs/results")
    parser.add_argument("--frozen-only", action="store_true", help="fine-tune nothing")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    data = given.shared / "data" / "beetle"

    def some(name: str, most: int) -> list[Row]:
        every = read(data / f"{name}.csv")
        return random.Random(0).sample(every, most) if len(every) > most else every  # noqa: S311 - a sample, not a secret

    rows = some("train", given.train_rows)
    starts = {}
    for part, name in TESTS.items():
        more = some(name, given.test_rows)
        starts[part] = list(range(len(rows), len(rows) + len(more)))
        rows += more
    train_rows = rows[: starts["test known"][0]]
    results: dict[str, Any] = {
        "settings": {
            "epochs": given.epochs,
            "seeds": given.seeds,
            "learning_rate": given.learning_rate,
            "scored_epochs": given.scored_epochs,
            "train_rows": given.train_rows,
            "test_rows": given.test_rows,
        }
    }
    for name in given.backbones:
        backbone = backbone_folder(name, Path.cwd())
        features = frozen_features(name, backbone, rows, given.out)
        runs = []
        for seed in given.seeds:
            parts = divide(train_rows, seed) | starts
            # test_ua has answers to all questions; those that this division holds out are not known here.
            asked = {train_rows[place]["question"] for place in parts["train"]}
            parts["test known"] = [place for place in starts["test known"] if rows[place]["question"] in asked]
            file = given.out / f"{name}-{seed}-{given.epochs}-{given.learning_rate:g}-{len(rows)}.npy"
            others = [place for part, places in parts.items() if part != "train" for place in places]
            logits = None
            if not given.frozen_only:
                logits = fine_tune(backbone, rows, parts["train"], others, file, seed, given)
            figures, chosen = compare(rows, parts, features, logits)
            sizes = {part: len(places) for part, places in parts.items()}
            runs.append({"seed": seed, "rows": sizes, "chosen": chosen, "figures": figures})
            results[name] = {"runs": runs, "mean": mean(runs)}
            (RESULTS / given.result).write_text(json.dumps(rounded(results), indent=1) + "\n", encoding="utf-8")
        print(json.dumps(rounded(results[name]["mean"]), indent=1))


def mean(runs: list[Any]) -> dict[str, Any]:
    """Return the mean of every figure over the runs."""
    found: dict[str, dict[str, dict[str, list[float]]]] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for run in runs:
        for method, parts in run["figures"].items():
            for part, figures in parts.items():
                for name, value in figures.items():
                    found[method][part][name].append(value)
    return {
        method: {part: {name: float(np.mean(each)) for name, each in of.items()} for part, of in parts.items()}
        for method, parts in found.items()
    }


def rounded(value: Any) -> Any:
    """Return a JSON value with numbers of three decimals."""
    if isinstance(value, dict):
        return {name: rounded(each) for name, each in value.items()}
    if isinstance(value, list):
        return [rounded(each) for each in value]
    return round(value, 3) if isinstance(value, float) else value


if __name__ == "__main__":
    main()
