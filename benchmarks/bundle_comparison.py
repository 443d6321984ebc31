"""How often is a bundle that is as good as the one in use called better or worse, and how often is a better one found?

    python benchmarks/bundle_comparison.py docs/results/bundle_comparison.json

Simulates two bundles on the same coded rows. Each row has a difficulty, which both share: each codes it as people do
with a probability of its own, correlated between the bundles and within a learner. `edgedistill compare` decides by the
paired 95 % interval of the difference in kappa. Takes a few minutes on one core.
"""

import argparse
import json
import platform
import time
from pathlib import Path

import numpy as np

from edgedistill.agreement import compare
from edgedistill.evaluation.comparison import decide
from edgedistill_serve.task.task import Label, Task

LABELS = ("a", "b", "c")
SHARES = (0.6, 0.3, 0.1)
TASK = Task("nominal", tuple(map(Label, LABELS)), ("response",))
FIGURES = {"kappa": lambda draws: draws.kappa(quadratic=False)}


def coding(human: np.ndarray, luck: np.ndarray, accuracy: float, shared: float, rng: np.random.Generator) -> np.ndarray:
    """Return the labels of a bundle: right where its luck, a mean of the row's and its own, is below a quantile."""
    own = np.where(rng.random(len(human)) < shared, luck, rng.random(len(human)))
    others = (human + 1 + rng.integers(0, 2, len(human))) % 3
    return np.where(own < accuracy, human, others)


def simulate(
    rng: np.random.Generator, *, rows: int, learners: int, accuracy: float, gain: float, shared: float = 0.8
) -> str:
    """Return the verdict on one pair of bundles."""
    human = rng.choice(3, p=SHARES, size=rows)
    luck, groups = rng.random(rows), None
    if learners:
        learner = np.arange(rows) % learners
        of_learner = rng.random(learners)[learner]
        luck = np.where(rng.random(rows) < 0.3, of_learner, luck)  # answers of a learner are alike
        groups = [f"l{each}" for each in learner]
    old = coding(human, luck, accuracy, shared, rng)
    new = coding(human, luck, accuracy + gain, shared, rng)
    truth, first, second = ([LABELS[each] for each in labels] for labels in (human, old, new))
    found = compare(truth, first, second, TASK, groups=groups, figures=FIGURES, resamples=1000)
    return decide(found.differences["kappa"])


def main() -> None:
    """Run the simulations and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--runs", type=int, default=500)
    given = parser.parse_args()
    start, lines = time.monotonic(), []
    for gain in (0.0, 0.05, 0.1):
        for rows, learners in ((20, 0), (50, 0), (200, 0), (500, 0), (100, 10), (200, 40)):
            for accuracy in (0.7, 0.89):
                rng = np.random.default_rng(1)
                settings = {"rows": rows, "learners": learners, "accuracy": accuracy, "gain": gain}
                verdicts = [simulate(rng, **settings) for _ in range(given.runs)]
                shares = {name: round(verdicts.count(name) / given.runs, 3) for name in ("better", "worse")}
                lines.append(settings | shares)
                print(lines[-1], flush=True)
    result = {
        "what": "two simulated bundles that share 80 % of what makes a row easy; 3 labels; decided by kappa",
        "runs": given.runs,
        "label_shares": SHARES,
        "verdicts": lines,
        "python": platform.python_version(),
        "seconds": round(time.monotonic() - start),
    }
    given.out.write_text(json.dumps(result, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
