"""Is the promise of a decision rule kept? How often the accepted responses' true error exceeds the promised share.

    python benchmarks/promise_kept.py --simulated --result docs/results/promise_kept.json
    python benchmarks/promise_kept.py PROJECT.yaml … --result docs/results/promise_kept.json
    python benchmarks/promise_kept.py --prior-correction DATA --result docs/results/promise_kept.json

Rows of the test split, on which the student was neither trained nor selected, are scored once with the graph that the
bundle serves. They are taken as the population, so that the error of a rule is known without sampling error. In each
of 500 trials, validation rows are drawn from them, temperature and rule are chosen as in a project, and the rule is
applied to the population:

- with replacement (independent draws, for which the promise is made; a row drawn twice counts as two), and
- as a partition without replacement, with the error measured on the rows that were not drawn.

Compared are `at_most_wrong`, the lowest plain threshold with at most that error on validation rows, and `keep_kappa`
as it is and as it was before (the largest share of rows whose κ has a lower limit that is high enough), for which the
figure is how often κ of the accepted population is below the aim. With ``--simulated``, the settings have a known
truth: an error rate just above the promised share everywhere, so that accepting anything breaks the promise, with
dependent rows, copies, groups, many compared students, several labels per response.

With ``--prior-correction``, the constants of `edgedistill.student.prior_correction` are fitted on the validation rows
of each trial before temperature and rule, which see the same rows. As implemented, a corrected student counts as two
compared students. Some settings are simulated: every row has a known probability of an error, the student's logits are
right or have known constants added, and the promise is broken where the mean of these probabilities over the accepted
rows of a large population is above the share. The others are the rows of BABE (folder babe of DATA) that
`prior_correction.py` measures classifiers on which were fitted on a language model's labels.

Results are added to the JSON file by name; what is there is not computed again.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from prior_correction import Labelled, partitions, sources
from scipy.special import softmax

from edgedistill.agreement.confusion import kappas
from edgedistill.data import read_records
from edgedistill.decisions import (
    AtMostWrong,
    Circumstances,
    KeepKappa,
    ReviewAim,
    TestScores,
    ValidationScores,
    choose_rule,
    fit_temperature,
    label_shifts,
)
from edgedistill.decisions.thresholds import adjusted_confidences, kappa_low, rank_rows
from edgedistill.project import read_project
from edgedistill.student.label_thresholds import choose_thresholds
from edgedistill.student.prior_correction import fit_prior_correction
from edgedistill_export.verify.parity import graph_logits
from edgedistill_serve import Bundle
from edgedistill_serve.bundle.manifest import MODEL_FILES, ReviewRule
from edgedistill_serve.scoring.encoding import Encoded
from edgedistill_serve.scoring.graph_choice import load_encoder
from edgedistill_serve.task.task import Label, Task, task_inputs

SIZES = (100, 250, 500)
SHARES = (0.05, 0.1, 0.2)
TRIALS = 500
KAPPA_TRIALS = 100
SHARE, CONFIDENCE = 0.05, 0.95
Chooser: TypeAlias = Callable[[ValidationScores, float], ReviewRule | None]
Floats = NDArray[np.float64]
Places = NDArray[np.int64]


class Rows(ValidationScores):
    """Validation rows with one label each, whose probabilities, labels and decisions are computed for all rows at once.

    The results are those of the product up to rounding; row by row, the trials would take ten times as long.
    """

    def probabilities(self, temperature: float) -> Floats:
        """Return the calibrated probabilities."""
        return np.asarray(softmax(self.logits / temperature, axis=1))

    @property
    def labels(self) -> tuple[str, ...]:
        """The label of each row."""
        return tuple(np.array(self.task.names)[self.logits.argmax(axis=1)].tolist())

    def apply_rule(self, temperature: float, rule: ReviewRule) -> Any:  # noqa: ARG002
        """Return the decisions of a rule without thresholds."""
        return [SimpleNamespace(decision="review" if row.blank or row.truncated else "accept") for row in self.encoded]


class Population(Rows, TestScores):
    """The rows that a rule is measured on."""


def served_scores(project_file: Path) -> Population:
    """Score the test rows of a finished run with the graph that its bundle serves."""
    project = read_project(project_file)
    rows = list(read_records(project).splits.test)
    bundle = Bundle.load(project.run_folder / "bundle")
    encoder, task = load_encoder(bundle), bundle.task
    inputs = [task_inputs(row.response.inputs, task) for row in rows]
    logits = graph_logits(bundle.folder / MODEL_FILES[bundle.manifest.precision], encoder, inputs)
    return Population(
        task,
        tuple(row.response.id for row in rows),
        tuple(row.label for row in rows),
        logits.astype(np.float64),
        tuple(encoder.encode(inputs)),
    )


def drawn(population: Population, places: Places) -> ValidationScores:
    """Return validation rows; a row that is drawn twice counts as two rows with different texts."""
    rows = population.rows_at(places)
    encoded = tuple(replace(each, ids=(*each.ids, -number)) for number, each in enumerate(rows.encoded))
    return Rows(rows.task, rows.ids, rows.codes, rows.logits, encoded, rows.groups)


def accepted_rows(scores: TestScores, temperature: float, rule: ReviewRule) -> NDArray[np.bool_]:
    """Return which rows a rule accepts, as a bundle does."""
    least = np.array([rule.thresholds.get(label, rule.least_certainty) for label in scores.labels])
    readable = np.array([not (each.blank or each.truncated) for each in scores.encoded])
    return np.asarray(readable & (scores.confidences(temperature) >= least))


def plain_threshold(scores: ValidationScores, temperature: float, share: float = SHARE) -> ReviewRule:
    """Return the lowest threshold on the probability with an error of at most a share on validation rows."""
    confidences = scores.confidences(temperature)
    order = np.argsort(-confidences)
    wrong = (np.array(scores.labels) != np.array(scores.codes))[order].cumsum()
    fits = np.flatnonzero(wrong <= share * np.arange(1, len(order) + 1))
    least = float(confidences[order][fits[-1]]) if len(fits) else 2.0
    return ReviewRule(thresholds=dict.fromkeys(scores.task.names, least))


def kappa_before(scores: ValidationScores, temperature: float, at_least: float) -> ReviewRule | None:
    """Choose as before: the largest share of rows with a high enough lower limit of κ."""
    shifts = label_shifts(scores, temperature)
    ranking = rank_rows(scores, adjusted_confidences(scores, temperature, shifts), np.arange(len(scores)))
    low = kappa_low(scores, scores.confidences(temperature)[ranking.places], ranking, shifts, 2, 0)
    sizes = len(scores) - np.linspace(0, len(scores) - 1, 60).astype(int)
    for size in dict.fromkeys(map(ranking.round_up, sizes)):
        if low is not None and low(size) >= at_least:
            least = ranking.threshold(size)
            shifted = {} if least is None else {name: least - shift for name, shift in shifts.items()}
            return ReviewRule(thresholds=shifted)
    return None


def kappa_of(scores: TestScores, accepted: NDArray[np.bool_]) -> float:
    """Return κ of the accepted rows, quadratic weighted for an ordinal task; 1 without rows."""
    names = scores.task.names
    table = np.zeros((len(names), len(names)))
    pairs = [(names.index(code), names.index(label)) for code, label in zip(scores.codes, scores.labels, strict=True)]
    np.add.at(table, tuple(np.array(pairs)[accepted].T), 1)
    value = float(kappas(table[None], quadratic=scores.task.kind == "ordinal")[0])
    return value if accepted.any() and not np.isnan(value) else 1.0


def trial(population: Population, inside: Places, outside: Places, aims: Mapping[str, Chooser]) -> dict[str, Any]:
    """Choose each rule on some rows and measure it on others: accepted share, and the error or κ of the accepted."""
    validation, others = drawn(population, inside), population.rows_at(outside)
    temperature = fit_temperature(validation).temperature
    wrong = np.array(others.labels) != np.array(others.codes)
    found: dict[str, Any] = {}
    for name, choose in aims.items():
        rule = choose(validation, temperature)
        accepted = accepted_rows(others, temperature, rule) if rule else np.zeros(len(others), dtype=np.bool_)
        error = float(wrong[accepted].mean()) if accepted.any() else 0.0
        found[name] = (float(accepted.mean()), error, kappa_of(others, accepted) if "kappa" in name else 1.0)
    return found


def chooser(aim: ReviewAim) -> Chooser:
    """Return the rule of the product."""
    return lambda scores, temperature: choose_rule(scores, temperature, aim).rule


def measure(population: Population, size: int, seed: int) -> dict[str, Any]:
    """Return the results of all trials with one number of validation rows."""
    rng = np.random.default_rng(seed)
    rows = len(population)
    cheap: dict[str, Chooser] = {}
    for share in SHARES:
        cheap[f"at_most_wrong {share}"] = chooser(AtMostWrong(share, CONFIDENCE))
        cheap[f"plain threshold {share}"] = partial(plain_threshold, share=share)
    at_least = round(0.05 * np.ceil(20 * (kappa_of(population, np.ones(rows, dtype=np.bool_)) + 0.05)), 2)
    costly: dict[str, Chooser] = {
        f"keep_kappa {at_least}": chooser(KeepKappa(at_least)),
        f"keep_kappa before {at_least}": partial(kappa_before, at_least=at_least),
    }
    results: dict[str, Any] = {"rows": rows, "error of all": round(error_of(population), 4)}
    everything = np.arange(rows)
    results["independent draws"] = summary(
        trial(population, rng.integers(rows, size=size), everything, cheap | (costly if number < KAPPA_TRIALS else {}))
        for number in range(TRIALS)
    )
    if size < 0.8 * rows:
        partitions = (rng.permutation(rows) for _ in range(TRIALS))
        results["partitions"] = summary(trial(population, each[:size], each[size:], cheap) for each in partitions)
    return results


def error_of(scores: TestScores) -> float:
    """Return the share of all rows whose label differs from the human code."""
    return float((np.array(scores.labels) != np.array(scores.codes)).mean())


def summary(trials: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return by rule: trials, how often it broke its word, mean accepted share, how often it accepted anything."""
    done = list(trials)
    found = {}
    for name in done[0]:
        accepted, error, kappa = np.array([each[name] for each in done if name in each]).T
        aim = float(name.split()[-1])
        broken = kappa < aim if "kappa" in name else error > aim
        found[name] = {
            "trials": len(accepted),
            "broken": round(float(broken.mean()), 4),
            "accepted": round(float(accepted.mean()), 4),
            "accepts something": round(float((accepted > 0).mean()), 4),
            "mean error": round(float(error[accepted > 0].mean()), 4) if (accepted > 0).any() else None,
        }
    return found


