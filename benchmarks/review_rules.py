"""Do temperatures and review thresholds chosen on few validation rows hold on other rows?

    python benchmarks/review_rules.py --simulated
    python benchmarks/review_rules.py PROJECT.yaml CODED.csv

Human-coded rows are split repeatedly into validation rows and test rows. The rows are those of a table, scored by the
trained student of a project, which must not have been trained on them; or simulated, with human codes drawn from the
probabilities of a student that is then made overconfident by a factor of 1.6. Printed by number of validation rows:

- temperature: as implemented, and by unsmoothed likelihood; log loss and calibration error compared with no temperature
- 30 % to people: agreement on the other rows with thresholds per label, and with one threshold for all labels
- keep_kappa: how often kappa of the accepted test rows is below the aim, as implemented (Bayesian bootstrap with a
  pseudo-row), by the lower limit of a plain bootstrap, and by kappa itself
"""

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from sklearn.metrics import cohen_kappa_score

from edgedistill.agreement import probability_metrics
from edgedistill.agreement.confusion import kappas
from edgedistill.decisions import (
    AtMostToPeople,
    KeepKappa,
    Scores,
    TestScores,
    ValidationScores,
    choose_rule,
    fit_temperature,
    label_shifts,
)
from edgedistill.decisions.thresholds import adjusted_confidences
from edgedistill.project import read_project
from edgedistill_export.checkpoint import Checkpoint
from edgedistill_serve.grading.table_reader import read_rows
from edgedistill_serve.scoring.encoding import Encoded
from edgedistill_serve.task.task import Label, Task

READ = Encoded((1,), (0,), 1, truncated=False)
RESAMPLES = 500
STEPS = 60

Low = Callable[[NDArray[np.int64], NDArray[np.int64], int], float]


def coded_rows(project: Path, table: Path) -> tuple[Task, NDArray[np.float64], NDArray[np.int64]]:
    """Score a table of human-coded rows with a project's student."""
    settings = read_project(project)
    task = settings.task.task
    rows = [row.values for row in read_rows(table)]
    logits = Checkpoint.load(settings.run_folder / "student", task, settings.student.max_tokens).logits(rows)
    return task, logits.astype(np.float64), np.array([task.names.index(row["label"]) for row in rows])


