"""The gate: does the teacher's agreement with human coders reach the required value?"""

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from html import escape
from typing import Any

from edgedistill.agreement import (
    Agreement,
    CertaintyMetrics,
    Estimate,
    agreement,
    agreement_html,
    agreement_table,
    certainty_metrics,
)
from edgedistill.agreement.alt_test import AltTest, alt_test_by_id
from edgedistill.agreement.bootstrap import bootstrap_groups
from edgedistill.agreement.sample_size import rows_for_lower_limit
from edgedistill.data.twins import same_row
from edgedistill.data.types import CodedResponse, SetAside, TeacherLabel, labels_in
from edgedistill.displays import plain_text
from edgedistill.project.teacher import AnyTeacher
from edgedistill.teacher.labelling import Labelling
from edgedistill.teacher.spending import Usage
from edgedistill_serve.task.task import Task, join_labels


@dataclass(frozen=True, slots=True, repr=False)
class GateVerdict:
    """A teacher's agreement with human codes, and whether it passes the gate; its repr is a table.

    A row that the teacher did not code counts as coded wrongly: otherwise a teacher could pass with the few rows that
    it codes well. In an ordinal task it counts as coded with the label that is farthest from the human code, in a
    multilabel task with all labels wrong, otherwise with the most frequent other label.

    Copies of a row show nothing new, because a teacher codes them alike: they count once among the rows that are
    required, and without groups they are resampled together.

    Attributes:
        teacher: Its name.
        metric: ``kappa``, ``accuracy`` or ``macro_f1``.
        at_least: The value that the lower end of the metric's 95 % interval must reach.
        least_rows: With fewer different human-coded rows no teacher passes.
        rows: Number of human-coded rows.
        different_rows: Number of these that are not the same as an earlier one.
        human_labels: Number of different human codes; with a single one no teacher passes.
        set_aside: Rows that the teacher did not code, with reasons.
        agreement: Agreement on the rows that it coded, with 95 % intervals; None if there are none.
        agreement_of_all: Agreement on all rows, those without a code counted as coded wrongly; it decides. None if it
            coded none.
        usage: The usage of its requests.
        alt_test: The alternative annotator test against single coders, which decides nothing; None without three coders
            that can be tested.
        alt_test_note: Why there is no such test although three coders are named; otherwise empty.
        certainty: How well each source of certainty fits how often the teacher is right, on the rows that it coded:
            ``votes`` (the consistency), ``logprobs`` and ``confidence``, where there are any.
        votes_without_confidence: Votes that stated no confidence that can be read; None if none was requested.
    """

    teacher: str
    metric: str
    at_least: float
    least_rows: int
    rows: int
    different_rows: int
    human_labels: int
    set_aside: tuple[SetAside, ...]
    agreement: Agreement | None
    agreement_of_all: Agreement | None
    usage: Usage
    alt_test: AltTest | None = None
    alt_test_note: str = ""
    certainty: Mapping[str, CertaintyMetrics] = field(default_factory=dict)
    votes_without_confidence: int | None = None

    @property
    def coded(self) -> int:
        """Number of rows that the teacher coded."""
        return self.agreement.rows if self.agreement else 0

    @property
    def passed(self) -> bool:
        """Whether the rows are enough and the lower end of the metric's interval on all of them is high enough."""
        estimate: Estimate | None = getattr(self.agreement_of_all, self.metric, None)
        enough = self.different_rows >= self.least_rows and self.human_labels > 1
        return enough and estimate is not None and estimate.low >= self.at_least

    def as_dict(self) -> dict[str, Any]:
        """Return the teacher's entry in `gate.json`, without its cost."""
        return {
            "teacher": self.teacher,
            "metric": self.metric,
            "at_least": self.at_least,
            "least_rows": self.least_rows,
            "different_rows": self.different_rows,
            "human_labels": self.human_labels,
            **_comparison(self.rows, self.set_aside, self.agreement),
            "agreement_of_all": self.agreement_of_all.as_dict() if self.agreement_of_all else None,
            "passed": self.passed,
            "alt_test": self.alt_test.as_dict() if self.alt_test else None,
            "alt_test_note": self.alt_test_note,
            "certainty": {source: asdict(found) for source, found in self.certainty.items()},
            "votes_without_confidence": self.votes_without_confidence,
        }

    def __repr__(self) -> str:
        table = plain_text(agreement_table({self.teacher: self.agreement})) if self.agreement else ""
        return "\n".join((f"{table}{self._verdict}", *self._details))

    def _repr_html_(self) -> str:
        table = agreement_html({self.teacher: self.agreement}) if self.agreement else ""
        return table + "".join(f"<p>{escape(each)}</p>" for each in (self._verdict, *self._details))

    @property
    def _details(self) -> tuple[str, ...]:
        tested = (self.alt_test.verdict, *self.alt_test.notes) if self.alt_test else (self.alt_test_note,)
        return (*filter(None, tested), *describe_certainty(self.as_dict()))

    @property
    def _verdict(self) -> str:
        verdict = self.as_dict()
        outcome = "passed" if self.passed else f"refused: {refusal(verdict)}"
        aside = f", the others ({_reasons(verdict)}) as wrong: {figure_of_all(verdict)}" if self.set_aside else ""
        return f"gate: {requirement(verdict)}: {outcome}; {self.coded} of {self.rows} rows coded{aside}"


