"""How often the 95 % intervals of `edgedistill estimate` hold the truth, on real responses with real machine codes.

    python benchmarks/estimates_coverage.py STUDENTS WORK --out docs/results/estimates_coverage.json

STUDENTS has a folder for each of beetle, networks and babe: a project with `human.csv` (columns `id`, `response`,
`label`, `part`), and its run with `test_scores.csv`, the human and the student's codes of rows on which it was not
trained. These rows are the superpopulation, whose shares, means, differences and coefficients by human codes are the
truth. A sample is 1,000 of these rows (or the rows of as many learners as there are), drawn with replacement; n of
them, drawn without replacement, have a human code. WORK keeps the result of each cell, so that an interrupted run
continues.
"""

import argparse
import csv
import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from edgedistill.errors import DataError
from edgedistill.estimates import estimate
from edgedistill.estimates.codes import INCLUSION_PROBABILITY
from edgedistill.estimates.estimate import SMALLEST, SMALLEST_IN_REGRESSIONS
from edgedistill.estimates.results import HUMAN_ONLY, METHODS
from edgedistill.task import Label, Task

ROWS = 1000
CODED = (25, 50, 100, 200, 400)
MEASURED_FROM = 10
"""Human codes that every method is given in this measurement, instead of `SMALLEST`."""


@dataclass(frozen=True)
class Setting:
    """What is estimated from which rows.

    Attributes:
        name: For the tables.
        data: Name of the data set.
        options: Arguments of `estimate`.
        shown: Whether an estimand is counted, by its name and group.
        clusters: Whether learners are drawn instead of rows.
        unequal: Whether rows of which the student is unsure are coded more often.
    """

    name: str
    data: str
    options: Mapping[str, Any] = field(default_factory=dict)
    shown: Callable[[str, str], bool] = lambda _name, _group: True
    clusters: bool = False
    unequal: bool = False


def is_share(name: str, _group: str) -> bool:
    """Whether an estimand is the share of a label."""
    return name.startswith("share of ")


def is_difference(_name: str, group: str) -> bool:
    """Whether an estimand is a difference between two groups."""
    return " - " in group


def is_slope(name: str, _group: str) -> bool:
    """Whether an estimand is a coefficient that people would report."""
    return name != "Intercept"


REGRESSION = {"formula": "correct ~ words + lesson"}
SETTINGS = (
    Setting("share", "babe", shown=is_share),
    Setting("share", "beetle", shown=is_share),
    Setting("share, codes of an LLM", "beetle-llm", shown=is_share),
    Setting("share", "networks", shown=is_share),
    Setting("mean score", "networks", shown=lambda name, _: name == "mean score"),
    Setting("difference", "beetle", {"by": "lesson"}, is_difference),
    Setting("OLS", "beetle", REGRESSION, is_slope),
    Setting("OLS of the score", "networks", {"formula": "score ~ words + part"}, is_slope),
    Setting("logistic", "beetle", {**REGRESSION, "model": "logistic"}, is_slope),
    Setting("share, clusters", "beetle", {"clusters": "learner"}, is_share, clusters=True),
    Setting("share, unequal inclusion", "beetle", shown=is_share, unequal=True),
    Setting("OLS, unequal inclusion", "beetle", REGRESSION, is_slope, unequal=True),
)


def read_csv(path: Path) -> list[dict[str, str]]:
    """Read a CSV file."""
    with path.open(encoding="utf-8-sig", newline="") as stream:
        return list(csv.DictReader(stream))


def read_pool(students: Path, name: str) -> tuple[pd.DataFrame, Task] | None:
    """Return the rows of a data set with columns for `estimate` and the human code in ``human``, or None."""
    folder = students / name.removesuffix("-llm")
    scores = folder / "runs" / folder.name / "test_scores.csv"
    if not scores.exists():
        return None
    human = {row["id"]: row for row in read_csv(folder / "human.csv")}
    rows = read_csv(scores)
    labels = [column.removeprefix("p:") for column in rows[0] if column.startswith("p:")]
    pool = pd.DataFrame(
        {
            "label": [row["student"] for row in rows],
            "human": [row["human"] for row in rows],
            "part": [human[row["id"]]["part"] for row in rows],
            "lesson": [row["id"].partition("-")[0] for row in rows],
            "learner": [row["id"].partition(".")[2].partition("-")[0] for row in rows],
            "words": [np.log1p(len(human[row["id"]]["response"].split())) for row in rows],
            **{f"probability_{label}": [float(row[f"p:{label}"]) for row in rows] for label in labels},
        }
    )
    pool["lesson"] = np.where(pool["lesson"] == "FaultFinding", "faults", "switches")
    pool["part"] = np.where(pool["part"] == "test_uq", "new questions", "known questions")
    return pool, Task("ordinal" if name == "networks" else "nominal", labels=[Label(label) for label in labels])


