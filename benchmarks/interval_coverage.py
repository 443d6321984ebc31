"""How often 95 % intervals of agreement hold the truth, and how often the gate passes a teacher that it should not.

    python benchmarks/interval_coverage.py coverage    # rows independent: by rows, accuracy and labels
    python benchmarks/interval_coverage.py learners    # rows of learners whose accuracies differ
    python benchmarks/interval_coverage.py pairs       # differences of two codings of the same rows
    python benchmarks/interval_coverage.py gate        # false passes, by rows, before and after

Samples are drawn from a stated truth with a stated seed; `--samples` sets their number per cell (default 400; the
standard error of a coverage of .95 is then .011). Prints Markdown tables of docs/agreement.md and decision 36.
"""

import argparse
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from edgedistill.agreement.bootstrap import Figure
from edgedistill.agreement.confusion import kappas
from edgedistill.agreement.draws import ConfusionDraws, draw_confusions
from edgedistill.agreement.paired import pair_labels
from edgedistill_serve.task.task import Label, Task

Matrix = NDArray[np.float64]

ROWS = (5, 15, 30, 60, 120, 250, 500)
ACCURACIES = (0.5, 0.7, 0.8, 0.9, 0.95, 1.0)
RESAMPLES = 500
LABELS: dict[str, tuple[tuple[float, ...], bool]] = {
    "2 labels": ((0.5, 0.5), False),
    "3 labels": ((1 / 3, 1 / 3, 1 / 3), False),
    "5 labels, .6 to .05": ((0.6, 0.2, 0.1, 0.05, 0.05), False),
    "4 ordinal, .6 to .1": ((0.6, 0.2, 0.1, 0.1), True),
}
"""By name, how often each label occurs, and whether the task is ordinal."""


def truth_of(shares: tuple[float, ...], accuracy: float, *, ordinal: bool) -> Matrix:
    """Return the probability of each pair of labels; errors of an ordinal task are mostly to a neighbour."""
    steps = np.arange(len(shares))
    wrong = np.where(np.eye(len(shares)) == 1, 0, 4.0 ** -np.abs(steps[:, None] - steps) if ordinal else 1.0)
    wrong = (1 - accuracy) * wrong / wrong.sum(axis=1, keepdims=True)
    return np.asarray(np.array(shares)[:, None] * (wrong + accuracy * np.eye(len(shares))))


def figures(draws: ConfusionDraws, *, ordinal: bool) -> dict[str, Figure]:
    """Return the figures whose intervals are measured."""
    return {
        "kappa": draws.kappa(quadratic=ordinal),
        "macro-F1": draws.labels.macro("f1"),
        "accuracy": draws.accuracy(),
    }


def true_figures(truth: Matrix, occurs: NDArray[np.bool_], *, ordinal: bool) -> dict[str, float]:
    """Return the true figures; macro-F1 is the mean over the labels that occur in the sample."""
    correct = np.diagonal(truth)
    f1 = 2 * correct / (truth.sum(axis=0) + truth.sum(axis=1))
    return {
        "kappa": float(kappas(truth[None], quadratic=ordinal)[0]),
        "macro-F1": float(f1[occurs].mean()),
        "accuracy": float(correct.sum()),
    }


def held(truth: Matrix, rows: int, samples: int, *, ordinal: bool, learners: tuple[int, float] | None = None) -> Matrix:
    """Return how often each interval holds the truth, and how often its lower end is above it, (figures, 2).

    Args:
        truth: The probability of each pair of labels.
        rows: Rows of a sample.
        samples: Number of samples.
        ordinal: Whether κ is quadratic weighted.
        learners: Number of learners, and the correlation of correctness between two rows of one.
    """
    rng, labels, counted = np.random.default_rng(rows), len(truth), []
    for sample in range(samples):
        reference, coded, groups = sample_rows(truth, rows, learners, rng)
        draws = draw_confusions(reference, coded, labels, groups, RESAMPLES, sample)
        occurs = draws.tables[0].sum(axis=0) + draws.tables[0].sum(axis=1) > 0
        expected = true_figures(truth, occurs, ordinal=ordinal)
        line = []
        for name, figure in figures(draws, ordinal=ordinal).items():
            found = figure.estimate()
            true = expected[name]
            above = found is not None and found.low > true + 1e-9
            line.append((np.nan, np.nan) if found is None else (not above and true <= found.high + 1e-9, above))
        counted.append(line)
    return np.asarray(np.nanmean(np.array(counted, dtype=np.float64), axis=0))


