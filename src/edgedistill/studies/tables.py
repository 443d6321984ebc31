"""Tables: the tidy one with a row for each run, and the short ones that people read."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from rich import box
from rich.table import Table
from rich.text import Text

from edgedistill.agreement import Estimate
from edgedistill.data.types import Source
from edgedistill.mixing import SOURCES
from edgedistill.studies.estimates import ConditionSummary, Difference
from edgedistill.studies.runs import LEAK
from edgedistill.studies.study_file import Kind, Protocol
from edgedistill.studies.types import ResultRow, RunPlan

FACTS = (
    "wanted",
    "teacher",
    "writer",
    "schedule",
    "share",
    "temperature",
    "min_consistency",
    "kept",
    "kept_accuracy",
    "distinct_1",
    "distinct_2",
    "self_bleu",
)
_ESTIMATES = ("accuracy", "macro_f1", "kappa", "f1", "precision", "recall", "auc")
COLUMNS = (
    "study",
    "protocol",
    "leak",
    "task",
    "condition",
    "learner",
    "seed",
    "block",
    *FACTS,
    "human_rows",
    "teacher_rows",
    "synthetic_rows",
    "synthetic_share",
    "learning_rate",
    "batch_size",
    "epochs",
    "best_epoch",
    "validation_macro_f1",
    "test",
    "test_rows",
    *(f"{name}{end}" for name in _ESTIMATES for end in ("", "_low", "_high")),
    "seconds",
    "not_run",
)
"""The columns of runs.csv."""


@dataclass(frozen=True, slots=True)
class StudyTable:
    """A table for people.

    Attributes:
        title: Above it.
        header: Its columns.
        rows: Its cells.
        notes: Below it, a sentence each.
        narrow: The columns that a terminal shows; empty: all.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    narrow: tuple[str, ...] = ()

    def markdown(self) -> str:
        """Return it as a GitHub table."""
        lines = [f"## {self.title}", "", _row(self.header), _row(["---"] * len(self.header)), *map(_row, self.rows), ""]
        return "\n".join([*lines, *(f"{note}\n" for note in self.notes)])

    def table(self) -> Table:
        """Return it for a terminal."""
        table = Table(title=Text(self.title), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
        shown = [place for place, name in enumerate(self.header) if name in (self.narrow or self.header)]
        for place in shown:
            table.add_column(self.header[place], justify="right" if place else "left", overflow="fold")
        for row in self.rows:
            table.add_row(*(Text(_stacked(row[place]) if place else row[place]) for place in shown))
        return table


def _stacked(cell: str) -> str:
    """A figure with its interval under it, which keeps the column narrow, and is not broken."""
    return cell.replace(" [", "\n[").replace(", ", ",\u00a0")


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def run_rows(
    kind: Kind, protocol: Protocol, lines: Iterable[ResultRow], not_run: Iterable[RunPlan]
) -> Iterator[dict[str, object]]:
    """Yield the rows of runs.csv: a student on one set of test rows each, then what was not run and why."""
    for line in lines:
        yield _named(kind, protocol, line.plan) | _had(line) | _scores(line)
    for plan in not_run:
        yield _named(kind, protocol, plan) | {"not_run": plan.missing}


def _named(kind: Kind, protocol: Protocol, plan: RunPlan) -> dict[str, object]:
    return {
        "study": kind,
        "protocol": protocol,
        "leak": LEAK if protocol == "as-published" and plan.learner != "teacher" else "",
        "task": plan.task,
        "condition": plan.condition,
        "learner": plan.learner,
        "seed": "" if plan.learner == "teacher" else plan.seed,
        **plan.facts,
    }


def _had(line: ResultRow) -> dict[str, object]:
    point = line.point
    total = sum(point.rows.values())
    return {
        "block": point.block,
        **{f"{source}_rows": point.rows.get(source, 0) for source in ("human", "teacher", "synthetic")},
        "synthetic_share": f"{point.rows.get('synthetic', 0) / total:.4f}" if total else "",
        "learning_rate": point.learning_rate,
        "batch_size": point.batch_size,
        "epochs": point.epochs,
        "best_epoch": point.best_epoch,
        "validation_macro_f1": point.validation_macro_f1,
        "seconds": point.seconds,
    }


def _scores(line: ResultRow) -> dict[str, object]:
    found, averages = line.figures.agreement, line.figures.averages
    estimates = (found.accuracy, found.macro_f1, found.kappa, averages.f1, averages.precision, averages.recall)
    cells: dict[str, object] = {"test": line.scored.test, "test_rows": found.rows}
    for name, estimate in zip(_ESTIMATES, (*estimates, line.figures.auc), strict=True):
        if estimate:
            cells |= {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
    return cells


def summary_tables(title: str, found: Sequence[ConditionSummary]) -> list[StudyTable]:
    """Return the tables of conditions: one for each task and each of its sets of test rows."""
    panels: dict[tuple[str, str], list[ConditionSummary]] = {}
    for each in found:
        panels.setdefault((each.first.plan.task, each.first.scored.test), []).append(each)
    return [_summary_sheet(f"{title}: {task}, {test} rows", each) for (task, test), each in panels.items()]


def _summary_sheet(title: str, found: Sequence[ConditionSummary]) -> StudyTable:
    sources = [source for source in SOURCES if any(each.first.point.rows.get(source) for each in found)]
    header = ("condition", *sources, "seeds", "macro-F1", "sd", "kappa", "AUC", "gain", "over")
    rows = tuple(_condition(each, sources) for each in found)
    return StudyTable(title, header, rows, narrow=("condition", "macro-F1", "kappa", "gain"))


def _condition(found: ConditionSummary, sources: Sequence[Source]) -> tuple[str, ...]:
    line = found.first
    plan, block = line.plan, line.point.block
    return (
        f"{plan.condition}, block {block}" if block else plan.condition,
        *(str(line.point.rows.get(source, "")) for source in sources),
        "" if plan.learner == "teacher" else str(len(found.lines)),
        told(found.macro_f1),
        figure(found.spread) if found.spread is not None else "",
        told(found.kappa),
        figure(found.auc) if found.auc is not None else "",
        _gain(found.gain) if found.gain else "",
        ("block 0" if block else plan.reference) if found.gain else "",
    )


def _gain(gain: Difference) -> str:
    return f"{told(gain.macro_f1, signed=True)}{f' on {gain.part}' if gain.part else ''}"


def told(estimate: Estimate | None, *, signed: bool = False) -> str:
    """Return a figure with its interval: ``.612 [.571, .650]``."""
    if estimate is None:
        return "-"
    return f"{figure(estimate.value, signed=signed)} [{figure(estimate.low)}, {figure(estimate.high)}]"


def figure(value: float | None, *, signed: bool = False) -> str:
    """Return a figure with three digits and without its leading zero; a dash where it is undefined."""
    return "-" if value is None else f"{value:{'+' if signed else ''}.3f}".replace("0.", ".", 1)