def requirement(verdict: Mapping[str, Any]) -> str:
    """Return what a teacher's entry in `gate.json` requires."""
    rows = f", at least {verdict['least_rows']} rows" if verdict.get("least_rows") else ""
    return f"{verdict['metric']} at least {verdict['at_least']:g} (lower end of the 95 % interval){rows}"


def figure_of_all(verdict: Mapping[str, Any]) -> str:
    """Return a teacher's metric on all rows, those without a code counted as wrong: ``kappa 0.70 [0.51, 0.85]``."""
    return f"{verdict['metric']} {_figure(verdict, 'agreement_of_all')}"


def refusal(verdict: Mapping[str, Any], whose: str = "the teacher's") -> str:
    """Return why a teacher was refused.

    Args:
        verdict: Its entry in `gate.json`.
        whose: The subject of the sentence.
    """
    different = verdict.get("different_rows", verdict["rows"])
    if different < verdict.get("least_rows", 0):
        rows = f"{verdict['rows']}" if different == verdict["rows"] else f"{different} different"
        return (
            f"{whose} agreement is known on {rows} validation row{'s' * (different != 1)} only; "
            f"gate.least_rows requires {verdict['least_rows']}"
        )
    if verdict.get("human_labels", 2) < 2 and verdict["coded"]:
        return (
            f"{whose} agreement is unknown for all labels but one: "
            f"all {verdict['rows']} validation rows have the same human code"
        )
    key = "agreement_of_all" if "agreement_of_all" in verdict else "agreement"
    found = _figure(verdict, key)
    if found == _UNDEFINED:
        coded = f"{verdict['coded']} of {verdict['rows']} validation rows that it coded"
        why = f" ({_reasons(verdict)})" if verdict["set_aside"] else ""
        return f"{whose} {verdict['metric']} is undefined on the {coded}{why}"
    required = f"the lower end of the interval must be at least {verdict['at_least']:g}"
    return f"{whose} {verdict['metric']} is {found}{_aside(verdict)}; {required}"


def describe_rows_needed(verdict: Mapping[str, Any]) -> str:
    """Return how many validation rows would let a refused teacher pass at its present figure; empty if none would.

    Args:
        verdict: Its entry in `gate.json`.
    """
    given = (verdict.get("agreement_of_all") or verdict["agreement"] or {}).get(verdict["metric"])
    found = Estimate(**given) if given else None
    needed = rows_for_lower_limit(found, verdict["rows"], verdict["at_least"])
    if found is None or needed is None or needed <= verdict["rows"]:
        return ""
    return (
        f"{verdict['rows']} validation rows leave [{found.low:.2f}, {found.high:.2f}]; at this {verdict['metric']} "
        f"about {needed:,} would reach {verdict['at_least']:g} (intervals narrow with the square root of the rows)."
    )


_UNDEFINED = "undefined"


def _figure(verdict: Mapping[str, Any], key: str) -> str:
    estimate = (verdict[key] or {}).get(verdict["metric"])
    return _ends(estimate) if estimate else _UNDEFINED


def _aside(verdict: Mapping[str, Any]) -> str:
    left = verdict["rows"] - verdict["coded"]
    return f", counting {left} of {verdict['rows']} rows as coded wrongly ({_reasons(verdict)})" if left else ""


def _reasons(verdict: Mapping[str, Any]) -> str:
    reasons = Counter(row["reason"] for row in verdict["set_aside"]).most_common()
    return ", ".join(f"{number}: {reason}" for reason, number in reasons)


def check_gate(
    section: AnyTeacher,
    labelling: Labelling,
    rows: Iterable[CodedResponse],
    task: Task,
    *,
    coders: Sequence[str] = (),
    epsilon: float = 0.15,
) -> GateVerdict:
    """Compare a teacher's labels with the human codes of the same rows.

    Args:
        section: The teacher's settings.
        labelling: Its labels of the rows.
        rows: Human-coded validation rows; never test rows.
        task: The task.
        coders: Names of the coders whose codes of the rows are compared with the teacher's labels.
        epsilon: The advantage granted to the teacher; see `edgedistill.agreement.alt_test`.
    """
    coded, gate = list(rows), section.gate
    measured = _measured(labelling, coded, task)
    codings = {name: {row.response.id: row.codes[name] for row in coded if name in row.codes} for name in coders}
    groups = bootstrap_groups([row.response.group for row in coded])
    tested, note = alt_test_by_id(
        {label.id: label.label for label in labelling.labels},
        codings,
        task,
        epsilon=epsilon,
        groups=dict(zip([row.response.id for row in coded], groups, strict=True)) if groups else None,
    )
    of_all = _measured(labelling, coded, task, uncoded_are_wrong=True) if measured else None
    return GateVerdict(
        section.called,
        gate.metric,
        gate.at_least,
        gate.least_rows,
        len(coded),
        len({_key(row) for row in coded}),
        len({row.label for row in coded}),
        labelling.set_aside,
        measured,
        of_all,
        labelling.usage,
        tested,
        note,
        source_certainty(labelling, coded),
        count_votes_without_confidence(labelling) if section.confidence else None,
    )