def sample_rows(
    truth: Matrix, rows: int, learners: tuple[int, float] | None, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64], list[str] | None]:
    """Draw codings of rows; each learner has an own accuracy, from a beta distribution."""
    labels = len(truth)
    if learners is None:
        cells = rng.choice(labels**2, size=rows, p=truth.ravel() / truth.sum())
        return cells // labels, cells % labels, None
    count, correlation = learners
    accuracy = float(np.trace(truth))
    strength = (1 - correlation) / correlation
    of_learner = rng.beta(accuracy * strength, (1 - accuracy) * strength, size=count)
    learner = np.arange(rows) % count
    reference = rng.choice(labels, size=rows, p=truth.sum(axis=1))
    other = (reference + rng.integers(1, labels, size=rows)) % labels
    return (
        reference,
        np.where(rng.random(rows) < of_learner[learner], reference, other),
        [str(each) for each in learner],
    )


def percent(share: float) -> str:
    """Return a share in percent."""
    return "-" if np.isnan(share) else f"{100 * share:.0f}"


def coverage_tables(samples: int) -> Iterator[str]:
    """Print how often intervals hold the truth, and in parentheses how often the lower end is above it, in percent."""
    for place, name in enumerate(("κ (quadratic weighted for ordinal labels)", "macro-F1", "accuracy")):
        yield f"\n{name}:\n"
        yield "| labels | rows | " + " | ".join(f"accuracy {each:g}" for each in ACCURACIES) + " |"
        yield "|---|---|" + "---|" * len(ACCURACIES)
        for labels, (shares, ordinal) in LABELS.items():
            for rows in ROWS:
                found = [_cell(shares, accuracy, rows, samples, ordinal)[place] for accuracy in ACCURACIES]
                yield f"| {labels} | {rows} | " + " | ".join(f"{percent(a)} ({percent(b)})" for a, b in found) + " |"


_CELLS: dict[tuple[object, ...], Matrix] = {}


def _cell(shares: tuple[float, ...], accuracy: float, rows: int, samples: int, ordinal: bool) -> Matrix:
    key = (shares, accuracy, rows, samples, ordinal)
    if key not in _CELLS:
        _CELLS[key] = held(truth_of(shares, accuracy, ordinal=ordinal), rows, samples, ordinal=ordinal)
    return _CELLS[key]


def learner_tables(samples: int) -> Iterator[str]:
    """Print the coverage of the interval of κ where the accuracies of learners differ."""
    accuracies = (0.7, 0.9, 0.95, 0.98)
    yield "| learners | rows of each | correlation | " + " | ".join(f"accuracy {each:g}" for each in accuracies) + " |"
    yield "|---|---|---|" + "---|" * len(accuracies)
    for count, each in ((8, 4), (20, 5), (20, 20), (40, 5), (60, 10)):
        for correlation in (0.05, 0.2, 0.4):
            found = [
                held(
                    truth_of((1 / 3,) * 3, accuracy, ordinal=False),
                    count * each,
                    samples,
                    ordinal=False,
                    learners=(count, correlation),
                )[0]
                for accuracy in accuracies
            ]
            cells = " | ".join(f"{percent(a)} ({percent(b)})" for a, b in found)
            yield f"| {count} | {each} | {correlation:g} | {cells} |"


