"""F1 of a label of a multilabel task on new rows, by the method that chose its threshold on validation rows.

The log odds of a label are drawn from a normal distribution, its presence by these odds; the student's logit is the log
odds times a slope plus a shift. Thresholds are evaluated on 4,000 other rows, 200 times each:

    python benchmarks/multilabel_thresholds.py
"""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgedistill.student.label_thresholds import regularized_threshold
from edgedistill_serve.task.label_decoding import sigmoid

RULES = {"0.5": None, "F1": 0, "20": 20, "50": 50, "100": 100}
LABELS = {"half of the rows": (0.0, 4.0), "a third": (-2.0, 3.0), "an eighth": (-4.0, 3.0)}
STUDENTS = {"calibrated": (1.0, 0.0), "underconfident": (0.6, 0.0), "overconfident": (1.6, 0.0), "too low": (1.0, -1.0)}
ROUNDS = 200
Rows: TypeAlias = tuple[NDArray[np.float64], NDArray[np.bool_]]


def draw_rows(rng: np.random.Generator, rows: int, label: tuple[float, float], student: tuple[float, float]) -> Rows:
    """Return probabilities of a label, and whether it is present."""
    odds = rng.normal(*label, rows)
    slope, shift = student
    return sigmoid(slope * odds + shift, 1.0), rng.random(rows) < sigmoid(odds, 1.0)


def f1(predicted: NDArray[np.bool_], present: NDArray[np.bool_]) -> float:
    """Return F1 of a label that is present in some row."""
    return float(2 * (predicted & present).sum() / (predicted.sum() + present.sum()))


def mean_f1s(rows: int, label: tuple[float, float], student: tuple[float, float]) -> list[float]:
    """Return the mean F1 on new rows by method."""
    rng = np.random.default_rng(0)
    results: dict[str, list[float]] = {rule: [] for rule in RULES}
    for _ in range(ROUNDS):
        validation, test = draw_rows(rng, rows, label, student), draw_rows(rng, 4000, label, student)
        if not validation[1].any():
            continue
        for rule, pseudo_rows in RULES.items():
            threshold = 0.5 if pseudo_rows is None else regularized_threshold(*validation, pseudo_rows)
            results[rule].append(f1(test[0] >= threshold, test[1]))
    return [float(np.mean(values)) for values in results.values()]


def main() -> None:
    """Print a table in Markdown."""
    print("| validation rows | label present in | probabilities |", " | ".join(RULES), "|")
    print("|" + "---|" * (3 + len(RULES)))
    for rows in (40, 100, 300):
        for label, odds in LABELS.items():
            for student, line in STUDENTS.items():
                figures = (f"{value:.3f}".removeprefix("0") for value in mean_f1s(rows, odds, line))
                print(f"| {rows} | {label} | {student} |", " | ".join(figures), "|", flush=True)


if __name__ == "__main__":
    main()
