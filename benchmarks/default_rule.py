"""From which probability should a label be accepted where a project states no rule?

    python benchmarks/default_rule.py DATA --out docs/results/default_rule.json

DATA has folders `babe`, `beetle` and `networks` with `train.csv` and test files, see benchmarks/README. For each, a
classifier on the frozen encoder is fitted on 400 human-coded rows, and its temperature on 100 others. For each least
probability: the share of the test rows that is accepted, the share of them that is wrong, and the share that is
accepted of texts of another task. The limit of novelty, which stops most of these, is off here.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd

from edgedistill.decisions import ValidationScores, fit_temperature
from edgedistill.student import backbone_folder
from edgedistill.student.frozen import fit_heads, pooled_states
from edgedistill_serve.scoring.encoding import Encoded
from edgedistill_serve.task.task import Label, Task

LEAST = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9)
TRAIN, VALIDATION, TEST = 400, 100, 400
READ = Encoded((1,), (0,), 1, truncated=False)


def rows_of(folder: Path, file: str, number: int, task: Task) -> tuple[list[dict[str, str]], list[str]]:
    """Return a random sample of the rows of a file: the inputs of the task, and the codes."""
    table = pd.read_csv(folder / file, dtype=str).dropna(subset=["response", "label"]).sample(frac=1, random_state=0)
    table = table[table["label"].isin(task.names)][:number]
    return table[list(task.inputs)].fillna("").to_dict("records"), table["label"].tolist()


def measure(folder: Path, test_file: str, others: list[str], backbone: Path) -> list[dict[str, float]]:
    """Return a line per least probability."""
    labels = sorted(pd.read_csv(folder / "train.csv", dtype=str)["label"].dropna().unique())
    task = Task("nominal", tuple(map(Label, labels)), ("response",))
    known, codes = rows_of(folder, "train.csv", TRAIN + VALIDATION, task)
    test, test_codes = rows_of(folder, test_file, TEST, task)
    states = pooled_states(backbone, task, 128, [*known, *test, *({"response": text} for text in others)])
    parts = np.cumsum([TRAIN, VALIDATION, len(test)])
    train, validation, tested, odd = (
        dict(zip(states, each, strict=True))
        for each in zip(*(np.split(vectors, parts) for vectors in states.values()), strict=True)
    )
    head = fit_heads(train, codes[:TRAIN], validation, codes[TRAIN:], task)[0]
    logits = {
        name: head.logits(vectors[head.pooling])
        for name, vectors in (("validation", validation), ("test", tested), ("odd", odd))
    }
    scores = ValidationScores(
        task=task,
        ids=tuple(map(str, range(VALIDATION))),
        codes=tuple(codes[TRAIN:]),
        logits=logits["validation"].astype(np.float64),
        encoded=(READ,) * VALIDATION,
    )
    temperature = fit_temperature(scores).temperature

    def probabilities(of: str) -> np.ndarray:
        scaled = logits[of].astype(np.float64) / temperature
        shares = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        return shares / shares.sum(axis=1, keepdims=True)

    right = np.array(labels)[logits["test"].argmax(axis=1)] == np.array(test_codes)
    confidence, odd_confidence = probabilities("test").max(axis=1), probabilities("odd").max(axis=1)
    lines = []
    for least in LEAST:
        accepted = confidence >= least
        lines.append(
            {
                "least": least,
                "accepted": round(float(accepted.mean()), 3),
                "wrong": round(float(1 - right[accepted].mean()), 3) if accepted.any() else None,
                "wrong_of_reviewed": round(float(1 - right[~accepted].mean()), 3) if (~accepted).any() else None,
                "other_texts_accepted": round(float((odd_confidence >= least).mean()), 3),
            }
        )
    return lines


def main() -> None:
    """Measure three data sets, and write the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    backbone = backbone_folder("minilm", Path())
    sets = {"babe": "test.csv", "beetle": "test_ua.csv", "networks": "test_ua.csv"}
    texts = {
        name: pd.read_csv(given.data / name / file, dtype=str)["response"].dropna().sample(60, random_state=1).tolist()
        for name, file in sets.items()
    }
    found = {}
    for name, file in sets.items():
        others = [text for other, some in texts.items() if other != name for text in some]
        found[name] = measure(given.data / name, file, others, backbone)
        print(name, *map(json.dumps, found[name]), sep="\n  ", flush=True)
    given.out.write_text(json.dumps(found, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