def read_llm(votes: Path, students: Path) -> tuple[pd.DataFrame, Task] | None:
    """Return Beetle's rows with three votes of an LLM, whose majority is the machine code (the first vote at a tie)."""
    human = {row["id"]: row["label"] for row in read_csv(students / "beetle" / "human.csv")}
    labels = ("correct", "contradictory", "incorrect")
    rows = []
    for line in votes.read_text("utf-8").splitlines():
        each = json.loads(line)
        if each["id"] in human and len(each["votes"]) == 3:
            cast = [vote["label"] for vote in each["votes"]]
            majority = max(cast, key=lambda label: (cast.count(label), -cast.index(label)))
            shares = {f"probability_{label}": cast.count(label) / 3 for label in labels}
            rows.append({"label": majority, "human": human[each["id"]], **shares})
    return pd.DataFrame(rows), Task("nominal", labels=[Label(label) for label in labels])


def draw(pool: pd.DataFrame, setting: Setting, coded: int, rng: np.random.Generator) -> pd.DataFrame:
    """Draw responses, and the human codes of some."""
    if setting.clusters:
        members = [np.flatnonzero(pool["learner"] == name) for name in pool["learner"].unique()]
        drawn = rng.integers(len(members), size=len(members))
        rows = np.concatenate([members[each] for each in drawn])
        sample = pool.iloc[rows].reset_index(drop=True)
        sample["learner"] = np.repeat(np.arange(len(drawn)), [len(members[each]) for each in drawn])
    else:
        sample = pool.iloc[rng.integers(len(pool), size=ROWS)].reset_index(drop=True)
    if setting.unequal:
        probability = inclusion_probabilities(sample, coded)
        has_code = systematic(probability, rng)
        sample[INCLUSION_PROBABILITY] = probability
    else:
        has_code = rng.permutation(len(sample)) < coded
    sample["human"] = sample["human"].where(pd.Series(has_code), None)
    return sample


