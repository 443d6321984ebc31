"""Does `edgedistill monitor` find that other items are answered, and does it keep its false-alarm rate?

    python benchmarks/monitor.py DATA --out FOLDER --result docs/results/monitor.json

DATA is the folder of Beetle: train.csv, test_ua.csv, test_uq.csv. FOLDER keeps the scored rows, without texts.

A student with a frozen encoder is trained on three quarters of the questions, with half of their answers, and
exported; the other answers to these questions are the population, and the answers to the other questions are strange. A
term is 12 weeks; references and responses are drawn with replacement, so that the true shares are known to be equal.

- Same items: 500 terms, a reference drawn anew for each: how many have any alarm, by any item or quantity? Beside it,
  what happens if each share is tested each week at 5 %, as a dashboard would.
- Other items: from the fifth week on, a part of the responses is to strange questions, which the bundle is told to
  accept (with a closed set of questions every one of them is reviewed, and the share of reviews alone tells): in which
  week is there an alarm, and of what?
- Fewer correct answers: from the fifth week on, the correct answers to the same questions are fewer.
"""

import argparse
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

import edgedistill as ed
from edgedistill.monitoring.changes import Rate, find_changes, tested_shares, watch_items
from edgedistill_serve.bundle.reference import REFERENCE_VERSION, SMALLEST_CELL, Reference, reference_cell
from edgedistill_serve.bundle.response_counts import CUTS, ResponseCounts
from edgedistill_serve.scoring.score import Score
from edgedistill_serve.task.contexts import context_hash

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
LABELS = ("correct", "contradictory", "incorrect")
REASONS = ("", "blank", "unreadable", "truncated", "new question", "unlike training", "below threshold")
INPUTS = ("question", "reference_answer", "response")
WEEKS = 12
CHANGED = 4
"""The change begins after so many weeks."""
ALPHA = 0.05
SIZES = ((250, 100), (250, 1000), (1000, 1000))
"""Rows of the reference, and responses of a week."""


@dataclass(frozen=True)
class Rows:
    """Scored rows."""

    label: Ints
    reason: Ints
    probability: Floats
    novelty: Floats
    tokens: Floats
    item: Ints

    def counts(self, places: Ints) -> ResponseCounts:
        """Count some rows, each as often as it occurs."""
        found = ResponseCounts(rows=len(places))
        names = [(self.label, LABELS, found.labels), (self.reason, REASONS, found.reasons)]
        for codes, words, into in names:
            for code, number in enumerate(np.bincount(codes[places], minlength=len(words)).tolist()):
                if number and words[code]:
                    into[words[code]] = number
        for name, cuts in CUTS.items():
            values = getattr(self, name)[places]
            bins = np.bincount(np.searchsorted(cuts, values, side="left"), minlength=len(cuts) + 1)
            setattr(found, name, bins.tolist())
        found.sums = [float(getattr(self, name)[places].sum()) for name in CUTS]
        return found

    def by_item(self, places: Ints) -> dict[str, ResponseCounts]:
        """Count some rows, all of them under the empty name, and by item."""
        items = self.item[places]
        return {"": self.counts(places)} | {
            str(item): self.counts(places[items == item]) for item in np.unique(items).tolist()
        }