TASK = Task("nominal", (Label("a"), Label("b"), Label("c")), ("response",))
BAD = 1.02 * SHARE
"""An error rate just above the promised share."""


def simulated(rng: np.random.Generator, confidence: Floats, wrong: NDArray[np.bool_], **more: Any) -> ValidationScores:
    """Return rows of three labels with these confidences, wrong where told."""
    rows = len(wrong)
    label = rng.integers(3, size=rows)
    logits = np.zeros((rows, 3))
    logits[np.arange(rows), label] = np.log(2 * confidence / (1 - confidence))
    codes = np.where(wrong, (label + 1 + rng.integers(2, size=rows)) % 3, label)
    encoded = more.pop("encoded", None) or tuple(Encoded((row,), (0,), 1, truncated=False) for row in range(rows))
    names = tuple(TASK.names[code] for code in codes)
    return Rows(TASK, tuple(map(str, range(rows))), names, logits, encoded, **more)


def confidences(rng: np.random.Generator, rows: int) -> Floats:
    """Return confidences that say nothing about errors."""
    return rng.uniform(0.5, 0.999, size=rows)


def accepts(scores: ValidationScores, aim: ReviewAim | None = None, **circumstances: Any) -> bool:
    """Return whether the product promises anything."""
    aim = aim or AtMostWrong(SHARE, CONFIDENCE)
    temperature = fit_temperature(scores).temperature
    chosen = choose_rule(scores, temperature, aim, circumstances=Circumstances(**circumstances))
    return chosen.guarantee is not None


