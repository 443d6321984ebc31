"""Compute every table of `paper/tables` again from the rows in `data`, and compare: ``python reproduce.py [FOLDER]``.

Without EdgeDistill, this script needs Python 3.11 and nothing else: it computes accuracy, kappa, precision, recall, F1
and the confusion matrices by its own arithmetic. With EdgeDistill of the version in `environment/requirements.txt`, it
also computes every interval and every other table (`pip install -r environment/requirements.txt`). No model is run and
nothing is downloaded.

It ends with 0 if every number is reproduced, with 1 if one is not or a file was changed, and with 3 if EdgeDistill is
missing, so that the intervals were not computed.
"""

import csv
import hashlib
import json
import math
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

TOLERANCE = 1e-8
"""Of a figure: sums of floating-point numbers differ a little between processors."""
NAMES = ("accuracy", "kappa", "macro_f1", "mcc", "alpha")
Row = dict[str, str]


def main(arguments: Sequence[str | Path], say: Callable[[str], object] = print) -> int:
    """Run the comparison of the folder that is named, or of the one with this script."""
    folder = Path(arguments[0]) if arguments else Path(__file__).resolve().parent
    changed = changed_files(folder)
    for name in changed:
        say(f"CHANGED  {name} is not the file that was packed")
    failed, missing = bool(changed), False
    for name, check in (("by this script", own_arithmetic), ("with EdgeDistill", with_edgedistill)):
        try:
            outcomes = list(check(folder))
        except Exception as error:
            lacking = _lacks_edgedistill(error)
            if not lacking and not _is_of_files(error):
                raise
            say(_NOT_DONE if lacking else f"FAILED   {name}: the files do not fit each other ({error!r})")
            missing |= lacking
            failed |= not lacking
            continue
        for table, compared, differences in outcomes:
            say(f"{'FAILED ' if differences else 'same   '}  {table} ({compared} numbers, {name})")
            for difference in differences[:5]:
                say(f"         {difference}")
            failed |= bool(differences)
    say("NOT REPRODUCED" if failed else "REPRODUCED")
    return 1 if failed else 3 if missing else 0


_NOT_DONE = "NOT DONE  intervals and the other tables: EdgeDistill is not installed (see README.md)"


def _lacks_edgedistill(error: Exception) -> bool:
    return isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] == "edgedistill"


def _is_of_files(error: Exception) -> bool:
    """Return whether an error is of files that do not fit each other, and not of this script."""
    ours = type(error).__module__.startswith("edgedistill")  # also edgedistill_serve
    return ours or isinstance(error, KeyError | ValueError | IndexError | TypeError)


Outcome = tuple[str, int, list[str]]
"""A table, the number of cells that were compared, and those that differ."""


def changed_files(folder: Path) -> list[str]:
    """Return the files that are missing or not as `MANIFEST.json` has them."""
    manifest = json.loads((folder / "MANIFEST.json").read_text("utf-8"))
    return [
        name
        for name, digest in manifest["files"].items()
        if not (folder / name).is_file() or hashlib.sha256((folder / name).read_bytes()).hexdigest() != digest
    ]


def read(file: Path) -> list[Row]:
    """Read a CSV file; an apostrophe and a tab keep spreadsheets from evaluating a cell, and are not part of it."""
    with file.open(encoding="utf-8", newline="") as stream:
        header, *lines = ([cell.removeprefix("'\t") for cell in line] for line in csv.reader(stream))
    return [dict(zip(header, line, strict=True)) for line in lines]


def settings(folder: Path) -> dict[str, Any]:
    """Read `data/settings.json`."""
    found: dict[str, Any] = json.loads((folder / "data/settings.json").read_text("utf-8"))
    return found


