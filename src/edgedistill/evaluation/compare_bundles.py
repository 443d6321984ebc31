"""Compares two bundles on the same coded rows, in pairs.

compare_bundles    scores the rows of a table with both bundles, and compares their labels with the human codes
compare_on_rows    the same for rows that are read already, such as a project's locked test rows
joint_task         the task on which two bundles can be compared
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgedistill.agreement import Estimate, compare
from edgedistill.agreement import agreement as compare_codes
from edgedistill.agreement.bootstrap import bootstrap_groups
from edgedistill.data.types import CodedResponse, canonical_code
from edgedistill.errors import ArgumentError, DataError
from edgedistill.evaluation.bundle_rows import BundleRows, LearnedRows
from edgedistill.evaluation.coded_file import SMALLEST, accepted_errors
from edgedistill.evaluation.coded_rows import CodedColumns, CodedTable, read_coded_table, require_rows
from edgedistill.evaluation.comparison import (
    COMPARISON_VERSION,
    NEW,
    OLD,
    RULE,
    BundleComparison,
    ChangedLabel,
    ChangedRow,
    ComparedDecisions,
    ComparedPart,
    ComparedParts,
    LearnedCounts,
    count_rows,
    decide,
)
from edgedistill.evaluation.types import EvaluatedBundle
from edgedistill.frames import Rows, frame_of, texts_of_rows
from edgedistill_serve import Bundle, Scorer
from edgedistill_serve.scoring.score import Score
from edgedistill_serve.task.task import INPUTS, Label, Task

if TYPE_CHECKING:  # pandas is imported only where a DataFrame is used
    from pandas import DataFrame

    from edgedistill.data.given_tables import GivenTable

_DECISIONS = Task("nominal", (Label("yes"), Label("no")), ("response",))
"""A share of rows is the accuracy of a coding of them against one that is always ``yes``."""


def compare_bundles(
    old: Bundle | Path | str,
    new: Bundle | Path | str,
    coded: "DataFrame | GivenTable | Path | str",
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
        coded: A table file as people have it, or a DataFrame, with a column for each input of the bundles and one of
            human codes.
        label_column: The column of human codes; rows without a code are set aside. In a file, its name may be shortened
            by an ellipsis.
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
    return compare_on_rows(Scorer(one), Scorer(other), table, learned, columns=table.columns.groups, smallest=smallest)


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
        notes=(*table.notes, *_notes(old, new, counts)),
    )


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
            yield f"warning: {count_rows(number)} {why}, and {'is' if number == 1 else 'are'} left out."
    if found.same:
        yield (
            f"{count_rows(found.same)} with the text of a row that the {name} bundle learned from "
            f"{'counts' if found.same == 1 else 'count'}: the id is another."
        )