def inclusion_probabilities(sample: pd.DataFrame, coded: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Probabilities that sum to the number of coded rows: a floor, and more where the student is unsure."""
    shares = sample[[name for name in sample if str(name).startswith("probability_")]].to_numpy(np.float64)
    wanted = 0.1 + 1 - shares.max(axis=1)
    found = np.minimum(wanted * coded / wanted.sum(), 1.0)
    for _ in range(20):
        free = found < 1
        found[free] = np.minimum(found[free] * (coded - (~free).sum()) / found[free].sum(), 1.0)
    return found


def systematic(
    probability: np.ndarray[Any, np.dtype[np.float64]], rng: np.random.Generator
) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Draw a sample of fixed size with these inclusion probabilities: systematically, in random order."""
    order = rng.permutation(len(probability))
    ends = np.floor(np.cumsum(probability[order]) + rng.random())
    chosen = np.zeros(len(probability), np.bool_)
    chosen[order] = np.diff(ends, prepend=0.0) > 0
    return chosen


def measure(pool: pd.DataFrame, task: Task, setting: Setting, coded: int, samples: int) -> list[dict[str, Any]]:
    """Return coverage and width for each estimand and method."""
    complete = pool.assign(label=pool["human"])
    known = estimate(complete, human_column="human", task=task, **setting.options)
    truth = {(each.estimand, each.group): each.value for each in known.estimates if each.method == "naive"}
    lines: dict[tuple[str, str, str], list[tuple[float, float, float]]] = defaultdict(list)
    tried = 0
    for place in range(samples):
        rng = np.random.default_rng((coded, place))
        sample = draw(pool, setting, coded, rng)
        tried += 1
        try:
            found = estimate(sample, human_column="human", task=task, random_state=place, **setting.options)
        except DataError:
            continue
        for each in found.estimates:
            true = truth[each.estimand, each.group]
            if each.value is not None and true is not None and setting.shown(each.estimand, each.group):
                within = each.low <= true <= each.high
                lines[each.estimand, each.group, each.method].append((within, each.high - each.low, each.value - true))
    return list(summarize(lines, tried))


def summarize(
    lines: Mapping[tuple[str, str, str], Sequence[tuple[float, float, float]]], tried: int
) -> Iterator[dict[str, Any]]:
    """Yield a row per estimand and method."""
    for (estimand, group, method), values in lines.items():
        counted = np.array(values, np.float64)
        human = np.array(lines.get((estimand, group, HUMAN_ONLY), values), np.float64)
        yield {
            "estimand": estimand,
            "group": group,
            "method": method,
            "given": len(counted) / tried,
            "coverage": round(float(counted[:, 0].mean()), 4),
            "width": round(float(np.median(counted[:, 1])), 5),
            "relative_width": round(float(np.median(counted[:, 1]) / np.median(human[:, 1])), 3),
            "bias": round(float(counted[:, 2].mean()), 5),
        }


def coverage_table(cells: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield a Markdown table: coverage in percent, from the lowest to the highest of a setting's estimands, and width.

    A method is left out where it was given in fewer than nine of ten samples.
    """
    yield "| setting | data | human codes | " + " | ".join(METHODS) + " |"
    yield "|---|---|---|" + "---|" * len(METHODS)
    rows: dict[tuple[str, str, int], dict[str, list[Mapping[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for cell in cells:
        if cell["given"] >= 0.9:
            rows[cell["setting"], cell["data"], cell["coded"]][cell["method"]].append(cell)
    order = {(setting.name, setting.data): place for place, setting in enumerate(SETTINGS)}
    for (setting, data, coded), methods in sorted(rows.items(), key=lambda each: (order[each[0][:2]], each[0][2])):
        texts = []
        for method in METHODS:
            found = methods.get(method, [])
            held = sorted({round(100 * each["coverage"]) for each in found})
            ends = f"{held[0]}" if len(held) == 1 else f"{held[0]} to {held[-1]}" if held else "-"
            width = np.mean([each["relative_width"] for each in found]) if found else 0
            texts.append(f"{ends} ({width:.2f})" if found and HUMAN_ONLY in methods and method != HUMAN_ONLY else ends)
        yield f"| {setting} | {data} | {coded} | " + " | ".join(texts) + " |"


def finished_cells(
    pools: Mapping[str, tuple[pd.DataFrame, Task] | None], work: Path, samples: int, *, measure_missing: bool
) -> Iterator[dict[str, Any]]:
    """Yield the rows of every cell whose data set is there, and measure cells that are not in the folder yet."""
    for coded, setting in product(CODED, SETTINGS):
        named = f"{setting.name} {setting.data}".replace(",", "").replace(" ", "-")
        file = work / f"{named}-{coded}-{samples}.json"
        if (pool := pools.get(setting.data)) is None:
            continue
        if measure_missing and not file.exists():
            part = file.with_suffix(".part")
            part.write_text(json.dumps(measure(*pool, setting, coded, samples)), "utf-8")
            part.replace(file)
            print(file.name, flush=True)
        for row in json.loads(file.read_text("utf-8")) if file.exists() else ():
            yield {"setting": setting.name, "data": setting.data, "coded": coded, **row}


def main() -> None:
    """Measure every cell that WORK lacks, and write the result file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("students", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--votes", type=Path, help="votes.jsonl of an LLM on Beetle")
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--finished", action="store_true", help="use the cells in WORK, measure none")
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    SMALLEST.update(dict.fromkeys(SMALLEST, MEASURED_FROM))  # type: ignore[attr-defined]
    SMALLEST_IN_REGRESSIONS.clear()  # type: ignore[attr-defined]
    pools = {name: read_pool(given.students, name) for name in ("babe", "beetle", "networks")}
    if given.votes:
        pools["beetle-llm"] = read_llm(given.votes, given.students)
    cells = list(finished_cells(pools, given.work, given.samples, measure_missing=not given.finished))
    print("\n".join(coverage_table(cells)))
    if given.out:
        about = {"samples": given.samples, "rows": ROWS, "methods": list(METHODS)}
        lines = ",\n".join(map(json.dumps, cells))
        given.out.write_text(f'{json.dumps(about)[:-1]}, "cells": [\n{lines}\n]}}\n', "utf-8")


if __name__ == "__main__":
    main()