def compare(
    folder: Path, table: str, rows: Sequence[Mapping[str, object]], only: Callable[[Row], bool] = lambda _: True
) -> Outcome:
    """Compare computed rows with the published table, cell by cell.

    Args:
        folder: The package.
        table: The table's name.
        rows: The computed rows; columns that they lack are not compared.
        only: Which of the published rows were computed.
    """
    file = folder / "paper/tables" / f"{table}.csv"
    published = [row for row in read(file) if only(row)] if file.exists() else []
    differences = [] if len(published) == len(rows) else [f"{len(published)} published rows, {len(rows)} computed"]
    cells = 0
    for number, (old, new) in enumerate(zip(published, rows, strict=False), 1):
        for name, value in new.items():
            cells += 1
            if not _same(old[name], value):
                differences.append(f"row {number}, {name}: published {old[name] or 'nothing'}, computed {value}")
    return table, cells, differences


def _same(old: str, new: object) -> bool:
    if new is None or old == "":
        return (old == "") and new in (None, "")
    if isinstance(new, str):
        return old == new
    return isinstance(new, int | float) and math.isclose(float(old), new, rel_tol=TOLERANCE, abs_tol=TOLERANCE)


# What follows up to the next line of this kind needs nothing but Python. ---------------------------------------------


def own_arithmetic(folder: Path) -> Iterator[Outcome]:
    """Compute the figures of each coding from the rows, without EdgeDistill."""
    given = settings(folder)
    test = [row for row in read(folder / "data/rows.csv") if row["split"] == "test"]
    overall: list[Row] = []
    per_label: list[dict[str, object]] = []
    confusion: list[dict[str, object]] = []
    for shown, column in given["columns"].items():
        rows = _coded(test, column, given)
        pairs = [(_set(row["human"], given), _set(row[column], given)) for row in rows]
        figures = _overall(pairs, given)
        overall.append({"coding": shown, "rows": len(rows), **figures})  # type: ignore[dict-item]
        for label in given["labels"]:
            counts = Counter((label in human, label in coded) for human, coded in pairs)
            per_label.append({"coding": shown, "label": label, **_of_label(counts)})
        confusion += _tables(shown, pairs, given)
    yield compare(folder, "agreement", overall)
    yield compare(folder, "per_label", per_label)
    yield compare(folder, "confusion", confusion)


def _coded(rows: Sequence[Row], column: str, given: Mapping[str, Any]) -> list[Row]:
    """Return the rows that have a code in a column; an empty cell may be a code, that of no label."""
    uncoded = set(given["uncoded"].get(column, []))
    return [row for row in rows if row["row"] not in uncoded]


def _set(code: str, given: Mapping[str, Any]) -> frozenset[str]:
    """Return the labels of a code: one, or for a multilabel task any number."""
    if given["kind"] != "multilabel":
        return frozenset([code])
    return frozenset(given["codes"].get(code, []))


Pair = tuple[frozenset[str], frozenset[str]]


def _overall(pairs: Sequence[Pair], given: Mapping[str, Any]) -> dict[str, float | None]:
    accuracy = sum(human == coded for human, coded in pairs) / len(pairs)
    labels = given["labels"]
    counts = {label: Counter((label in human, label in coded) for human, coded in pairs) for label in labels}
    f1 = [_of_label(each)["f1"] for each in counts.values()]
    known = [each for each in f1 if isinstance(each, float)]
    if given["kind"] == "multilabel":
        each = [_kappa([(label in a, label in b) for a, b in pairs], [False, True], weighted=False) for label in labels]
        defined = [value for value in each if value is not None]
        kappa = sum(defined) / len(defined) if defined else None
    else:
        singles = [(next(iter(human)), next(iter(coded))) for human, coded in pairs]
        kappa = _kappa(singles, labels, weighted=given["kind"] == "ordinal")
    return {"accuracy": accuracy, "kappa": kappa, "macro_f1": sum(known) / len(known) if known else None}