def source_certainty(labelling: Labelling, rows: Sequence[CodedResponse]) -> dict[str, CertaintyMetrics]:
    """Compare the probability of being right, by each source, with how often a teacher's labels are the human codes.

    Args:
        labelling: The labels.
        rows: Human-coded rows; never test rows. Those without a label are left out.

    Returns:
        By source: ``votes`` if a row has several, ``logprobs`` and ``confidence``; a label for which a source has no
        value is left out. For a multilabel task a label is right if the whole set is.
    """
    labels = {label.id: label for label in labelling.labels}
    coded = [(row, labels[row.response.id]) for row in rows if row.response.id in labels]
    sources: dict[str, Callable[[TeacherLabel], float | None]] = {
        "votes": lambda label: label.consistency if len(label.votes) > 1 else None,
        "logprobs": lambda label: label.probability,
        "confidence": lambda label: label.confidence,
    }
    found = {}
    for source, value_of in sources.items():
        known = [(row, label, value) for row, label in coded if (value := value_of(label)) is not None]
        if known:
            of_rows = [row for row, _, _ in known]
            found[source] = certainty_metrics(
                [value for _, _, value in known],
                [label.label == row.label for row, label, _ in known],
                groups=bootstrap_groups([row.response.group for row in of_rows]) or _copies(of_rows),
            )
    return found


def count_votes_without_confidence(labelling: Labelling) -> int:
    """Return the number of votes that stated no confidence that can be read."""
    return sum(len(label.votes) - sum(each is not None for each in label.confidences) for label in labelling.labels)


def describe_certainty(verdict: Mapping[str, Any]) -> Iterator[str]:
    """Yield a sentence on each source of certainty of a teacher's entry in `gate.json`."""
    for source, found in (verdict.get("certainty") or {}).items():
        auc = "undefined" if found["auc"] is None else _ends(found["auc"])
        yield (
            f"certainty by {source}: mean {found['mean']:.2f}, right {_ends(found['right'])}, calibration error "
            f"{_ends(found['ece'])}, AUROC of being right {auc} on {found['rows']} rows"
        )
    if missing := verdict.get("votes_without_confidence"):
        yield f"{missing} votes state no whole number from 0 to 100 as confidence; their labels count"


def _ends(estimate: Mapping[str, float]) -> str:
    return "{value:.2f} [{low:.2f}, {high:.2f}]".format(**estimate)


def comparison(labelling: Labelling, rows: Iterable[CodedResponse], task: Task) -> dict[str, Any]:
    """Return the agreement of labels with human codes, and the rows without a label, as JSON data."""
    coded = list(rows)
    return _comparison(len(coded), labelling.set_aside, _measured(labelling, coded, task))


def _measured(
    labelling: Labelling, rows: list[CodedResponse], task: Task, *, uncoded_are_wrong: bool = False
) -> Agreement | None:
    labels = {label.id: label.label for label in labelling.labels}
    if uncoded_are_wrong:
        frequent = [label for label, _ in Counter(row.label for row in rows).most_common()]
        wrong = {row.response.id: wrong_label(row.label, frequent, task) for row in rows}
        labels = wrong | labels
    coded = [row for row in rows if row.response.id in labels]
    if not coded:
        return None
    return agreement(
        [row.label for row in coded],
        [labels[row.response.id] for row in coded],
        task,
        groups=bootstrap_groups([row.response.group for row in coded]) or _copies(coded),
    )


def _copies(rows: Sequence[CodedResponse]) -> list[str] | None:
    """Return the key of each row, the same for copies; None if all rows are different."""
    keys = [str(_key(row)) for row in rows]
    return keys if len(set(keys)) < len(keys) else None


def _key(row: CodedResponse) -> Hashable:
    return same_row(row.response.inputs)


def wrong_label(code: str, frequent: Sequence[str], task: Task) -> str:
    """Return what an uncoded row counts as.

    Args:
        code: Its human code.
        frequent: The human codes, the most frequent first.
        task: The task.
    """
    if task.kind == "multilabel":
        return join_labels([name for name in task.names if name not in labels_in(code, task)], task)
    if task.kind == "ordinal":
        place = task.names.index(code)
        return task.names[0] if place > len(task.names) - 1 - place else task.names[-1]
    return next(label for label in (*frequent, *task.names) if label != code)


def _comparison(rows: int, set_aside: tuple[SetAside, ...], measured: Agreement | None) -> dict[str, Any]:
    return {
        "rows": rows,
        "coded": measured.rows if measured else 0,
        "set_aside": [{"id": row.id, "reason": row.reason, "detail": row.detail} for row in set_aside],
        "agreement": measured.as_dict() if measured else None,
    }
