"""How often the alternative annotator test calls a machine as good as a coder that is not, and one that is.

    python benchmarks/alt_test_errors.py [--samples 2000] [--out docs/results/alt_test_errors.json]

Coders give the true one of three labels with a stated probability, else one of the others. The machine's probability is
found such that its advantage probability is exactly ε below that of every coder: then each coder beaten is an error.
For the power the machine is as good as a coder. With learners, ten rows each, machine errors come in runs: a learner's
rows are all easy or all hard for the machine.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgedistill.agreement.alt_test import alt_test
from edgedistill_serve.task.task import Label, Task

LABELS = ("a", "b", "c")
TASK = Task("nominal", tuple(map(Label, LABELS)), ("response",))
EPSILON, ROWS_OF_LEARNER = 0.15, 10
Codes = NDArray[np.int64]


def coding(truth: Codes, correct: NDArray[np.float64] | float, rng: np.random.Generator) -> Codes:
    """Return labels that are the true ones with these probabilities."""
    other = (truth + rng.integers(1, len(LABELS), truth.shape)) % len(LABELS)
    return np.where(rng.random(truth.shape) < correct, truth, other)


def machine_correct(accuracy: float, rows: int, grouped: bool, rng: np.random.Generator) -> NDArray[np.float64] | float:
    """Return the machine's probability of the true label on each row."""
    if not grouped:
        return accuracy
    spread = min(accuracy, 1 - accuracy, 0.25)
    learners = rng.choice([-spread, spread], -(-rows // ROWS_OF_LEARNER))
    return np.repeat(accuracy + learners, ROWS_OF_LEARNER)[:rows]


def mean_difference(accuracy: float, coder: float, coders: int, rng: np.random.Generator) -> float:
    """Return by how much a coder's advantage probability exceeds the machine's, on very many rows."""
    truth = rng.integers(0, len(LABELS), 400_000)
    machine, own = coding(truth, accuracy, rng), coding(truth, coder, rng)
    others = [coding(truth, coder, rng) for _ in range(coders - 1)]
    agreed = [sum((each == other).astype(int) for other in others) for each in (machine, own)]
    return float((agreed[1] > agreed[0]).mean() - (agreed[0] > agreed[1]).mean())


def accuracy_at(difference: float, coder: float, coders: int) -> float:
    """Return the machine's accuracy at which the difference has this value."""
    low, high = 0.0, coder
    for _ in range(14):
        middle = (low + high) / 2
        found = mean_difference(middle, coder, coders, np.random.default_rng(0))
        low, high = (middle, high) if found > difference else (low, middle)
    return (low + high) / 2


def samples(
    accuracy: float, coder: float, coders: int, rows: int, count: int, grouped: bool
) -> Iterator[tuple[list[str], dict[str, list[str]], list[str] | None]]:
    """Yield the machine's labels, the codes of each coder, and the learner of each row."""
    rng = np.random.default_rng(rows + coders)
    names = np.array(LABELS)
    groups = [str(row // ROWS_OF_LEARNER) for row in range(rows)] if grouped else None
    for _ in range(count):
        truth = rng.integers(0, len(LABELS), rows)
        machine = coding(truth, machine_correct(accuracy, rows, grouped, rng), rng)
        columns = {str(n): names[coding(truth, coder, rng)].tolist() for n in range(coders)}
        yield names[machine].tolist(), columns, groups


def rates(accuracy: float, coder: float, coders: int, rows: int, count: int, grouped: bool) -> dict[str, Any]:
    """Return by kind of test how often a coder alone is beaten (p at most .05), and how often the machine passes."""
    kinds: dict[str, dict[str, Any]] = {"exact": {}, "t": {"decision": "t"}}
    alone, passed = dict.fromkeys([*kinds, "exact without groups"], 0), dict.fromkeys(kinds, 0)
    for labels, columns, groups in samples(accuracy, coder, coders, rows, count, grouped):
        for kind, options in kinds.items():
            found = alt_test(labels, columns, TASK, epsilon=EPSILON, groups=groups, resamples=1, **options)
            alone[kind] += sum(each.p <= 0.05 for each in found.coders)
            passed[kind] += found.passed
        if grouped:
            plain = alt_test(labels, columns, TASK, epsilon=EPSILON, resamples=1)
            alone["exact without groups"] += sum(each.p <= 0.05 for each in plain.coders)
    if not grouped:
        del alone["exact without groups"]
    return {
        "beaten": {kind: round(number / count / coders, 4) for kind, number in alone.items()},
        "passed": {kind: round(number / count, 4) for kind, number in passed.items()},
    }


def main() -> None:
    """Run every setting and write the rates."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--out", type=Path, default=Path("docs/results/alt_test_errors.json"))
    options = parser.parse_args()
    settings = []
    for coder in (0.95, 0.85):
        for coders in (3, 5):
            worst = accuracy_at(EPSILON, coder, coders)
            for rows, grouped in ((30, False), (60, False), (120, False), (240, False), (120, True), (240, True)):
                setting = {"coder_accuracy": coder, "coders": coders, "rows": rows, "learners": grouped}
                settings.append(
                    setting
                    | {"machine_accuracy_at_epsilon": round(worst, 4)}
                    | {"errors": rates(worst, coder, coders, rows, options.samples, grouped)}
                    | {"power": rates(coder, coder, coders, rows, max(1, options.samples // 4), grouped)}
                )
                print(json.dumps(settings[-1]), flush=True)
    result = {"epsilon": EPSILON, "samples": options.samples, "settings": settings}
    options.out.write_text(json.dumps(result, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