def _kappa(pairs: Sequence[tuple[Any, Any]], labels: Sequence[Any], *, weighted: bool) -> float | None:
    """Return Cohen's kappa (1960), with quadratic weights (1968) for ordinal labels; None if it is undefined."""
    rows, place = len(pairs), {label: number for number, label in enumerate(labels)}
    first, second = Counter(a for a, _ in pairs), Counter(b for _, b in pairs)

    def weight(a: Any, b: Any) -> float:
        return float((place[a] - place[b]) ** 2) if weighted else float(a != b)

    observed = sum(weight(a, b) for a, b in pairs) / rows
    expected = sum(weight(a, b) * first[a] * second[b] for a in labels for b in labels) / rows**2
    return 1 - observed / expected if expected else None


def _of_label(counts: Mapping[tuple[bool, bool], int]) -> dict[str, object]:
    both, only_coded, only_human = counts[True, True], counts[False, True], counts[True, False]

    def share(part: int, whole: int) -> float | None:
        return part / whole if whole else None

    return {
        "support": both + only_human,
        "precision": share(both, both + only_coded),
        "recall": share(both, both + only_human),
        "f1": share(2 * both, 2 * both + only_coded + only_human),
    }


def _tables(shown: str, pairs: Sequence[Pair], given: Mapping[str, Any]) -> Iterator[dict[str, object]]:
    if given["kind"] == "multilabel":
        for label in given["labels"]:
            counts = Counter((label in human, label in coded) for human, coded in pairs)
            names = {"both": (True, True), "only_human": (True, False), "only_coding": (False, True)}
            names["neither"] = (False, False)
            yield {"coding": shown, "label": label} | {name: counts[key] for name, key in names.items()}
        return
    counts_of = Counter((next(iter(human)), next(iter(coded))) for human, coded in pairs)
    for human in given["labels"]:
        yield {"coding": shown, "human": human} | {coded: counts_of[human, coded] for coded in given["labels"]}


# What follows needs EdgeDistill. --------------------------------------------------------------------------------------


def with_edgedistill(folder: Path) -> Iterator[Outcome]:
    """Compute every table with the functions of `edgedistill.agreement`, intervals included."""
    import edgedistill.agreement  # noqa: F401  # missing where EdgeDistill is

    tables = _Tables(folder)
    yield from tables.agreement()
    yield from tables.comparisons()
    yield from tables.alt_test()
    yield from tables.subgroups()
    yield from tables.calibration()
    yield tables.decision_rule()
    yield from tables.guarantee()
    yield from tables.novelty()
    yield from tables.learning_curve()
    yield from tables.estimates()
    yield from tables.fidelity()
    yield from tables.label_shares()
    yield from tables.gate()
    yield _flow(folder)
    yield _training_rows(folder, tables.given)


