"""Which threshold should a label of a multilabel task get? F1 on new rows, by how it was chosen on validation rows.

A label's log odds are drawn from a normal distribution, whether it holds by these odds; the student's logit is the log
odds times a slope plus a shift. Chosen on so many validation rows, judged on 4,000 others, 200 times each:

    python benchmarks/multilabel_thresholds.py
"""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgedistill.student.label_thresholds import steadied_threshold
from edgedistill_serve.task.label_decoding import sigmoid

RULES = {"0.5": None, "F1": 0, "20": 20, "50": 50, "100": 100}
LABELS = {"half of the rows": (0.0, 4.0), "a third": (-2.0, 3.0), "an eighth": (-4.0, 3.0)}
STUDENTS = {"right": (1.0, 0.0), "too unsure": (0.6, 0.0), "too sure": (1.6, 0.0), "too low": (1.0, -1.0)}
ROUNDS = 200
Rows: TypeAlias = tuple[NDArray[np.float64], NDArray[np.bool_]]


def drawn(rng: np.random.Generator, rows: int, label: tuple[float, float], student: tuple[float, float]) -> Rows:
    """Probabilities of a label, and whether it holds."""
    odds = rng.normal(*label, rows)
    slope, shift = student
    return sigmoid(slope * odds + shift, 1.0), rng.random(rows) < sigmoid(odds, 1.0)


def f1(given: NDArray[np.bool_], holds: NDArray[np.bool_]) -> float:
    """F1 of a label that holds somewhere."""
    return float(2 * (given & holds).sum() / (given.sum() + holds.sum()))


def compared(rows: int, label: tuple[float, float], student: tuple[float, float]) -> list[float]:
    """The mean F1 on new rows by rule."""
    rng = np.random.default_rng(0)
    found: dict[str, list[float]] = {rule: [] for rule in RULES}
    for _ in range(ROUNDS):
        chose, judged = drawn(rng, rows, label, student), drawn(rng, 4000, label, student)
        if not chose[1].any():
            continue
        for rule, imaginary in RULES.items():
            threshold = 0.5 if imaginary is None else steadied_threshold(*chose, imaginary)
            found[rule].append(f1(judged[0] >= threshold, judged[1]))
    return [float(np.mean(values)) for values in found.values()]


def main() -> None:
    """Print a table in Markdown."""
    print("| validation rows | label holds in | probabilities |", " | ".join(RULES), "|")
    print("|" + "---|" * (3 + len(RULES)))
    for rows in (40, 100, 300):
        for label, odds in LABELS.items():
            for student, line in STUDENTS.items():
                figures = (f"{value:.3f}".removeprefix("0") for value in compared(rows, odds, line))
                print(f"| {rows} | {label} | {student} |", " | ".join(figures), "|", flush=True)


if __name__ == "__main__":
    main()