def independent(rng: np.random.Generator, rows: int) -> dict[str, bool]:
    """Independent rows whose error rate is just above the share at every confidence."""
    scores = simulated(rng, confidences(rng, rows), rng.random(rows) < BAD)
    right = np.array(scores.labels) == np.array(scores.codes)
    return {"as implemented": accepts(scores), "plain threshold": bool((~right).mean() <= SHARE)}


def dependent(rng: np.random.Generator, rows: int, per_learner: int, correlation: float) -> dict[str, bool]:
    """Rows of learners whose errors correlate."""
    learners = np.repeat(np.arange(rows // per_learner), per_learner)
    rate = beta_rates(rng, rows // per_learner, correlation)[learners]
    wrong = rng.random(len(learners)) < rate
    # A learner's rows are alike in confidence, too, so that the most confident rows are those of few learners.
    sure = confidences(rng, rows // per_learner)[learners] + rng.normal(size=len(learners)) / 50
    confidence = np.clip(sure, 0.5, 0.999)
    state = rng.bit_generator.state
    scores = simulated(rng, confidence, wrong, groups=tuple(map(str, learners)))
    rng.bit_generator.state = state
    return {"as implemented": accepts(scores), "as if independent": accepts(simulated(rng, confidence, wrong))}


def beta_rates(rng: np.random.Generator, units: int, correlation: float) -> Floats:
    """Return error rates of units with mean `BAD`; two rows of a unit correlate by ``correlation``."""
    if correlation >= 1:
        return (rng.random(units) < BAD).astype(float)
    total = 1 / correlation - 1
    return rng.beta(BAD * total, (1 - BAD) * total, size=units)


def questions(rng: np.random.Generator, number: int, per_question: int) -> dict[str, bool]:
    """Rows of held-out questions, each of which the student gets all right or all wrong; new ones are accepted."""
    question = np.repeat(np.arange(number), per_question)
    wrong = (rng.random(number) < BAD)[question]
    rows = simulated(rng, confidences(rng, len(question)), wrong)
    scores = replace(rows, contexts=tuple(map(str, question)))
    always = ReviewRule(new_question=False)
    chosen = choose_rule(scores, 1.0, AtMostWrong(SHARE, CONFIDENCE), always=always)
    return {"as implemented": chosen.guarantee is not None, "as if independent": accepts(rows)}


def copies(rng: np.random.Generator, texts: int, times: int) -> dict[str, bool]:
    """A file in which every row stands several times."""
    row = np.repeat(np.arange(texts), times)
    wrong, confidence = (rng.random(texts) < BAD)[row], confidences(rng, texts)[row]
    encoded = tuple(Encoded((int(each),), (0,), 1, truncated=False) for each in row)
    state = rng.bit_generator.state
    scores = simulated(rng, confidence, wrong, encoded=encoded)
    rng.bit_generator.state = state
    return {"as implemented": accepts(scores), "as if independent": accepts(simulated(rng, confidence, wrong))}


def groups(rng: np.random.Generator, rows: int) -> dict[str, bool]:
    """Two groups, of which the smaller one has an error rate above the share."""
    small = rng.random(rows) < 0.3
    wrong = rng.random(rows) < np.where(small, BAD, 0.01)
    scores = replace(
        simulated(rng, confidences(rng, rows), wrong), subgroups=tuple(np.where(small, "small", "large").tolist())
    )
    return {
        "as implemented": accepts(scores, AtMostWrong(SHARE, CONFIDENCE, groups="group")),
        "for all together": accepts(scores),
    }


def labels(rng: np.random.Generator, rows: int) -> dict[str, bool]:
    """Three labels, of which one has an error rate above the share: whether it is accepted."""
    scores = simulated(rng, confidences(rng, rows), np.zeros(rows, dtype=np.bool_))
    bad = np.array(scores.labels) == "a"
    wrong = rng.random(rows) < np.where(bad, BAD, 0.01)
    other = {"a": "b", "b": "c", "c": "a"}
    codes = tuple(other[label] if off else label for label, off in zip(scores.labels, wrong, strict=True))
    chosen = choose_rule(replace(scores, codes=codes), 1.0, AtMostWrong(SHARE, CONFIDENCE, per_label=True))
    return {
        "as implemented": chosen.guarantee is not None and "a" in chosen.guarantee.labels,
        "for all together": accepts(replace(scores, codes=codes)),
    }


def compared(rng: np.random.Generator, rows: int, students: int, correlation: float) -> dict[str, bool]:
    """The best of several students on the validation rows, all with the same true error rate."""
    shared = rng.normal(size=rows)
    own = rng.normal(size=(students, rows))
    ease = np.sqrt(correlation) * shared + np.sqrt(1 - correlation) * own
    limit = float(np.quantile(rng.normal(size=200_000), BAD))
    wrong = ease < limit
    best = wrong[wrong.sum(axis=1).argmin()]
    scores = simulated(rng, confidences(rng, rows), best)
    return {"as implemented": accepts(scores, compared=students), "as if it were the only one": accepts(scores)}


def rising(rng: np.random.Generator, rows: int, rate: Callable[[Floats], Floats]) -> dict[str, bool]:
    """An error rate that depends on the confidence: whether the risk of the accepted rows is above the share."""
    broken = {}
    confidence = confidences(rng, rows)
    scores = simulated(rng, confidence, rng.random(rows) < rate(confidence))
    temperature = fit_temperature(scores).temperature
    grid = np.linspace(0.5, 0.999, 2001)
    risk = rate(grid)[::-1].cumsum() / np.arange(1, len(grid) + 1)
    truth = simulated(rng, grid, np.zeros(len(grid), dtype=np.bool_))
    for name, rule in {
        "as implemented": choose_rule(scores, temperature, AtMostWrong(SHARE, CONFIDENCE)).rule,
        "plain threshold": plain_threshold(scores, temperature),
    }.items():
        least = max(rule.thresholds.values(), default=0.0)
        count = int((truth.confidences(temperature) >= least).sum())
        broken[name] = bool(count and risk[count - 1] > SHARE)
    return broken


def multilabel(rng: np.random.Generator, rows: int) -> dict[str, bool]:
    """Four labels per response, whose thresholds are chosen on the same rows: whether the true error is too high."""
    task = Task("multilabel", tuple(map(Label, "abcd")), ("response",))

    def draw(count: int, kind: type[Any]) -> Any:
        logits = rng.normal(size=(count, 4)) * 14 - 4
        present = rng.random((count, 4)) < 1 / (1 + np.exp(-logits))
        codes = tuple(";".join(np.array(list("abcd"))[row]) or "none" for row in present)
        encoded = tuple(Encoded((row,), (0,), 1, truncated=False) for row in range(count))
        return kind(task, tuple(map(str, range(count))), codes, 1.5 * logits, encoded)

    scores, population = draw(rows, ValidationScores), draw(5000, TestScores)
    temperature = fit_temperature(scores).temperature
    found = choose_thresholds(scores.probabilities(temperature), scores.codes, task).values
    decoded = {"thresholds": found, "threshold_temperature": temperature}
    rule = choose_rule(replace(scores, **decoded), temperature, AtMostWrong(SHARE, CONFIDENCE)).rule
    others = replace(population, **decoded)
    accepted = accepted_rows(others, temperature, rule)
    wrong = np.array(others.labels) != np.array(others.codes)
    return {
        "as implemented": bool(accepted.any() and wrong[accepted].mean() > SHARE),
        "accepts something": bool(accepted.any()),
    }


FEWER_TRIALS = 300
TILT = np.array([-1.0, 0.2, 0.8])
"""Constants by which the logits of a student with a language model's label shares are wrong."""
RISKS: dict[str, tuple[int, Callable[[Floats], Floats]]] = {
    "error just above the share": (6 * TRIALS, lambda sure: np.full(len(sure), BAD)),
    "error rises with uncertainty": (FEWER_TRIALS, lambda sure: 0.5 * (1 - sure)),
}
"""By what it says: the number of trials, and the probability of an error by confidence."""


def variants(scores: ValidationScores, others: TestScores) -> dict[str, tuple[Any, Any, Circumstances]]:
    """Return, by name, scores and others with and without fitted constants, and what the promise depends on besides."""
    found = fit_prior_correction(scores.logits, scores.codes, scores.task)
    shift = np.array([found.shift.get(name, 0.0) for name in scores.task.names])
    fitted, measured = (replace(each, logits=each.logits + shift) for each in (scores, others))
    return {
        "as implemented": (fitted, measured, Circumstances(compared=2 if found.shift else 1)),
        "as one student": (fitted, measured, Circumstances()),
        "none": (scores, others, Circumstances()),
    }


def tilted(rng: np.random.Generator, rows: int, rate: Callable[[Floats], Floats], tilt: Floats) -> tuple[Any, ...]:
    """Return rows with constants added to their logits, their likeliest labels, and the probabilities of an error."""
    sure = confidences(rng, rows)
    given = simulated(rng, sure, rng.random(rows) < rate(sure))
    scores = Population(TASK, given.ids, given.codes, given.logits + tilt, given.encoded)
    return scores, given.logits.argmax(axis=1), rate(sure)


def repeat(rows: int, rate: Callable[[Floats], Floats], tilt: Floats, trials: int) -> dict[str, Any]:
    """Return how often promises were broken with and without the correction, and the mean accepted share."""
    population, likely, risks = tilted(np.random.default_rng(11), 5000, rate, tilt)
    results = []
    for number in range(trials):
        drawn_rows, _, _ = tilted(np.random.default_rng((11, number)), rows, rate, tilt)
        scores = Rows(TASK, drawn_rows.ids, drawn_rows.codes, drawn_rows.logits, drawn_rows.encoded)
        found: dict[str, float] = {}
        for name, (fitted, measured, given) in variants(scores, population).items():
            temperature = fit_temperature(fitted).temperature
            chosen = choose_rule(fitted, temperature, AtMostWrong(SHARE, CONFIDENCE), circumstances=given)
            broken, accepted = False, 0.0
            if chosen.guarantee:
                kept = accepted_rows(measured, temperature, chosen.rule)
                wrong = np.where(measured.logits.argmax(axis=1) == likely, risks, 1 - risks / 2)
                broken, accepted = bool(kept.any() and wrong[kept].mean() > SHARE), float(kept.mean())
            found |= {f"{name}: broken": broken, f"{name}: accepted": accepted}
        results.append(found)
    return {"trials": len(results)} | {
        key: round(float(np.mean([each[key] for each in results])), 4) for key in results[0]
    }


def refitted(population: Population, size: int) -> dict[str, Any]:
    """Return the results of trials with independent draws of rows, with and without the correction."""
    rng = np.random.default_rng(size)
    trials = []
    for _ in range(FEWER_TRIALS):
        validation = drawn(population, rng.integers(len(population), size=size))
        found: dict[str, Any] = {}
        for name, (fitted, measured, given) in variants(validation, population).items():
            temperature = fit_temperature(fitted).temperature
            wrong = np.array(measured.labels) != np.array(measured.codes)
            for share in SHARES:
                rule = choose_rule(fitted, temperature, AtMostWrong(share, CONFIDENCE), circumstances=given).rule
                accepted = accepted_rows(measured, temperature, rule)
                error = float(wrong[accepted].mean()) if accepted.any() else 0.0
                found[f"{name}, at_most_wrong {share}"] = (float(accepted.mean()), error, 1.0)
        trials.append(found)
    return {"rows": len(population), "error of all": round(error_of(population), 4)} | summary(trials)


def classified(data: Path) -> Iterator[tuple[str, Population]]:
    """Yield rows scored by classifiers on the frozen encoder, fitted on 500 labels of each language model."""
    for name in ("babe",):  # on Beetle these classifiers are wrong too often for any promise
        labelled = Labelled(data, name)
        for source, labels in sources(data, name, labelled):
            if source == "human":
                continue
            training, held, measured = next(partitions(labelled, labels))
            heads = labelled.heads(training, [labels[labelled.rows[place]["id"]] for place in training], held)
            logits = heads[0].logits(labelled.states[measured]).astype(np.float64)
            codes = tuple(labelled.codes[place] for place in measured)
            encoded = tuple(Encoded((int(place),), (0,), 1, truncated=False) for place in measured)
            yield f"{name}, {source}", Population(labelled.task, tuple(map(str, measured)), codes, logits, encoded)


def prior_correction_jobs(data: Path) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """Yield the results of ``--prior-correction``."""
    for what, (trials, rate) in RISKS.items():
        for tilt, given in (("right logits", np.zeros(3)), ("logits with constants", TILT)):
            for rows in (100, 250, 1000):
                yield (
                    f"prior correction, {what}, {tilt}, {rows} rows",
                    partial(repeat, rows, rate, given, trials),
                )
    for name, population in classified(data):
        for size in SIZES[:2]:
            yield (
                f"prior correction, {name}: {size} validation rows",
                partial(refitted, population, size),
            )


def zigzag(confidence: Floats) -> Floats:
    """A risk that crosses the share several times."""
    return np.where((confidence * 16).astype(int) % 2 == 0, 0.09, 0.012)


SETTINGS: dict[str, Callable[[np.random.Generator], dict[str, bool]]] = {
    "independent, 100 rows": lambda rng: independent(rng, 100),
    "independent, 250 rows": lambda rng: independent(rng, 250),
    "independent, 1000 rows": lambda rng: independent(rng, 1000),
    "error rises with uncertainty, 250 rows": lambda rng: rising(rng, 250, lambda sure: 0.5 * (1 - sure)),
    "error rises with uncertainty, 1000 rows": lambda rng: rising(rng, 1000, lambda sure: 0.5 * (1 - sure)),
    "error rises and falls, 500 rows": lambda rng: rising(rng, 500, zigzag),
    "120 learners of 4 rows, all right or all wrong": lambda rng: dependent(rng, 480, 4, 1.0),
    "120 learners of 4 rows, correlation .3": lambda rng: dependent(rng, 480, 4, 0.3),
    "80 learners of 12 rows, correlation .3": lambda rng: dependent(rng, 960, 12, 0.3),
    "120 new questions of 4 rows, all right or all wrong": lambda rng: questions(rng, 120, 4),
    "100 texts, each 3 times": lambda rng: copies(rng, 100, 3),
    "two groups, one above the share, 600 rows": lambda rng: groups(rng, 600),
    "per label, one above the share, 600 rows": lambda rng: labels(rng, 600),
    "best of 4 students, 250 rows": lambda rng: compared(rng, 250, 4, 0.8),
    "best of 16 students, 250 rows": lambda rng: compared(rng, 250, 16, 0.8),
    "four labels per response, 250 rows": lambda rng: multilabel(rng, 250),
}


def simulate(name: str, trials: int) -> dict[str, Any]:
    """Return how often each procedure broke its promise in a simulated setting."""
    results = [SETTINGS[name](np.random.default_rng((7, number))) for number in range(trials)]
    return {"trials": trials} | {key: round(float(np.mean([each[key] for each in results])), 4) for key in results[0]}


def jobs(options: argparse.Namespace) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """Yield the name of each result and how it is computed."""
    if options.simulated:
        for name in SETTINGS:
            yield f"simulated: {name}", lambda name=name: simulate(name, 2 * TRIALS)  # type: ignore[misc]
    if options.prior_correction:
        yield from prior_correction_jobs(options.prior_correction)
    for file in options.projects:
        population = served_scores(file)
        for size in SIZES:
            yield (
                f"{read_project(file).name}: {size} validation rows",
                lambda population=population, size=size: measure(population, size, seed=size),  # type: ignore[misc]
            )


def main() -> None:
    """Read the command line, compute what is missing and write the result file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("projects", type=Path, nargs="*")
    parser.add_argument("--simulated", action="store_true")
    parser.add_argument("--prior-correction", type=Path, metavar="DATA")
    parser.add_argument("--result", type=Path, required=True)
    options = parser.parse_args()
    found = json.loads(options.result.read_text("utf-8")) if options.result.exists() else {}
    for name, compute in jobs(options):
        if name in found:
            continue
        start = time.process_time()
        found[name] = compute()
        print(f"{name} ({time.process_time() - start:.0f} s): {json.dumps(found[name])}", flush=True)
        options.result.parent.mkdir(parents=True, exist_ok=True)
        options.result.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    main()