class _Tables:
    """The tables of a package, computed again."""

    def __init__(self, folder: Path) -> None:
        from edgedistill.task import Label, Task

        self.folder, self.given = folder, settings(folder)
        self.task = Task(self.given["kind"], [Label(name) for name in self.given["labels"]])
        every = read(folder / "data/rows.csv")
        self.test = [row for row in every if row["split"] == "test"]
        self.validation = [row for row in every if row["split"] == "validation"]
        unread = set(self.given["unreadable"])
        self.scored = [row for row in self.validation if row["row"] not in unread]
        self.model = next(iter(self.given["columns"].values()))

    def groups(self, rows: Sequence[Row]) -> list[str] | None:
        return [row["group"] for row in rows] if any(row["group"] for row in rows) else None

    def coded(self, column: str) -> list[Row]:
        return _coded(self.test, column, self.given)

    def agree(self, rows: Sequence[Row], column: str) -> Any:
        from edgedistill.agreement import agreement

        human, coded = ([row[name] for row in rows] for name in ("human", column))
        return agreement(human, coded, self.task, groups=self.groups(rows), positive=self.given["positive"])

    def agreement(self) -> Iterator[Outcome]:
        found = {shown: self.agree(self.coded(column), column) for shown, column in self.given["columns"].items()}
        overall = [
            {"coding": shown, "rows": each.rows} | _parts({name: getattr(each, name) for name in NAMES})
            for shown, each in found.items()
        ]
        per_label = [
            {"coding": shown, "label": label, "support": figures.support} | _label_parts(figures)
            for shown, each in found.items()
            for label, figures in each.per_label.items()
        ]
        yield compare(self.folder, "agreement", overall)
        yield compare(self.folder, "per_label", per_label)

    def comparisons(self) -> Iterator[Outcome]:
        from edgedistill.agreement import compare as compared
        from edgedistill.agreement import human_agreement

        lines: list[dict[str, object]] = []
        for name, column in self.given["codings"].items():
            if name != "student" and (rows := self.coded(column)):
                human, other, student = ([row[each] for row in rows] for each in ("human", column, "coding:student"))
                found = compared(human, other, student, self.task, groups=self.groups(rows))
                lines += _compared("human codes", name, found)
        if self.given["coders"]:
            codes = self.codes(self.test)
            model = {row["row"]: row[self.model] for row in self.test}
            groups = {row["row"]: row["group"] for row in self.test} if self.groups(self.test) else None
            coders = human_agreement(codes, self.task, student=model, groups=groups, positive=self.given["positive"])
            figures = ("accuracy", "kappa", "alpha")
            pairs = [
                {"first": pair.first, "second": pair.second, "rows": pair.rows}
                | _parts({name: getattr(pair.agreement, name, None) for name in figures})
                for pair in coders.pairs
            ]
            yield compare(self.folder, "inter_coder", pairs)
            for each in coders.beside_humans:
                lines += _compared(each.reference, each.human, each.comparison)
        if lines:
            yield compare(self.folder, "comparisons", lines)

    def codes(self, rows: Sequence[Row]) -> dict[str, dict[str, str]]:
        """Return the codes of each human coder by row."""
        return {
            name: {row["row"]: row[column] for row in rows if column == "human" or row["row"] not in lacking}
            for name, (column, lacking) in self.given["coders"].items()
        }

    def alt_test(self) -> Iterator[Outcome]:
        from edgedistill.agreement.alt_test import alt_test_by_id

        machines = [
            (f"teacher {each['name']}", self.validation, f"gate:{each['name']}", set(each["uncoded"]))
            for each in self.given["teachers"]
        ]
        lines: list[dict[str, object]] = []
        for name, rows, column, uncoded in (*machines, ("model", self.test, self.model, set[str]())):
            labels = {row["row"]: row[column] for row in rows if row["row"] not in uncoded}
            groups = {row["row"]: row["group"] for row in rows} if self.groups(rows) else None
            epsilon = self.given["alt_test_epsilon"]
            found, _ = alt_test_by_id(labels, self.codes(rows), self.task, epsilon=epsilon, groups=groups)
            for each in found.coders if found else ():
                start = {"machine": name, "coder": each.coder, "rows": each.rows, "p": each.p}
                lines.append(start | _parts({"advantage": each.advantage, "coder_advantage": each.coder_advantage}))
        if lines:
            yield compare(self.folder, "alt_test", lines)

    def subgroups(self) -> Iterator[Outcome]:
        from edgedistill.agreement import subgroups

        lines: list[dict[str, object]] = []
        for column, name, source in self.given["subgroups"]:
            rows, smallest = self.coded(source), self.given["smallest_subgroup"]
            human, coded, values = ([row[each] for row in rows] for each in ("human", source, f"subgroup:{column}"))
            for each in subgroups(human, coded, values, self.task, smallest=smallest, groups=self.groups(rows)):
                start: dict[str, object] = {"column": column, "coding": name, "group": each.value, "rows": each.rows}
                if not each.suppressed:
                    lines.append(start | _parts({"accuracy": each.accuracy, "kappa": each.kappa}))
        if columns := {column for column, *_ in self.given["subgroups"]}:
            yield compare(
                self.folder, "subgroups", lines, lambda row: row["column"] in columns and row["note"] != "too few rows"
            )

    def calibration(self) -> Iterator[Outcome]:
        from edgedistill.agreement import probability_metrics

        if not self.given["logits"]:
            return
        lines: list[dict[str, object]] = []
        for split, rows in (("validation", self.scored), ("test", self.test)):
            logits = [[float(row[f"logit:{label}"]) for label in self.given["labels"]] for row in rows]
            for when, temperature in (("before", 1.0), ("after", self.given["temperature"])):
                shares = _probabilities(logits, temperature, multilabel=self.given["kind"] == "multilabel")
                human = [row["human"] for row in rows]
                found = probability_metrics(human, shares, self.task, groups=self.groups(rows))
                figures = {name: getattr(found, name) for name in ("log_loss", "brier", "ece")}
                lines.append({"split": split, "calibration": when} | _parts(figures))
        yield compare(self.folder, "calibration", lines)

    def decision_rule(self) -> Outcome:
        lines: list[dict[str, object]] = []
        for split, given in (("validation", self.validation), ("test", self.test)):
            decision, labels = self.given["decisions"][split]
            rows = [row for row in given if row[decision]]
            accepted = [row for row in rows if row[decision] == "accept"]
            others = [row for row in rows if row[decision] != "accept"]
            agreed, missed = (self.agree(part, labels) if part else None for part in (accepted, others))
            figures = {
                "share_accepted": _share([row[decision] == "accept" for row in rows], self.groups(rows)),
                "kappa": agreed and agreed.kappa,
                "accuracy": agreed and agreed.accuracy,
                "of_reviewed": missed and missed.accuracy,
            }
            lines.append({"split": split, "rows": len(rows), "accepted": len(accepted)} | _parts(figures))
        return compare(self.folder, "decision_rule", lines)

    def guarantee(self) -> Iterator[Outcome]:
        """Compute the evidence for the promise: exact binomial bounds, or those of Hoeffding and Bentkus."""
        import numpy as np

        from edgedistill.decisions.guarantee import Evidence

        if (given := self.given["guarantee"]) is None:
            return
        rows = [row for row in self.validation if row["promise"]]

        def column(name: str) -> Any:
            places: dict[str, int] = {}
            return np.array([places.setdefault(row[name], len(places)) for row in rows])

        labels = np.array([row[given["labels_from"]] for row in rows])
        evidence = Evidence(
            wrong=labels != np.array([row["human"] for row in rows]),
            clusters=tuple(map(column, given["clusters"])) or (np.arange(len(rows)),),
            distinct=None if "group" in given["clusters"] else column("tokens"),
            groups={},
        )
        accepted = np.array([row["promise"] == "accept" for row in rows])
        level = (1 - given["confidence"]) / given["compared"]
        parts = [(accepted, level)]
        parts += [(accepted & (labels == name), level / given["labels_tested"]) for name in given["labels"]]
        for name in given["groups"]:
            parts.append((accepted & np.array([row["promise_group"] == name for row in rows]), level))
        lines: list[dict[str, object]] = []
        for part, at in parts:
            found = evidence.part(part, at)
            bound = min(found.bound, given["share"])
            lines.append({"accepted": found.accepted, "wrong": found.wrong, "bound": bound})
        yield compare(self.folder, "guarantee", lines)

    def novelty(self) -> Iterator[Outcome]:
        if (limit := self.given["novelty_limit"]) is None:
            return
        lines: list[dict[str, object]] = []
        for split, given in (("validation", self.validation), ("test", self.test)):
            rows = [row for row in given if row["unlike"]]
            flagged = [row for row in rows if row["unlike"] == "yes"]
            line: dict[str, object] = {"rows": len(rows), "flagged": len(flagged), "limit": limit}
            if split == "test":
                others = [row for row in rows if row["unlike"] == "no"]
                found = (self.agree(part, self.model) if part else None for part in (flagged, others))
                figures = ("accuracy_of_flagged", "accuracy_of_others")
                line |= _parts(dict(zip(figures, (each and each.accuracy for each in found), strict=True)))
            lines.append(line)
        yield compare(self.folder, "novelty", lines)

    def learning_curve(self) -> Iterator[Outcome]:
        from edgedistill.decisions.learning_curve import learning_curve

        if not self.given["curve"]:
            return
        rows = [row for row in self.validation if row[self.given["curve"][0]]]
        codings: dict[int, list[list[str]]] = {}
        for column in self.given["curve"]:
            codings.setdefault(int(column.split(":")[1]), []).append([row[column] for row in rows])
        human = [row["human"] for row in rows]
        found = learning_curve(human, codings, self.task, groups=self.groups(rows))
        lines: list[dict[str, object]] = [
            {"kind": "measured", "rows": point.rows, "subsets": len(point.kappas)}
            | _parts({"kappa": point.mean, "gain": None})
            for point in found.points
        ]
        lines += [
            {"kind": "predicted", "rows": each.rows, "subsets": None} | _parts({"kappa": each.kappa, "gain": each.gain})
            for each in found.predictions
        ]
        yield compare(self.folder, "learning_curve", lines)

    def estimates(self) -> Iterator[Outcome]:
        file = self.folder / "data/estimates.json"
        if not file.exists():
            return
        from edgedistill.estimates.rows import estimate_again

        found = estimate_again(json.loads(file.read_text("utf-8")))
        lines: list[dict[str, object]] = [
            {
                "method": each.method,
                "estimate": each.value,
                "estimate_low": each.low,
                "estimate_high": each.high,
                "standard_error": each.standard_error,
                "human_codes": each.human_codes,
                "effective_human_codes": each.effective_human_codes,
                "machine_weight": each.machine_weight,
            }
            for each in found.estimates
        ]
        yield compare(self.folder, "estimates", lines)

    def fidelity(self) -> Iterator[Outcome]:
        from edgedistill.agreement import change

        lines: list[dict[str, object]] = []
        for before, after in self.given["steps"]:
            rows = [row for row in self.coded(before) if row in self.coded(after)]
            human, one, other = ([row[column] for row in rows] for column in ("human", before, after))
            each = change(human, one, other, self.task, groups=self.groups(rows))
            first, second = (self.given["forms"][column] for column in (before, after))
            start: dict[str, object] = {"before": first, "after": second, "rows": each.rows, "flips": each.flips}
            lines.append(start | _parts({"flip_rate": each.flip_rate, "kappa_lost": each.kappa_lost}))
        if lines and not self.given["steps_left_out"]:
            yield compare(self.folder, "fidelity", lines)

    def label_shares(self) -> Iterator[Outcome]:
        from edgedistill.agreement import prevalence

        if not (self.folder / "data/population.csv").exists():
            return
        counted = read(self.folder / "data/population.csv")
        coded, known = ([row["label"] for row in counted if row["source"] == who] for who in ("student", "human"))
        human, student = ([row[column] for row in self.test] for column in ("human", "coding:student"))
        shares = prevalence(coded, human, student, self.task, known=known, groups=self.groups(self.test))
        corrected = shares.corrected or {}
        lines: list[dict[str, object]] = [
            {"label": label} | _parts({"observed": each, "corrected": corrected.get(label)})
            for label, each in shares.observed.items()
        ]
        yield compare(self.folder, "label_shares", lines)

    def gate(self) -> Iterator[Outcome]:
        if self.given["teachers"]:
            yield _gate(self.folder, self.given, self.task, self.validation, self.groups(self.validation))