def pair_tables(samples: int) -> Iterator[str]:
    """Print how often intervals of differences hold the truth: the second coding is wrong on some rows of the first."""
    task = Task("nominal", tuple(Label(name) for name in "abc"), ("response",))
    yield "| rows | only one right, share of rows | κ | macro-F1 | accuracy |"
    yield "|---|---|---|---|---|"
    for rows in ROWS[1:]:
        for apart in (0.0, 0.02, 0.1, 0.3):
            rng, counted = np.random.default_rng(rows), []
            for sample in range(samples):
                human = rng.integers(3, size=rows)
                kind = rng.random(rows)
                first = np.where((kind < apart / 2) | (kind > 0.9), (human + 1) % 3, human)
                second = np.where(((kind >= apart / 2) & (kind < apart)) | (kind > 0.9), (human + 1) % 3, human)
                names = [["abc"[code] for code in coding] for coding in (human, first, second)]
                pair = pair_labels(names[0], names[1], names[2], task, None, RESAMPLES, sample)
                found = [
                    pair.difference(lambda draws: draws.kappa(quadratic=False)),
                    pair.difference(lambda draws: draws.labels.macro("f1")),
                    pair.difference(lambda draws: draws.accuracy()),
                ]
                counted.append([np.nan if each is None else each.low <= 0 <= each.high for each in found])
            shares = np.nanmean(np.array(counted, dtype=np.float64), axis=0)
            yield f"| {rows} | {apart:g} | " + " | ".join(map(percent, shares)) + " |"


def gate_tables(samples: int) -> Iterator[str]:
    """Print how many of 100 teachers pass a gate of κ .6, with the intervals of before and of now.

    The selective teacher codes the rows that it codes correctly, and a fifth of the others.
    """
    yield "| rows | κ .58, before | now | κ .5, before | now | κ .4, selective, before | now | κ .9, before | now |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for rows in (3, 10, 15, 30, 60, 120, 250, 500):
        cells = []
        for kappa, sure in ((0.58, False), (0.5, False), (0.4, True), (0.9, False)):
            truth = truth_of((1 / 3,) * 3, kappa + (1 - kappa) / 3, ordinal=False)
            rng, passes = np.random.default_rng(rows), np.zeros(2)
            for sample in range(samples):
                reference, coded, _ = sample_rows(truth, rows, None, rng)
                answered = (reference == coded) | (rng.random(rows) < 0.2) if sure else np.ones(rows, dtype=np.bool_)
                passes[0] += percentile_low(reference[answered], coded[answered], sample) >= 0.6
                wrong = np.where(answered, coded, (reference + 1) % 3)
                found = draw_confusions(reference, wrong, 3, None, RESAMPLES, sample).kappa(quadratic=False).estimate()
                passes[1] += rows >= 30 and found is not None and found.low >= 0.6
            cells += [f"{100 * share:.1f}" for share in passes / samples]
        yield f"| {rows} | " + " | ".join(cells) + " |"


def percentile_low(reference: NDArray[np.int64], coded: NDArray[np.int64], seed: int) -> float:
    """Return the lower end of κ's percentile bootstrap interval, as the gate had it; -1 where it is undefined."""
    if not len(reference):
        return -1.0
    rng = np.random.default_rng(seed)
    observed = np.bincount(reference * 3 + coded, minlength=9) / len(reference)
    drawn = kappas(rng.multinomial(len(reference), observed, size=RESAMPLES).reshape(-1, 3, 3), quadratic=False)
    defined = drawn[~np.isnan(drawn)]
    return float(np.percentile(defined, 2.5)) if len(defined) else -1.0


TABLES: dict[str, Callable[[int], Iterator[str]]] = {
    "coverage": coverage_tables,
    "learners": learner_tables,
    "pairs": pair_tables,
    "gate": gate_tables,
}


def main() -> None:
    """Print the table that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=TABLES)
    parser.add_argument("--samples", type=int, default=400)
    given = parser.parse_args()
    for line in TABLES[given.table](given.samples):
        print(line, flush=True)


if __name__ == "__main__":
    main()
