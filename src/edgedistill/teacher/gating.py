"""The gate: does the teacher's agreement with human coders reach the required value?"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from typing import Any

from edgedistill.agreement import Agreement, Estimate, agreement, agreement_html, agreement_table
from edgedistill.agreement.bootstrap import bootstrap_groups
from edgedistill.data.types import CodedResponse, SetAside
from edgedistill.displays import plain_text
from edgedistill.project.schema import TeacherSection
from edgedistill.teacher.labelling import Labelling
from edgedistill.teacher.spending import Usage
from edgedistill_serve.task.task import Task


@dataclass(frozen=True, slots=True, repr=False)
class GateVerdict:
    """A teacher's agreement with human codes, and whether it passes the gate; its repr is a table.

    Attributes:
        teacher: Its name.
        metric: ``kappa``, ``accuracy`` or ``macro_f1``.
        at_least: The value that the lower end of the metric's 95 % interval must reach.
        rows: Number of human-coded rows.
        set_aside: Rows that the teacher did not code, with reasons.
        agreement: Agreement on the other rows, with 95 % intervals; None if there are none.
        usage: The usage of its requests.
    """

    teacher: str
    metric: str
    at_least: float
    rows: int
    set_aside: tuple[SetAside, ...]
    agreement: Agreement | None
    usage: Usage

    @property
    def coded(self) -> int:
        """Number of rows that the teacher coded."""
        return self.agreement.rows if self.agreement else 0

    @property
    def passed(self) -> bool:
        """Whether the lower end of the metric's interval reaches `at_least`; False where the metric is undefined."""
        estimate: Estimate | None = getattr(self.agreement, self.metric, None)
        return estimate is not None and estimate.low >= self.at_least

    def as_dict(self) -> dict[str, Any]:
        """Return the teacher's entry in `gate.json`, without its cost."""
        return {
            "teacher": self.teacher,
            "metric": self.metric,
            "at_least": self.at_least,
            **_comparison(self.rows, self.set_aside, self.agreement),
            "passed": self.passed,
        }

    def __repr__(self) -> str:
        table = plain_text(agreement_table({self.teacher: self.agreement})) if self.agreement else ""
        return f"{table}{self._verdict}"

    def _repr_html_(self) -> str:
        table = agreement_html({self.teacher: self.agreement}) if self.agreement else ""
        return f"{table}<p>{escape(self._verdict)}</p>"

    @property
    def _verdict(self) -> str:
        outcome = "passed" if self.passed else "refused"
        reasons = Counter(row.reason for row in self.set_aside).most_common()
        aside = f"; set aside: {', '.join(f'{n} {reason}' for reason, n in reasons)}" if reasons else ""
        return (
            f"gate: {self.metric} at least {self.at_least:g} (lower end of the 95 % interval): {outcome}; "
            f"{self.coded} of {self.rows} rows coded{aside}"
        )


def check_gate(section: TeacherSection, labelling: Labelling, rows: Iterable[CodedResponse], task: Task) -> GateVerdict:
    """Compare a teacher's labels with the human codes of the same rows.

    Args:
        section: The teacher's settings.
        labelling: Its labels of the rows.
        rows: Human-coded validation rows; never test rows.
        task: The task.
    """
    coded = list(rows)
    return GateVerdict(
        section.called,
        section.gate.metric,
        section.gate.at_least,
        len(coded),
        labelling.set_aside,
        _measured(labelling, coded, task),
        labelling.usage,
    )


def comparison(labelling: Labelling, rows: Iterable[CodedResponse], task: Task) -> dict[str, Any]:
    """Return the agreement of labels with human codes, and the rows without a label, as JSON data."""
    coded = list(rows)
    return _comparison(len(coded), labelling.set_aside, _measured(labelling, coded, task))


def _measured(labelling: Labelling, rows: list[CodedResponse], task: Task) -> Agreement | None:
    by_teacher = {label.id: label.label for label in labelling.labels}
    coded = [row for row in rows if row.response.id in by_teacher]
    if not coded:
        return None
    return agreement(
        [row.label for row in coded],
        [by_teacher[row.response.id] for row in coded],
        task,
        groups=bootstrap_groups([row.response.group for row in coded]),
    )


def _comparison(rows: int, set_aside: tuple[SetAside, ...], measured: Agreement | None) -> dict[str, Any]:
    return {
        "rows": rows,
        "coded": measured.rows if measured else 0,
        "set_aside": [{"id": row.id, "reason": row.reason, "detail": row.detail} for row in set_aside],
        "agreement": measured.as_dict() if measured else None,
    }