def _gate(folder: Path, given: Mapping[str, Any], task: Any, rows: Sequence[Row], groups: list[str] | None) -> Outcome:
    from edgedistill.agreement import agreement
    from edgedistill.teacher.gating import wrong_label

    frequent = [label for label, _ in Counter(row["human"] for row in rows).most_common()]
    texts = [row["text"] for row in rows]
    if groups is None and len(set(texts)) < len(texts):
        groups = texts
    lines: list[dict[str, object]] = []
    for teacher in given["teachers"]:
        column, uncoded = f"gate:{teacher['name']}", set(teacher["uncoded"])
        labels = [wrong_label(row["human"], frequent, task) if row["row"] in uncoded else row[column] for row in rows]
        reached = None
        if len(uncoded) < len(rows):
            reached = getattr(agreement([row["human"] for row in rows], labels, task, groups=groups), teacher["metric"])
        counts: dict[str, object] = {"teacher": teacher["name"], "rows": len(rows), "coded": len(rows) - len(uncoded)}
        lines.append(counts | _parts({"reached": reached}))
    return compare(folder, "gate", lines)


def _flow(folder: Path) -> Outcome:
    counts = Counter((row["file"], row["outcome"], row["what"]) for row in read(folder / "data/row_outcomes.csv"))
    read_rows = Counter(row["file"] for row in read(folder / "data/row_outcomes.csv"))
    published = read(folder / "paper/tables/data_flow.csv")
    lines: list[dict[str, object]] = [
        {
            "rows": read_rows[row["file"]]
            if row["outcome"] == "read"
            else counts[row["file"], row["outcome"], row["what"]]
        }
        for row in published
    ]
    known = {(row["file"], row["outcome"], row["what"]) for row in published}
    table, cells, differences = compare(folder, "data_flow", lines)
    return table, cells, [*differences, *(f"{key} is not in the table" for key in counts.keys() - known)]