def simulated_rows(rows: int) -> tuple[Task, NDArray[np.float64], NDArray[np.int64]]:
    """Human codes of three labels, drawn from probabilities that are then sharpened."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(rows, 3)) * 2.2
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    codes = (shares.cumsum(axis=1) > rng.random((rows, 1))).argmax(axis=1)
    return Task("nominal", tuple(map(Label, "abc")), ("response",)), logits * 1.6, codes


def plain_temperature(scores: Scores) -> float:
    """The maximum likelihood temperature without smoothing."""
    truth = np.array([scores.task.names.index(code) for code in scores.codes])

    def loss(log_temperature: float) -> float:
        shares = log_softmax(scores.logits / np.exp(log_temperature), axis=1)
        return float(-shares[np.arange(len(truth)), truth].mean())

    return float(np.exp(minimize_scalar(loss, bounds=(np.log(0.05), np.log(20)), method="bounded").x))


def point(truth: NDArray[np.int64], predicted: NDArray[np.int64], _labels: int) -> float:
    """κ itself; NaN if only one label occurs."""
    return float(cohen_kappa_score(truth, predicted)) if len({*truth, *predicted}) > 1 else np.nan


def bootstrapped(truth: NDArray[np.int64], predicted: NDArray[np.int64], labels: int) -> float:
    """The lower limit of a plain percentile bootstrap."""
    observed = np.bincount(truth * labels + predicted, minlength=labels**2) / len(truth)
    drawn = np.random.default_rng(0).multinomial(len(truth), observed, size=RESAMPLES).reshape(-1, labels, labels)
    values = kappas(drawn, quadratic=False)
    return float(np.nanpercentile(values, 2.5)) if not np.isnan(values).all() else np.nan


def lowest_accepted(scores: Scores, confidences: NDArray[np.float64], aim: float, low: Low) -> float | None:
    """The lowest confidence that is accepted; None if no share of the rows meets the aim."""
    order = np.argsort(-confidences, kind="stable")
    truth = np.array([scores.task.names.index(code) for code in scores.codes])[order]
    predicted = scores.logits.argmax(axis=1)[order]
    for to_people in np.unique(np.linspace(0, len(order) - 1, STEPS).astype(int)):
        accepted = len(order) - int(to_people)
        if low(truth[:accepted], predicted[:accepted], len(scores.task.names)) >= aim:
            return float(confidences[order[accepted - 1]])
    return None


def splits(
    task: Task, logits: NDArray[np.float64], codes: NDArray[np.int64], rows: int, trials: int
) -> Iterator[tuple[ValidationScores, TestScores]]:
    """Yield validation rows and test rows."""
    rng = np.random.default_rng(1)
    for _ in range(trials):
        order = rng.permutation(len(codes))
        sides = []
        for kind, places in ((ValidationScores, order[:rows]), (TestScores, order[rows:])):
            labels = tuple(task.names[code] for code in codes[places])
            ids = tuple(map(str, places))
            sides.append(kind(task, ids, labels, logits[places], (READ,) * len(places)))
        yield sides[0], sides[1]  # type: ignore[misc]  # one of each kind


def show_temperatures(pairs: list[tuple[ValidationScores, TestScores]]) -> None:
    """Print the effect of temperatures on the test rows."""
    methods: dict[str, Callable[[ValidationScores], float]] = {
        "none": lambda _: 1.0,
        "unsmoothed": plain_temperature,
        "as implemented": lambda scores: fit_temperature(scores).temperature,
    }
    for name, fit in methods.items():
        results = []
        for validation, test in pairs:
            temperature = fit(validation)
            metrics = probability_metrics(test.codes, test.probabilities(temperature), test.task, resamples=1)
            results.append((temperature, metrics.log_loss.value, metrics.ece.value))
        temperatures, losses, errors = np.array(results).T
        print(
            f"    temperature {name:14} {np.median(temperatures):5.2f}  log loss mean {losses.mean():.3f}, worst "
            f"{losses.max():.2f}  calibration error {errors.mean():.3f}"
        )


def show_shares(pairs: list[tuple[ValidationScores, TestScores]]) -> None:
    """Print agreement on the most confident 70 % with thresholds per label, and with one for all."""
    results: dict[str, list[tuple[float, float, float]]] = {"one for all": [], "per label": []}
    for validation, test in pairs:
        temperature = fit_temperature(validation).temperature
        rule = choose_rule(validation, temperature, AtMostToPeople(0.3)).rule
        probabilities = [scores.probabilities(temperature).max(axis=1) for scores in (validation, test)]
        accepted_by = {
            "one for all": probabilities[1] >= np.quantile(probabilities[0], 0.3),
            "per label": np.array([score.decision == "accept" for score in test.apply_rule(temperature, rule)]),
        }
        codes, labels = np.array(test.codes), np.array(test.labels)
        for name, accepted in accepted_by.items():
            kappa = cohen_kappa_score(codes[accepted], labels[accepted])
            results[name].append((1 - accepted.mean(), (codes == labels)[accepted].mean(), kappa))
    for name, figures in results.items():
        share, accuracy, kappa = np.nanmean(figures, axis=0)
        print(f"    30 % to people, {name:11} to people {share:.2f}  accuracy {accuracy:.3f}  kappa {kappa:.3f}")


def show_aims(pairs: list[tuple[ValidationScores, TestScores]], aim: float) -> None:
    """Print how often an aim that is met on validation rows is missed on test rows."""
    for name, low in (("kappa itself", point), ("plain bootstrap", bootstrapped), ("as implemented", None)):
        shares, below = [], 0
        for validation, test in pairs:
            temperature = fit_temperature(validation).temperature
            shifts = label_shifts(validation, temperature)
            if low is None:
                choice = choose_rule(validation, temperature, KeepKappa(aim))
                least = (choice.least_chance or -1.0) if choice.met else None
            else:
                least = lowest_accepted(validation, adjusted_confidences(validation, temperature, shifts), aim, low)
            if least is None:
                continue
            accepted = adjusted_confidences(test, temperature, shifts) >= least
            shares.append(accepted.mean())
            kappa = point(np.array(test.codes)[accepted], np.array(test.labels)[accepted], 0) if accepted.any() else 1.0
            below += not kappa >= aim
        mean = f"{np.mean(shares):.2f}" if shares else "-"
        print(
            f"    keep_kappa {aim:g}, {name:15} met {len(shares)} of {len(pairs)}, accepted {mean}, below the aim on "
            f"other rows {below}"
        )


def main() -> None:
    """Read the command line and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("project", type=Path, nargs="?")
    parser.add_argument("table", type=Path, nargs="?")
    parser.add_argument("--simulated", action="store_true")
    parser.add_argument("--rows", type=int, nargs="+", default=[25, 60, 120])
    parser.add_argument("--aims", type=float, nargs="*", default=[0.75])
    parser.add_argument("--trials", type=int, default=40)
    options = parser.parse_args()
    task, logits, codes = simulated_rows(1500) if options.simulated else coded_rows(options.project, options.table)
    kappa = cohen_kappa_score(codes, logits.argmax(axis=1))
    print(f"{len(codes)} rows, accuracy {(logits.argmax(axis=1) == codes).mean():.3f}, kappa {kappa:.3f}")
    for rows in options.rows:
        pairs = list(splits(task, logits, codes, rows, options.trials))
        print(f"  {rows} validation rows, {len(codes) - rows} test rows, {options.trials} splits")
        show_temperatures(pairs)
        show_shares(pairs)
        for aim in options.aims:
            show_aims(pairs, aim)


if __name__ == "__main__":
    main()