def score_beetle(data: Path, folder: Path, seed: int) -> Path:
    """Train, export and score; return the file of the scored rows."""
    file = folder / f"scores-{seed}.npz"
    if file.exists():
        return file
    parts = [
        pd.read_csv(data / f"{name}.csv", dtype=str, keep_default_na=False) for name in ("train", "test_ua", "test_uq")
    ]
    table = pd.concat(parts, ignore_index=True)
    draw = np.random.default_rng(seed)
    questions = draw.permutation(np.unique(table["question"]))
    strange = table["question"].isin(questions[: len(questions) // 4]).to_numpy()
    known = draw.permutation(np.flatnonzero(~strange))
    training, others = known[: len(known) // 2], known[len(known) // 2 :]
    task = ed.Task("nominal", labels=[ed.Label(name) for name in LABELS], inputs=list(INPUTS))
    student = ed.StudentClassifier(task=task, kind="frozen", random_state=seed).fit(table.loc[training], "label")
    bundle = student.export(
        folder / f"bundle-{seed}",
        calibration=table.loc[others[:400]],
        test=table.loc[others[400:]],
        training=table.loc[training],
        review={"aim": "at_most_to_people", "share": 0.2, "new_questions": "accept"},
    )
    used = np.concatenate([others, np.flatnonzero(strange)])
    inputs = table.loc[used, list(INPUTS)].to_dict("records")
    scores: list[Score] = ed.Scorer(bundle).score(inputs)
    hashes = [context_hash(row) for row in inputs]
    names = {name: place for place, name in enumerate(sorted(set(hashes)))}
    np.savez(
        file,
        label=[LABELS.index(score.label) for score in scores],
        reason=[REASONS.index(score.reason or "") for score in scores],
        probability=[score.probability for score in scores],
        novelty=[score.novelty for score in scores],
        tokens=[score.tokens for score in scores],
        item=[names[name] for name in hashes],
        strange=[place >= len(others) for place in range(len(used))],
        kappa=bundle.manifest.metrics["student"]["kappa"]["value"],
    )
    return file


Draw = Callable[[np.random.Generator, int, int], Ints]
"""Draws the rows of a week: random state, week, number."""


def alarms_of(rows: Rows, reference: Ints, weekly: Sequence[Ints], rate: Rate) -> list[tuple[int, str, str]]:
    """Return week, item and quantity of each alarm of a term."""
    every = rows.by_item(reference)
    cells = [reference_cell(item, counts) for item, counts in every.items() if item and counts.rows >= SMALLEST_CELL]
    kept = Reference(REFERENCE_VERSION, "int8", 1.0, reference_cell("", every[""]), tuple(cells))
    by_week: dict[str, dict[str, ResponseCounts]] = {}
    for week, places in enumerate(weekly):
        for item, counts in rows.by_item(places).items():
            by_week.setdefault(item, {})[f"{week:02}"] = counts
    task = ed.Task("nominal", labels=[ed.Label(name) for name in LABELS], inputs=list(INPUTS)).scored
    found = []
    for each in watch_items(by_week, kept, f"{len(weekly) - 1:02}"):
        _, alarms = find_changes(each, task, rate)
        found += [(int(alarm.found), alarm.item, alarm.quantity) for alarm in alarms]
    return sorted(found)


def uncorrected(rows: Rows, reference: Ints, weekly: Sequence[Ints]) -> bool:
    """Whether any share of all responses differs from the reference in any week, each tested at 5 %."""
    task = ed.Task("nominal", labels=[ed.Label(name) for name in LABELS], inputs=list(INPUTS)).scored
    kept = Reference(REFERENCE_VERSION, "int8", 1.0, reference_cell("", rows.counts(reference)))
    counts = {"": {f"{week:02}": rows.counts(places) for week, places in enumerate(weekly)}}
    (watched,) = watch_items(counts, kept, "99")
    for shares, _ in tested_shares(watched, task).values():
        for share in shares:
            p, n = share.reference / share.reference_rows, share.reference_rows
            pooled = (share.count + share.reference) / (share.rows + n)
            error = np.sqrt(np.maximum(pooled * (1 - pooled) * (1 / share.rows + 1 / n), 1e-12))
            if (np.abs(share.count / share.rows - p) > 1.96 * error).any():
                return True
    return False


def simulate(
    rows: Rows, population: Ints, week_of: Draw, *, terms: int, reference: int, weekly: int, tolerance: float, seed: int
) -> list[list[tuple[int, str, str]]]:
    """Return the alarms of each simulated term."""
    found = []
    for term in range(terms):
        draw = np.random.default_rng([seed, term])
        known = draw.choice(population, reference)
        responses = [week_of(draw, week, weekly) for week in range(WEEKS)]
        found.append(alarms_of(rows, known, responses, Rate(ALPHA, tolerance)))
    return found


def share_with_interval(number: int, terms: int) -> dict[str, float]:
    """Return a share with its exact 95 % interval."""
    from scipy.stats import binomtest

    interval = binomtest(number, terms).proportion_ci()
    return {"value": number / terms, "low": float(interval.low), "high": float(interval.high)}


def false_alarms(rows: Rows, population: Ints, terms: int, seed: int, sizes: tuple[int, int]) -> dict[str, Any]:
    """Return how many terms without a change have an alarm."""
    settings = dict(zip(("reference", "weekly"), sizes, strict=True))
    found: dict[str, Any] = {"terms": terms, **settings}

    def draw_week(draw: np.random.Generator, _week: int, number: int) -> Ints:
        return draw.choice(population, number)

    for tolerance in (0.0, 0.05):
        alarms = simulate(rows, population, draw_week, terms=terms, tolerance=tolerance, seed=seed, **settings)
        found[f"tolerance {tolerance:g}"] = share_with_interval(sum(map(bool, alarms)), terms)
    weeks = 0
    for term in range(terms):
        draw = np.random.default_rng([seed, term])
        known = draw.choice(population, sizes[0])
        weeks += uncorrected(rows, known, [draw.choice(population, sizes[1]) for _ in range(WEEKS)])
    found["each share each week at 5 %"] = share_with_interval(weeks, terms)
    return found


def delays(
    name: str, rows: Rows, population: Ints, week_of: Draw, terms: int, seed: int, sizes: tuple[int, int]
) -> dict[str, Any]:
    """Return in how many weeks a change is found."""
    settings = dict(zip(("reference", "weekly"), sizes, strict=True))
    alarms = simulate(rows, population, week_of, terms=terms, tolerance=0.05, seed=seed, **settings)
    first = [min((each for each in term if each[0] >= CHANGED), default=None) for term in alarms]
    weeks = sorted(each[0] - CHANGED + 1 for each in first if each)
    return {
        "change": name,
        "terms": terms,
        **settings,
        "found_within_weeks": {str(limit): sum(week <= limit for week in weeks) / terms for limit in (1, 2, 4, 8)},
        "median_weeks": weeks[terms // 2 - 1] if len(weeks) >= terms // 2 else None,
        "first_by": dict(Counter(f"{'item' if each[1] else 'all'}, {each[2]}" for each in first if each)),
        "alarms_before": sum(any(each[0] < CHANGED for each in term) for term in alarms),
    }


class Kept:
    """Results that a run that was stopped need not compute again."""

    def __init__(self, file: Path) -> None:
        self._file = file
        lines = file.read_text().splitlines() if file.exists() else []
        self._done = {tuple(each["of"]): each["found"] for each in map(json.loads, lines)}

    def __call__(self, compute: Callable[[], dict[str, Any]], *of: str | int) -> dict[str, Any]:
        """Return a result by its name."""
        if of not in self._done:
            self._done[of] = compute()
            with self._file.open("a") as file:
                file.write(json.dumps({"of": of, "found": self._done[of]}) + "\n")
        return self._done[of]


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--result", type=Path)
    parser.add_argument("--terms", type=int, default=500)
    parser.add_argument("--change-terms", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--sizes",
        nargs="+",
        default=SIZES,
        type=lambda text: tuple(map(int, text.split(","))),
        metavar="REFERENCE,WEEKLY",
    )
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    scored = np.load(score_beetle(given.data, given.out, given.seed))
    rows = Rows(*(scored[name] for name in ("label", "reason", "probability", "novelty", "tokens", "item")))
    known, strange = np.flatnonzero(~scored["strange"]), np.flatnonzero(scored["strange"])

    def mixed(share: float) -> Draw:
        def draw_week(draw: np.random.Generator, week: int, number: int) -> Ints:
            other = draw.binomial(number, share) if week >= CHANGED else 0
            return np.concatenate([draw.choice(known, number - other), draw.choice(strange, other)])

        return draw_week

    def fewer_correct(draw: np.random.Generator, week: int, number: int) -> Ints:
        weights = np.where((rows.label[known] == 0) & (week >= CHANGED), 0.5, 1.0)
        return draw.choice(known, number, p=weights / weights.sum())

    once = Kept(given.out / f"results-{given.seed}-{given.terms}-{given.change_terms}.jsonl")
    changes = {
        "all responses to other items": mixed(1.0),
        "half of the responses to other items": mixed(0.5),
        "a quarter of the responses to other items": mixed(0.25),
        "half as many correct answers": fewer_correct,
    }
    same, changed = [], []
    for sizes in given.sizes:
        same.append(once(partial(false_alarms, rows, known, given.terms, given.seed, sizes), "same items", *sizes))
        for name, week_of in changes.items():
            measure = partial(delays, name, rows, known, week_of, given.change_terms, given.seed, sizes)
            changed.append(once(measure, name, *sizes))
    result = {
        "rows": {"same items": len(known), "other items": len(strange), "items": len(np.unique(rows.item[known]))},
        "kappa": float(scored["kappa"]),
        "labels": {
            which: {name: float((rows.label[places] == place).mean()) for place, name in enumerate(LABELS)}
            for which, places in (("same items", known), ("other items", strange))
        },
        "weeks": WEEKS,
        "stated_rate": ALPHA,
        "same_items": same,
        "changes": changed,
    }
    if given.result:
        given.result.write_text(json.dumps(result, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