def _training_rows(folder: Path, given: Mapping[str, Any]) -> Outcome:
    counts: Counter[tuple[str, str]] = Counter()
    rows: Counter[str] = Counter()
    for row in read(folder / "data/training_rows.csv"):
        rows[row["source"]] += 1
        for label in given["counted_as"].get(row["label"], [row["label"]]):
            counts[row["source"], label] += 1
    published = read(folder / "paper/tables/training_rows.csv")
    lines: list[dict[str, object]] = [
        {"rows": rows[each["source"]]} | {label: counts[each["source"], label] for label in given["counted"]}
        for each in published
    ]
    return compare(folder, "training_rows", lines)


def _compared(reference: str, first: str, comparison: Any) -> list[dict[str, object]]:
    counts = {
        "reference": reference,
        "first": first,
        "second": "student",
        "rows": comparison.rows,
        "only_first_right": comparison.only_first_right,
        "only_second_right": comparison.only_second_right,
    }
    p = comparison.mcnemar.mid_p if comparison.mcnemar else None
    return [
        counts | {"figure": figure} | _parts({"difference": each}) | {"mcnemar_mid_p": p}
        for figure, each in comparison.differences.items()
    ]


def _label_parts(figures: Any) -> dict[str, object]:
    parts: dict[str, object] = {}
    for name in ("precision", "recall", "f1"):
        low, high = figures.intervals.get(name, (None, None))
        parts |= {name: getattr(figures, name), f"{name}_low": low, f"{name}_high": high}
    return parts


