"""Two bundles on the same coded rows: is the new one better than the old one, or worse, or is that undecided?

compare_bundles    scores the rows of a table with both bundles, and compares their labels with the human codes
compare_on_rows    the same for rows that are read already, such as a project's locked test rows
BundleComparison   the result
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from edgedistill.agreement import (
    Agreement,
    Comparison,
    Estimate,
    agreement_html,
    agreement_table,
    compare,
)
from edgedistill.agreement import agreement as compare_codes
from edgedistill.agreement.bootstrap import bootstrap_groups
from edgedistill.data.types import CodedResponse, canonical_code
from edgedistill.displays import plain_text
from edgedistill.errors import ArgumentError, DataError
from edgedistill.evaluation.bundle_rows import BundleRows, LearnedRows
from edgedistill.evaluation.coded_file import SMALLEST, AcceptedErrors, EvaluatedBundle, accepted_errors
from edgedistill.evaluation.coded_rows import CodedColumns, CodedTable, read_coded_table, require_rows
from edgedistill.frames import Rows, frame_of, texts_of_rows
from edgedistill_serve import Bundle, Scorer
from edgedistill_serve.scoring.score import Score
from edgedistill_serve.task.task import INPUTS, Label, Task

if TYPE_CHECKING:  # pandas is imported only where a DataFrame is used
    from pandas import DataFrame

COMPARISON_VERSION = 1
"""`schema_version` of a `comparison.json`."""
ComparedVerdict: TypeAlias = Literal["better", "worse", "undecided", "same"]
RULE = (
    "The new bundle is better if the whole 95 % interval of the paired difference in kappa is above 0, worse if all of "
    "it is below 0, and otherwise it is undecided. No other figure decides."
)
OLD, NEW = "old", "new"
_DECISIONS = Task("nominal", (Label("yes"), Label("no")), ("response",))
"""A share of rows is the accuracy of a coding of them against one that is always ``yes``."""


@dataclass(frozen=True, slots=True)
class LearnedCounts:
    """Rows of the file that a bundle learned from.

    Attributes:
        known: Whether it is known which rows it learned from; if not, there are no other figures.
        trained: Rows that are left out because it was trained on them.
        selected: Rows that are left out because they selected its epoch, calibration, thresholds or decision rule.
        same: Compared rows with the text of such a row, by another id.
    """

    known: bool
    trained: int = 0
    selected: int = 0
    same: int = 0


@dataclass(frozen=True, slots=True)
class ChangedLabel:
    """Rows whose label changed from one to another.

    Attributes:
        old: The label of the old bundle.
        new: That of the new one.
        rows: Number of rows.
        old_right: On how many of them the old bundle has the human code.
        new_right: On how many the new one has.
    """

    old: str
    new: str
    rows: int
    old_right: int
    new_right: int


@dataclass(frozen=True, slots=True)
class ChangedRow:
    """A row whose label changed: its id, its human code, and both labels."""

    id: str
    human: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class ComparedDecisions:
    """What the bundles' decision rules do with the rows; each difference is the new bundle minus the old one.

    Attributes:
        accepted: By bundle, the number of accepted rows.
        share_accepted: Difference of the share of accepted rows.
        errors: By bundle, how many of the accepted rows are wrong.
        accepted_wrong: Difference of the share of all rows that are accepted and wrong; below 0, the new bundle lets
            fewer errors through.
    """

    accepted: Mapping[str, int]
    share_accepted: Estimate | None
    errors: Mapping[str, AcceptedErrors]
    accepted_wrong: Estimate | None


@dataclass(frozen=True, slots=True)
class ComparedPart:
    """The rows with one value of a column.

    Attributes:
        value: The value.
        rows: Number of rows.
        suppressed: Whether they are too few, or of a single cluster; there are no figures then.
        only_old_right: Rows on which only the old bundle has the human code.
        only_new_right: Rows on which only the new one has.
        accuracy: Difference of the accuracy, new minus old.
        kappa: Difference of kappa.
        verdict: By `RULE`, for these rows alone.
    """

    value: str
    rows: int
    suppressed: bool
    only_old_right: int
    only_new_right: int
    accuracy: Estimate | None
    kappa: Estimate | None
    verdict: ComparedVerdict


@dataclass(frozen=True, slots=True)
class ComparedParts:
    """The parts of a column: questions, or groups.

    Attributes:
        column: Its name.
        smallest: Values of fewer rows have no figures.
        rows_without: Rows without a value.
        parts: Sorted by value.
        by_chance: How many parts would be called better or worse by chance on average if none had changed: 5 % of
            those with figures.
    """

    column: str
    smallest: int
    rows_without: int
    parts: tuple[ComparedPart, ...]
    by_chance: float


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class BundleComparison:
    """Two bundles on the same coded rows. Its repr is a table of both, and the verdict.

    Attributes:
        schema_version: `COMPARISON_VERSION`.
        old: The bundle in use.
        new: The one that may replace it.
        file: Name of the file.
        sha256: Of the file, or of the cells of a DataFrame; empty for a project's test rows.
        kind: ``nominal``, ``ordinal`` or ``multilabel``.
        labels: In codebook order.
        read: Rows of the file; ``read == rows + sum(set_aside.values())``.
        rows: Rows that are compared.
        set_aside: Number of the other rows, by reason.
        learned: By bundle, the rows that it learned from.
        verdict: ``better``, ``worse`` or ``undecided``, by the rule; ``same``: both are the same bundle.
        rule: `RULE`.
        agreement: By bundle, the agreement with the human codes.
        paired: On the same resamples: differences (new minus old), counts of rows that only one codes correctly,
            McNemar's test.
        decisions: The decision rules.
        changes: Changed labels, the most frequent first.
        changed_rows: Every row whose label changed.
        questions: Differences for each question; None if the bundles read no question.
        groups: Differences for each value of the named columns.
        notes: What a reader must know.
    """

    schema_version: int
    old: EvaluatedBundle
    new: EvaluatedBundle
    file: str
    sha256: str
    kind: str
    labels: tuple[str, ...]
    read: int
    rows: int
    set_aside: Mapping[str, int]
    learned: Mapping[str, LearnedCounts]
    verdict: ComparedVerdict
    rule: str
    agreement: Mapping[str, Agreement]
    paired: Comparison
    decisions: ComparedDecisions
    changes: tuple[ChangedLabel, ...]
    changed_rows: tuple[ChangedRow, ...]
    questions: ComparedParts | None
    groups: tuple[ComparedParts, ...]
    notes: tuple[str, ...]

    @property
    def kappa(self) -> Estimate | None:
        """The difference in kappa, which decides."""
        return self.paired.differences["kappa"]

    def __repr__(self) -> str:
        return f"{plain_text(agreement_table(self.agreement))}\n{describe_verdict(self)}"

    def _repr_html_(self) -> str:
        return f"{agreement_html(self.agreement)}<p>{describe_verdict(self)}</p>"


def compare_bundles(
    old: Bundle | Path | str,
    new: Bundle | Path | str,
    coded: "DataFrame | Path | str",
    *,
    label_column: str = "label",
    id_column: str = "id",
    groups: Sequence[str] = (),
    clusters: str | None = None,
    smallest: int = SMALLEST,
    old_training: "Rows | BundleRows | None" = None,
    new_training: "Rows | BundleRows | None" = None,
) -> BundleComparison:
    """Compare two bundles on the same coded rows, the new one minus the old one, with paired 95 % intervals.

    Rows that either bundle learned from are left out, as far as they are known.

    Args:
        old: The bundle in use, or its folder.
        new: The one that may replace it.
        coded: A table file, or a DataFrame, with a column for each input of the bundles and one of human codes.
        label_column: The column of human codes; rows without a code are set aside.
        id_column: The column of ids.
        groups: Columns for whose values the differences are reported, such as a school.
        clusters: A column of learners, whose responses are related: whole clusters are resampled.
        smallest: Questions and groups of fewer rows have no figures.
        old_training: The rows that trained the old bundle and those that selected it; None if they are not known.
        new_training: The same for the new one.

    Returns:
        The comparison.

    Raises:
        ArgumentError: An argument is not valid, or both are the same bundle.
        DataError: The bundles have other labels, or the table cannot be used; the message names its rows.
        BundleError: A bundle cannot be loaded.

    Example:
        compare_bundles("served", "runs/praise/bundle", "coded.csv", groups=["school"]).verdict
    """
    if smallest < 1:
        raise ArgumentError(f"smallest must be at least 1, not {smallest}")
    one, other = (each if isinstance(each, Bundle) else Bundle.load(each) for each in (old, new))
    if is_same_bundle(one, other):
        raise ArgumentError(
            f"both are the same bundle, version {other.manifest.version}: there is no difference to measure",
            hint="Keep a copy of the bundle in use before `edgedistill run` replaces the one in the run folder.",
        )
    task = joint_task(one.task, other.task)
    columns = CodedColumns(label_column, id_column, tuple(dict.fromkeys(groups)), (), clusters)
    table = read_coded_table(coded, columns, task, f"{one.manifest.name} or {other.manifest.name}")
    learned = {
        OLD: _bundle_rows(old_training, one.task),
        NEW: _bundle_rows(new_training, other.task),
    }
    return compare_on_rows(Scorer(one), Scorer(other), table, learned, columns=columns.groups, smallest=smallest)


def is_same_bundle(old: Bundle, new: Bundle) -> bool:
    """Whether two bundles give every row the same score: all but name, figures and provenance is the same."""
    return old.manifest.version == new.manifest.version and old.manifest.files == new.manifest.files


def joint_task(old: Task, new: Task) -> Task:
    """Return the task on which two bundles can be compared: the labels of both, and every input that either reads.

    Raises:
        DataError: They have different kinds or labels.
    """
    hint = "Bundles can be compared if they have one codebook; measure each with `edgedistill evaluate BUNDLE --on`."
    if old.kind != new.kind:
        raise DataError(f"the old bundle is for a {old.kind} task and the new one for a {new.kind} task", hint=hint)
    removed, added = (
        [name for name in one.names if name not in other.names] for one, other in ((old, new), (new, old))
    )
    if removed or added:
        parts = [
            f"only the {which} bundle has {', '.join(map(repr, names))}"
            for which, names in ((OLD, removed), (NEW, added))
            if names
        ]
        raise DataError(f"the bundles have different labels: {'; '.join(parts)}", hint=hint)
    if new.kind == "ordinal" and old.names != new.names:
        raise DataError(
            f"the labels of the ordinal task have another order: {', '.join(old.names)} in the old bundle, "
            f"{', '.join(new.names)} in the new one",
            hint=hint,
        )
    inputs = tuple(name for name in INPUTS if name in (*old.inputs, *new.inputs))
    return Task(new.kind, new.labels, inputs, new.redact if new.redact == old.redact else None)


def _bundle_rows(given: "Rows | BundleRows | None", task: Task) -> BundleRows | None:
    if given is None or isinstance(given, BundleRows):
        return given
    frame = frame_of(given, task)
    ids = [str(each).strip() for each in frame["id"]] if "id" in frame.columns else [""] * len(frame)
    rows = zip(ids, texts_of_rows(frame, task), strict=True)
    return BundleRows.of("", tuple(task.inputs), rows, ())


@dataclass(frozen=True, slots=True)
class _Compared:
    """A row that both bundles scored."""

    row: CodedResponse
    old: Score
    new: Score
    old_label: str
    new_label: str

    @property
    def human(self) -> str:
        return self.row.label


def compare_on_rows(
    old: Scorer,
    new: Scorer,
    table: CodedTable,
    learned: Mapping[str, BundleRows | None],
    *,
    columns: Sequence[str] = (),
    smallest: int = SMALLEST,
) -> BundleComparison:
    """Compare two bundles on rows that are read already.

    Args:
        old: The bundle in use.
        new: The other one.
        table: The rows, with every input that either bundle reads.
        learned: By ``old`` and ``new``, the rows that the bundle learned from; None if they are not known.
        columns: Columns of subgroups.
        smallest: Parts of fewer rows have no figures.

    Raises:
        DataError: The bundles have other labels, or no row is left.
    """
    task = joint_task(old.bundle.task, new.bundle.task)
    kept, counts = _without_learned(table, learned)
    compared = _scored_by_both(old, new, kept, task)
    aside = {
        "row that a bundle learned from": len(table.rows) - len(kept),
        "row that a bundle cannot score": len(kept) - len(compared),
    }
    set_aside = dict(table.set_aside) | {reason: count for reason, count in aside.items() if count}
    require_rows(len(compared), table.file, table.read, set_aside)
    human, before, after = ([getattr(each, name) for each in compared] for name in ("human", "old_label", "new_label"))
    clusters = bootstrap_groups([each.row.response.group for each in compared])
    paired = compare(human, before, after, task, groups=clusters)
    same = is_same_bundle(old.bundle, new.bundle)
    return BundleComparison(
        schema_version=COMPARISON_VERSION,
        old=_named(old),
        new=_named(new),
        file=table.file,
        sha256=table.sha256,
        kind=task.kind,
        labels=task.names,
        read=table.read,
        rows=len(compared),
        set_aside=set_aside,
        learned=counts,
        verdict="same" if same else decide(paired.differences["kappa"]),
        rule=RULE,
        agreement={
            OLD: compare_codes(human, before, task, groups=clusters),
            NEW: compare_codes(human, after, task, groups=clusters),
        },
        paired=paired,
        decisions=_decisions(compared, task, clusters),
        changes=_changes(compared),
        changed_rows=tuple(
            ChangedRow(each.row.response.id, each.human, each.old_label, each.new_label)
            for each in compared
            if each.old_label != each.new_label
        ),
        questions=_parts(
            "question", [each.row.response.inputs["question"] for each in compared], compared, task, clusters, smallest
        )
        if "question" in task.inputs
        else None,
        groups=tuple(
            _parts(column, [each.row.subgroups[column] for each in compared], compared, task, clusters, smallest)
            for column in columns
        ),
        notes=tuple(_notes(old, new, counts)),
    )


def decide(difference: Estimate | None) -> ComparedVerdict:
    """Apply `RULE` to a difference in kappa; one that is undefined, or not a number, decides nothing."""
    if difference is None:
        return "undecided"
    if difference.low > 0:
        return "better"
    return "worse" if difference.high < 0 else "undecided"


def _named(scorer: Scorer) -> EvaluatedBundle:
    manifest = scorer.bundle.manifest
    return EvaluatedBundle(manifest.name, manifest.version, scorer.precision)


def _without_learned(
    table: CodedTable, learned: Mapping[str, BundleRows | None]
) -> tuple[list[CodedResponse], dict[str, LearnedCounts]]:
    """Return the rows that neither bundle learned from, and what is known of the others."""
    places = {name: _found(table, rows) for name, rows in learned.items() if rows is not None}
    out = {place for found in places.values() for place, use in found.items() if use != "same text"}
    counts = {}
    for name in learned:
        uses = Counter(use for place, use in places.get(name, {}).items() if use != "same text" or place not in out)
        counts[name] = LearnedCounts(name in places, uses["trained"], uses["selected"], uses["same text"])
    return [row for place, row in enumerate(table.rows) if place not in out], counts


def _found(table: CodedTable, rows: BundleRows) -> dict[int, str]:
    """Return by the place of a row what the bundle used it for."""
    with_ids = any(ident for ident, _ in (*rows.trained, *rows.selected))
    looked_up = LearnedRows(rows, by_id=table.has_ids and with_ids)
    uses = (looked_up.find(row.response.id, row.response.inputs) for row in table.rows)
    return {place: use for place, use in enumerate(uses) if use}


def _scored_by_both(old: Scorer, new: Scorer, rows: Sequence[CodedResponse], task: Task) -> list[_Compared]:
    scores = [
        scorer.score_each([{name: row.response.inputs[name] for name in scorer.bundle.task.inputs} for row in rows])
        for scorer in (old, new)
    ]
    return [
        _Compared(row, one, other, canonical_code(one.label, task), canonical_code(other.label, task))
        for row, one, other in zip(rows, *scores, strict=True)
        if isinstance(one, Score) and isinstance(other, Score)
    ]


def _decisions(compared: Sequence[_Compared], task: Task, clusters: Sequence[str] | None) -> ComparedDecisions:
    accepted = {
        OLD: [each.old.decision == "accept" for each in compared],
        NEW: [each.new.decision == "accept" for each in compared],
    }
    labels = {OLD: [each.old_label for each in compared], NEW: [each.new_label for each in compared]}
    human = [each.human for each in compared]
    wrong = {
        name: [yes and code != label for yes, code, label in zip(accepted[name], human, labels[name], strict=True)]
        for name in accepted
    }
    return ComparedDecisions(
        accepted={name: sum(chosen) for name, chosen in accepted.items()},
        share_accepted=_share_difference(accepted[OLD], accepted[NEW], clusters),
        errors={
            name: accepted_errors(human, labels[name], chosen, task, clusters) for name, chosen in accepted.items()
        },
        accepted_wrong=_share_difference(wrong[OLD], wrong[NEW], clusters),
    )


def _share_difference(first: Sequence[bool], second: Sequence[bool], clusters: Sequence[str] | None) -> Estimate | None:
    """Return the share of the second minus that of the first, on the same rows."""
    one, other = (["yes" if each else "no" for each in chosen] for chosen in (first, second))
    figures = {"accuracy": lambda draws: draws.accuracy()}
    found = compare(["yes"] * len(first), one, other, _DECISIONS, groups=clusters, figures=figures)
    return found.differences["accuracy"]


def _changes(compared: Sequence[_Compared]) -> tuple[ChangedLabel, ...]:
    rows = Counter((each.old_label, each.new_label) for each in compared if each.old_label != each.new_label)
    old_right = Counter((each.old_label, each.new_label) for each in compared if each.old_label == each.human)
    new_right = Counter((each.old_label, each.new_label) for each in compared if each.new_label == each.human)
    return tuple(
        ChangedLabel(*pair, count, old_right[pair], new_right[pair])
        for pair, count in sorted(rows.items(), key=lambda each: (-each[1], each[0]))
    )


def _parts(
    column: str,
    values: Sequence[str],
    compared: Sequence[_Compared],
    task: Task,
    clusters: Sequence[str] | None,
    smallest: int,
) -> ComparedParts:
    places: dict[str, list[int]] = {}
    for place, value in enumerate(values):
        if value:
            places.setdefault(value, []).append(place)
    parts = tuple(_part(value, places[value], compared, task, clusters, smallest) for value in sorted(places))
    counted = sum(not part.suppressed for part in parts)
    return ComparedParts(column, smallest, sum(not value for value in values), parts, 0.05 * counted)


def _part(
    value: str,
    places: Sequence[int],
    compared: Sequence[_Compared],
    task: Task,
    clusters: Sequence[str] | None,
    smallest: int,
) -> ComparedPart:
    rows = [compared[place] for place in places]
    of_clusters = [clusters[place] for place in places] if clusters else None
    if len(rows) < smallest or (of_clusters and len(set(of_clusters)) == 1):
        return ComparedPart(value, len(rows), True, 0, 0, None, None, "undecided")
    found = compare(
        [each.human for each in rows],
        [each.old_label for each in rows],
        [each.new_label for each in rows],
        task,
        groups=of_clusters,
    )
    kappa = found.differences["kappa"]
    return ComparedPart(
        value,
        len(rows),
        False,
        found.only_first_right,
        found.only_second_right,
        found.differences["accuracy"],
        kappa,
        decide(kappa),
    )


def _notes(old: Scorer, new: Scorer, counts: Mapping[str, LearnedCounts]) -> Iterator[str]:
    for name, found in counts.items():
        yield from _learned_notes(name, found)
    one, other = old.bundle.task, new.bundle.task
    if one.inputs != other.inputs:
        yield f"The old bundle reads {', '.join(one.inputs)}; the new one reads {', '.join(other.inputs)}."
    definitions = {label.name: label.definition for label in one.labels}
    if changed := [label.name for label in other.labels if label.definition != definitions[label.name]]:
        yield (
            f"The bundles define {', '.join(map(repr, changed))} differently: the comparison is fair only if the human "
            "codes follow the new definition, and the old bundle was not made for it."
        )
    if one.redact != other.redact:
        yield "The bundles redact differently; each reads the texts as it redacts them."
    for name, scorer in ((OLD, old), (NEW, new)):
        yield from (f"{name} bundle: {note}" for note in scorer.notes)


def _learned_notes(name: str, found: LearnedCounts) -> Iterator[str]:
    if not found.known:
        yield (
            f"It is not known which rows the {name} bundle learned from. If some of these are among them, it looks "
            "better than it is."
        )
    for number, why in (
        (found.trained, f"trained the {name} bundle"),
        (found.selected, f"selected the {name} bundle's epoch, calibration, thresholds or decision rule"),
    ):
        if number:
            yield f"warning: {_rows(number)} {why}, and {'is' if number == 1 else 'are'} left out."
    if found.same:
        yield (
            f"{_rows(found.same)} with the text of a row that the {name} bundle learned from "
            f"{'counts' if found.same == 1 else 'count'}: the id is another."
        )


def _rows(number: int) -> str:
    return f"{number} row{'s' * (number != 1)}"


def describe_verdict(found: BundleComparison) -> str:
    """Return the verdict in one sentence, with the difference that decides."""
    if found.verdict == "same":
        return f"Both are the same bundle, version {found.new.version}."
    figure = "undefined" if found.kappa is None else _signed(found.kappa)
    name = found.agreement[NEW].kappa_name
    said = {
        "better": f"The new bundle is better: the difference in {name} is {figure}",
        "worse": f"The new bundle is worse: the difference in {name} is {figure}",
        "undecided": f"It is undecided which bundle is better: the difference in {name} is {figure}",
    }[found.verdict]
    if found.verdict == "undecided" and found.kappa is not None:
        said += (
            f"; these rows exclude a loss of more than {max(-found.kappa.low, 0):.3f} and a gain of more than "
            f"{max(found.kappa.high, 0):.3f}"
        )
    return f"{said}."


def describe_comparison(found: BundleComparison) -> Iterator[str]:
    """Yield what a person should read of a comparison besides its tables, a line each; the verdict comes first."""
    yield describe_verdict(found)
    aside = ", ".join(f"{count} {reason}" for reason, count in found.set_aside.items())
    more = f" + {sum(found.set_aside.values())} set aside ({aside})" if aside else ""
    yield f"{found.file}: {found.read} rows read = {found.rows} compared{more}"
    for name, title in (("accuracy", "accuracy"), ("macro_f1", "macro-F1"), ("kappa", "kappa")):
        yield f"difference in {title}, new minus old: {_shown(found.paired.differences[name])}"
    paired = found.paired
    test = f"; McNemar's mid-p {paired.mcnemar.mid_p:.3f}" if paired.mcnemar else ""
    yield (
        f"right in both {paired.both_right}, only in the old bundle {paired.only_first_right}, only in the new one "
        f"{paired.only_second_right}, in neither {paired.neither_right}{test}"
    )
    decisions = found.decisions
    yield (
        f"accepted without a person: {decisions.accepted[OLD]} by the old bundle, {decisions.accepted[NEW]} by the new "
        f"one; difference of the share {_shown(decisions.share_accepted)}"
    )
    yield (
        f"accepted and wrong: {decisions.errors[OLD].wrong} by the old bundle, {decisions.errors[NEW].wrong} by the "
        f"new one; difference of the share of all rows {_shown(decisions.accepted_wrong)}"
    )
    yield f"changed labels: {_rows(len(found.changed_rows))}"
    for change in found.changes:
        yield (
            f"  {change.old} became {change.new}: {_rows(change.rows)}, right before {change.old_right}, now "
            f"{change.new_right}"
        )
    for note in found.notes:
        yield note if note.startswith("warning: ") else f"note: {note}"
    yield f"rule: {found.rule}"


def _shown(estimate: Estimate | None) -> str:
    return "undefined" if estimate is None else _signed(estimate)


def _signed(estimate: Estimate) -> str:
    return f"{estimate.value:+.3f} [{estimate.low:+.3f}, {estimate.high:+.3f}]"
