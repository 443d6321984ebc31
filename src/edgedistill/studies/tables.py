"""Tables: runs.csv in tidy form, and the summary tables."""

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
    """A table to read.

    Attributes:
        title: The title.
        header: Column names.
        rows: Cells by row.
        notes: Notes below the table, one sentence each.
        narrow: The columns shown in a terminal; empty: all.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    narrow: tuple[str, ...] = ()

    def markdown(self) -> str:
        """Return the table as GitHub Markdown."""
        lines = [f"## {self.title}", "", _row(self.header), _row(["---"] * len(self.header)), *map(_row, self.rows), ""]
        return "\n".join([*lines, *(f"{note}\n" for note in self.notes)])

    def table(self) -> Table:
        """Return the table for a terminal."""
        table = Table(title=Text(self.title), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
        shown = [place for place, name in enumerate(self.header) if name in (self.narrow or self.header)]
        for place in shown:
            table.add_column(self.header[place], justify="right" if place else "left", overflow="fold")
        for row in self.rows:
            table.add_row(*(Text(_stacked(row[place]) if place else row[place]) for place in shown))
        return table


def _stacked(cell: str) -> str:
    """A value with its interval below it, so that the column is narrow and the interval is not wrapped."""
    return cell.replace(" [", "\n[").replace(", ", ",\u00a0")


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def run_rows(
    kind: Kind, protocol: Protocol, lines: Iterable[ResultRow], not_run: Iterable[RunPlan]
) -> Iterator[dict[str, object]]:
    """Yield the rows of runs.csv: one student on one set of test rows each, then the plans not run, with the reason."""
    for line in lines:
        yield _plan_cells(kind, protocol, line.plan) | _training_cells(line) | _metric_cells(line)
    for plan in not_run:
        yield _plan_cells(kind, protocol, plan) | {"not_run": plan.missing}


def _plan_cells(kind: Kind, protocol: Protocol, plan: RunPlan) -> dict[str, object]:
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


def _training_cells(line: ResultRow) -> dict[str, object]:
    student = line.student
    total = sum(student.rows.values())
    return {
        "block": student.block,
        **{f"{source}_rows": student.rows.get(source, 0) for source in ("human", "teacher", "synthetic")},
        "synthetic_share": f"{student.rows.get('synthetic', 0) / total:.4f}" if total else "",
        "learning_rate": student.learning_rate,
        "batch_size": student.batch_size,
        "epochs": student.epochs,
        "best_epoch": student.best_epoch,
        "validation_macro_f1": student.validation_macro_f1,
        "seconds": student.seconds,
    }


def _metric_cells(line: ResultRow) -> dict[str, object]:
    found, averages = line.metrics.agreement, line.metrics.averages
    estimates = (found.accuracy, found.macro_f1, found.kappa, averages.f1, averages.precision, averages.recall)
    cells: dict[str, object] = {"test": line.predictions.test, "test_rows": found.rows}
    for name, estimate in zip(_ESTIMATES, (*estimates, line.metrics.auc), strict=True):
        if estimate:
            cells |= {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
    return cells


def summary_tables(title: str, found: Sequence[ConditionSummary]) -> list[StudyTable]:
    """Return one table of conditions for each task and each of its sets of test rows."""
    panels: dict[tuple[str, str], list[ConditionSummary]] = {}
    for each in found:
        panels.setdefault((each.first.plan.task, each.first.predictions.test), []).append(each)
    return [_summary_table(f"{title}: {task}, {test} rows", each) for (task, test), each in panels.items()]


def _summary_table(title: str, found: Sequence[ConditionSummary]) -> StudyTable:
    sources = [source for source in SOURCES if any(each.first.student.rows.get(source) for each in found)]
    header = ("condition", *sources, "seeds", "macro-F1", "sd", "kappa", "AUC", "difference", "from")
    rows = tuple(_condition_cells(each, sources) for each in found)
    return StudyTable(title, header, rows, narrow=("condition", "macro-F1", "kappa", "difference"))


def _condition_cells(found: ConditionSummary, sources: Sequence[Source]) -> tuple[str, ...]:
    line = found.first
    plan, block = line.plan, line.student.block
    return (
        f"{plan.condition}, block {block}" if block else plan.condition,
        *(str(line.student.rows.get(source, "")) for source in sources),
        "" if plan.learner == "teacher" else str(len(found.lines)),
        format_estimate(found.macro_f1),
        format_number(found.spread) if found.spread is not None else "",
        format_estimate(found.kappa),
        format_number(found.auc) if found.auc is not None else "",
        _format_difference(found.difference) if found.difference else "",
        ("block 0" if block else plan.reference) if found.difference else "",
    )


def _format_difference(difference: Difference) -> str:
    coverage = f" on {difference.coverage}" if difference.coverage else ""
    return f"{format_estimate(difference.macro_f1, signed=True)}{coverage}"


def format_estimate(estimate: Estimate | None, *, signed: bool = False) -> str:
    """Return an estimate with its interval: ``.612 [.571, .650]``; a dash if undefined."""
    if estimate is None:
        return "-"
    interval = f"[{format_number(estimate.low)}, {format_number(estimate.high)}]"
    return f"{format_number(estimate.value, signed=signed)} {interval}"


def format_number(value: float | None, *, signed: bool = False) -> str:
    """Return a number with three decimals and without its leading zero; a dash if undefined."""
    return "-" if value is None else f"{value:{'+' if signed else ''}.3f}".replace("0.", ".", 1)