def _parts(estimates: Mapping[str, Any]) -> dict[str, object]:
    """Return each estimate as the three columns that it has in a table."""
    parts: dict[str, object] = {}
    for name, each in estimates.items():
        parts[name] = each.value if each else None
        parts |= {f"{name}_low": each.low if each else None, f"{name}_high": each.high if each else None}
    return parts


def _probabilities(logits: Sequence[Sequence[float]], temperature: float, *, multilabel: bool) -> Any:
    import numpy as np

    from edgedistill_serve.task.label_decoding import sigmoid, softmax

    calibrate: Callable[[Any, float], Any] = sigmoid if multilabel else softmax
    return np.array([calibrate(np.array(row), temperature) for row in logits])


def _share(accepted: Sequence[bool], groups: list[str] | None) -> Any:
    """Return the share of accepted rows with its interval."""
    import numpy as np

    from edgedistill.agreement.bootstrap import Rows, share_figure

    counted, rows, rng = np.array(accepted, dtype=bool), Rows.of(len(accepted), groups), np.random.default_rng(0)
    drawn = rows.draw_cells(2 + counted.astype(np.int64), 4, 2000, rng)
    additional = rows.draw_additional((~counted).astype(np.float64), 2000, rng)
    return share_figure(drawn[:, 3], drawn[:, 2], additional, rows).estimate()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
