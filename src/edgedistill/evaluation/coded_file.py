"""Measures a finished bundle on any coded file, as those who use the bundle see it: the served graph and its decisions.

evaluate_bundle     scores the rows of a table and compares the labels with their human codes
BundleEvaluation    the result; its parts are those of `Evaluation` where they fit
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from edgedistill.agreement import (
    Agreement,
    Estimate,
    ProbabilityMetrics,
    agreement_html,
    agreement_table,
    probability_metrics,
)
from edgedistill.agreement import agreement as compare_codes
from edgedistill.agreement.bootstrap import bootstrap_groups
from edgedistill.data.twins import find_twins, same_row
from edgedistill.data.types import CodedResponse, TestRows
from edgedistill.decisions import RuleOutcome, decision_outcome
from edgedistill.displays import plain_text
from edgedistill.errors import ArgumentError
from edgedistill.evaluation.build import TestCodings, measure_human_agreement, subgroup_tables
from edgedistill.evaluation.coded_rows import CodedColumns, CodedTable, read_coded_table, require_rows
from edgedistill.evaluation.types import AcceptedErrors, EvaluatedBundle, InterCoderFigures, SubgroupTable
from edgedistill.frames import Rows, frame_of, texts_of_rows
from edgedistill.project.evaluation import EvaluationSection
from edgedistill_serve import Bundle, Scorer
from edgedistill_serve.bundle.guarantee import Guarantee, describe_guarantee
from edgedistill_serve.bundle.manifest import ReviewRule
from edgedistill_serve.scoring.score import Score
from edgedistill_serve.task.task import Task

if TYPE_CHECKING:  # pandas is imported only where a DataFrame is used
    from pandas import DataFrame

    from edgedistill.data.given_tables import GivenTable

BUNDLE_EVALUATION_VERSION = 2
"""`schema_version` of the `evaluation.json` of a bundle."""
SMALLEST = 20
"""Questions and groups of fewer rows have no figures, unless another number is given."""
_UNKNOWN_TRAINING = (
    "The bundle does not say which texts it was trained on. Rows of this file that it was trained on make the figures "
    "too good: name its project (--project, in Python training=) to leave them out."
)


@dataclass(frozen=True, slots=True)
class TrainingOverlap:
    """Rows of the file that the bundle was trained on, or that selected it.

    Attributes:
        known: Whether the training texts are known; if not, there are no other figures.
        excluded: Rows that are left out because they are such rows.
        same: Other rows with the same text as one of them.
        near: Other rows with nearly the same text.
        without: Agreement without the rows of the last two kinds; None if there are none, or no others.
    """

    known: bool
    excluded: int = 0
    same: int = 0
    near: int = 0
    without: Agreement | None = None


@dataclass(frozen=True, slots=True)
class PromiseCheck:
    """A promise of the bundle beside the errors of this file.

    Attributes:
        of: ``all`` accepted rows, those of a label (``label NAME``), or of a group (``COLUMN VALUE``).
        promised: The share of wrong codes that is promised at most.
        errors: The errors of these rows.
        outcome: ``kept``: the interval is not above the promised share; ``contradicted``: all of it is above;
            ``consistent``: the promised share is inside, so that the rows do not decide; ``no rows`` were accepted.
    """

    of: str
    promised: float
    errors: AcceptedErrors
    outcome: Literal["kept", "consistent", "contradicted", "no rows"]


@dataclass(frozen=True, slots=True)
class BundleDecisions:
    """What the decision rule of the bundle does with the rows.

    Attributes:
        rule: The rule.
        outcome: Its outcome: accepted and reviewed rows, by reason and label, with agreement.
        errors: How many of the accepted rows are wrong.
        guarantee: What the bundle promises; None if nothing, or if nothing is promised for the graph in use.
        promises: Each part of the promise beside the errors of these rows.
    """

    rule: ReviewRule
    outcome: RuleOutcome
    errors: AcceptedErrors
    guarantee: Guarantee | None
    promises: tuple[PromiseCheck, ...]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class BundleEvaluation:
    """A bundle on a coded file. Its repr is a table, with confidence intervals; an undefined figure is None.

    Attributes:
        schema_version: `BUNDLE_EVALUATION_VERSION`.
        bundle: The bundle.
        file: Name of the file.
        sha256: Of the file, or of the cells of a DataFrame.
        kind: ``nominal``, ``ordinal`` or ``multilabel``.
        labels: In codebook order.
        positive: The label of binary figures, if one is named.
        read: Rows of the file; ``read == rows + sum(set_aside.values())``.
        rows: Rows that are measured.
        set_aside: Number of the other rows, by reason.
        training: Rows that the bundle was trained on.
        agreement: ``student``: the agreement of the bundle's labels with the human codes.
        probabilities: How good its probabilities are: Brier score, log loss, calibration error, reliability, AUC.
        review: Its decisions.
        questions: Agreement for each question; None if the bundle reads no question.
        subgroups: Agreement for each value of the named columns.
        human_agreement: Agreement among the named coders, and of the bundle with each; None without coders.
        notes: What a reader must know.
    """

    schema_version: int
    bundle: EvaluatedBundle
    file: str
    sha256: str
    kind: str
    labels: tuple[str, ...]
    positive: str | None
    read: int
    rows: int
    set_aside: Mapping[str, int]
    training: TrainingOverlap
    agreement: Mapping[str, Agreement]
    probabilities: ProbabilityMetrics
    review: BundleDecisions
    questions: SubgroupTable | None
    subgroups: tuple[SubgroupTable, ...]
    human_agreement: InterCoderFigures | None
    notes: tuple[str, ...]

    def __repr__(self) -> str:
        return plain_text(agreement_table({self.bundle.name: self.agreement["student"]}))

    def _repr_html_(self) -> str:
        return agreement_html({self.bundle.name: self.agreement["student"]})


_Coded: TypeAlias = tuple[CodedResponse, Score]


def evaluate_bundle(
    bundle: Bundle | Path | str,
    coded: "DataFrame | GivenTable | Path | str",
    *,
    label_column: str = "label",
    id_column: str = "id",
    groups: Sequence[str] = (),
    coders: Sequence[str] = (),
    clusters: str | None = None,
    positive: str | None = None,
    smallest: int = SMALLEST,
    training: Rows | None = None,
) -> BundleEvaluation:
    """Measure a bundle on coded rows; every row is scored as `Scorer` scores it.

    Args:
        bundle: The bundle, or its folder.
        coded: A table file as people have it, or a DataFrame, with a column for each input of the bundle and one of
            human codes.
        label_column: The column of human codes; rows without a code are set aside. In a file, its name may be shortened
            by an ellipsis.
        id_column: The column of ids.
        groups: Columns for whose values agreement is reported, such as a school.
        coders: Columns with the codes of single coders.
        clusters: A column of learners, whose responses are related: whole clusters are resampled.
        positive: A label whose precision, recall and F1 are reported.
        smallest: Questions and groups of fewer rows have no figures.
        training: The rows that the bundle was trained on, and those that selected it, to leave them out; None if they
            are not known.

    Returns:
        The figures, with 95 % intervals.

    Raises:
        ArgumentError: An argument is not valid.
        DataError: The table cannot be used; the message names its rows.
        BundleError: The bundle cannot be loaded.

    Example:
        evaluate_bundle("bundle", "coded.csv", groups=["school"], training=train)
    """
    loaded = bundle if isinstance(bundle, Bundle) else Bundle.load(bundle)
    task = loaded.task
    if positive is not None and positive not in task.names:
        raise ArgumentError(f"positive is not a label of the bundle, which are {', '.join(task.names)}")
    if smallest < 1:
        raise ArgumentError(f"smallest must be at least 1, not {smallest}")
    columns = CodedColumns(
        label_column, id_column, tuple(dict.fromkeys(groups)), tuple(dict.fromkeys(coders)), clusters
    )
    table = read_coded_table(coded, columns, task, loaded.manifest.name)
    columns = table.columns
    split = _without_training_rows(table, training, task)
    scorer = Scorer(loaded)
    scored = _scored(scorer, split.rows)
    aside = {
        "row that the bundle was trained on, or that selected it": split.excluded,
        "row that the bundle cannot score": len(split.rows) - len(scored),
    }
    set_aside = dict(table.set_aside) | {reason: count for reason, count in aside.items() if count}
    require_rows(len(scored), table.file, table.read, set_aside)
    section = EvaluationSection(
        positive=positive, coders=columns.coders, subgroups=columns.groups, smallest_subgroup=smallest
    )
    return _measured(scorer, table, split, scored, set_aside, section, known=training is not None)


def _known_rows(training: Rows, task: Task) -> tuple[tuple[Mapping[str, str], ...], tuple[str, ...]]:
    """Return the inputs of the training rows, and their ids; no ids if they have none."""
    frame = frame_of(training, task)
    ids = tuple(str(each).strip() for each in frame["id"]) if "id" in frame.columns else ()
    return tuple(texts_of_rows(frame, task)), ids


@dataclass(frozen=True, slots=True)
class _Split:
    """The rows that the bundle was not trained on, and what is known of the others.

    Attributes:
        rows: The rows that are measured.
        excluded: Number of the others.
        same: Ids of measured rows with the same text as a training row.
        near: Ids of those with nearly the same text.
    """

    rows: tuple[CodedResponse, ...]
    excluded: int = 0
    same: frozenset[str] = frozenset()
    near: frozenset[str] = frozenset()


def _without_training_rows(table: CodedTable, training: Rows | None, task: Task) -> _Split:
    """Leave out the training rows: those with id and text of one, or with its text where a side has no ids.

    A short response may be the same as a training row by another learner: with another id it stays, and is counted.
    """
    if training is None:
        return _Split(table.rows)
    texts, ids = _known_rows(training, task)
    twins = find_twins([row.response.inputs for row in table.rows], texts)
    named = set(zip(map(same_row, texts), ids, strict=True)) if ids and table.has_ids else None
    kept: list[CodedResponse] = []
    same: set[str] = set()
    near: set[str] = set()
    for place, row in enumerate(table.rows):
        twin, ident = twins.get(place), row.response.id
        if twin and twin.same and (named is None or (same_row(row.response.inputs), ident) in named):
            continue
        kept.append(row)
        if twin:
            (same if twin.same else near).add(ident)
    return _Split(tuple(kept), len(table.rows) - len(kept), frozenset(same), frozenset(near))


def _scored(scorer: Scorer, rows: Sequence[CodedResponse]) -> list[_Coded]:
    """Return the rows that can be scored, with their scores."""
    results = scorer.score_each([dict(row.response.inputs) for row in rows])
    return [(row, result) for row, result in zip(rows, results, strict=True) if isinstance(result, Score)]


def _measured(
    scorer: Scorer,
    table: CodedTable,
    split: _Split,
    scored: Sequence[_Coded],
    set_aside: Mapping[str, int],
    section: EvaluationSection,
    *,
    known: bool,
) -> BundleEvaluation:
    manifest, task = scorer.bundle.manifest, scorer.bundle.task
    rows = TestRows(tuple(row for row, _ in scored))
    scores = [score for _, score in scored]
    coded = TestCodings.of(rows, task, {"student": {row.response.id: score.label for row, score in scored}})
    groups = bootstrap_groups([row.response.group for row in rows])
    probabilities = np.array([list(score.probabilities.values()) for score in scores])
    other = split.same | split.near
    fresh = [place for place, row in enumerate(rows) if row.response.id not in other]
    overlap = TrainingOverlap(
        known,
        split.excluded,
        len(split.same),
        len(split.near),
        _agreement(scored, fresh, task, groups, section.positive) if other and fresh else None,
    )
    decisions = _decisions(scorer, scored, groups, section.positive)
    guarantee = manifest.guarantee
    notes = [*table.notes, *([] if known else [_UNKNOWN_TRAINING]), *scorer.notes]
    if guarantee is not None and scorer.precision not in guarantee.graphs:
        notes.append(describe_guarantee(guarantee, scorer.precision))
    return BundleEvaluation(
        schema_version=BUNDLE_EVALUATION_VERSION,
        bundle=EvaluatedBundle(manifest.name, manifest.version, scorer.precision),
        file=table.file,
        sha256=table.sha256,
        kind=task.kind,
        labels=task.names,
        positive=section.positive,
        read=table.read,
        rows=len(rows),
        set_aside=set_aside,
        training=overlap,
        agreement={"student": _agreement(scored, range(len(rows)), task, groups, section.positive)},
        probabilities=probability_metrics(rows.labels, probabilities, task, groups=groups),
        review=decisions,
        questions=_questions(rows, coded, section) if "question" in task.inputs else None,
        subgroups=subgroup_tables(rows, coded, section),
        human_agreement=measure_human_agreement(rows, coded, section),
        notes=tuple(notes),
    )


def _agreement(
    scored: Sequence[_Coded], places: Sequence[int], task: Task, groups: Sequence[str] | None, positive: str | None
) -> Agreement:
    return compare_codes(
        [scored[place][0].label for place in places],
        [scored[place][1].label for place in places],
        task,
        groups=[groups[place] for place in places] if groups else None,
        positive=positive,
    )


def _questions(rows: TestRows, coded: TestCodings, section: EvaluationSection) -> SubgroupTable:
    """Return the agreement for each question; responses to it are its rows, whatever their reference answer."""
    by_question = TestRows(tuple(replace(row, subgroups={"question": row.response.inputs["question"]}) for row in rows))
    (table,) = subgroup_tables(by_question, coded, section.model_copy(update={"subgroups": ("question",)}))
    return table


def _decisions(
    scorer: Scorer, scored: Sequence[_Coded], groups: Sequence[str] | None, positive: str | None
) -> BundleDecisions:
    manifest = scorer.bundle.manifest
    guarantee = manifest.guarantee
    if guarantee is not None and scorer.precision not in guarantee.graphs:
        guarantee = None
    outcome = decision_outcome(
        [score for _, score in scored],
        [row.label for row, _ in scored],
        manifest.task,
        groups=groups,
        limit=manifest.review.max_novelty,
        positive=positive,
    )

    human, labels = [row.label for row, _ in scored], [score.label for _, score in scored]

    def errors(chosen: Sequence[bool]) -> AcceptedErrors:
        accepted = [yes and score.decision == "accept" for yes, (_, score) in zip(chosen, scored, strict=True)]
        return accepted_errors(human, labels, accepted, manifest.task, groups)

    every = [True] * len(scored)
    promises = []
    if guarantee is not None:
        parts: dict[str, Sequence[bool]] = {"all": every}
        for label in guarantee.labels:
            parts[f"label {label}"] = [score.label == label for _, score in scored]
        column = guarantee.group_column
        for group in guarantee.groups:
            if any(column in row.subgroups for row, _ in scored):
                parts[f"{column} {group}"] = [row.subgroups.get(column) == group for row, _ in scored]
        promises = [_check(of, guarantee.share, errors(chosen)) for of, chosen in parts.items()]
    return BundleDecisions(manifest.review, outcome, errors(every), guarantee, tuple(promises))


def accepted_errors(
    human: Sequence[str], labels: Sequence[str], accepted: Sequence[bool], task: Task, groups: Sequence[str] | None
) -> AcceptedErrors:
    """Count the wrong labels among the accepted rows.

    Args:
        human: The human code of each row.
        labels: The label of each row.
        accepted: Whether each row is accepted.
        task: The task.
        groups: The cluster of each row; None for independent rows.
    """
    places = [place for place, yes in enumerate(accepted) if yes]
    if not places:
        return AcceptedErrors(0, 0, None)
    codes, coded = ([coding[place] for place in places] for coding in (human, labels))
    of_groups = [groups[place] for place in places] if groups else None
    right = compare_codes(codes, coded, task, groups=of_groups).accuracy
    wrong = sum(code != label for code, label in zip(codes, coded, strict=True))
    return AcceptedErrors(len(places), wrong, Estimate(1 - right.value, 1 - right.high, 1 - right.low))


def _check(of: str, promised: float, errors: AcceptedErrors) -> PromiseCheck:
    if errors.share is None:
        return PromiseCheck(of, promised, errors, "no rows")
    if errors.share.high <= promised:
        return PromiseCheck(of, promised, errors, "kept")
    # Written so that a limit that is not a number contradicts the promise.
    return PromiseCheck(of, promised, errors, "consistent" if errors.share.low <= promised else "contradicted")


def describe_evaluation(found: BundleEvaluation) -> Iterator[str]:
    """Yield what a person should read of a bundle's evaluation besides its tables, a line each."""
    aside = ", ".join(f"{count} {reason}" for reason, count in found.set_aside.items())
    more = f" + {sum(found.set_aside.values())} set aside ({aside})" if aside else ""
    yield f"{found.file}: {found.read} rows read = {found.rows} measured{more}"
    overlap = found.training
    if overlap.same or overlap.near:
        without = f"; kappa without them {_shown(overlap.without.kappa)}" if overlap.without else ""
        yield f"{overlap.same} rows have the text of a training row, and {overlap.near} nearly the same{without}"
    quality = found.probabilities
    yield (
        f"probabilities: calibration error {_shown(quality.ece)}, Brier score {_shown(quality.brier)}, AUC "
        f"{_shown(quality.auc)}"
    )
    outcome, errors = found.review.outcome, found.review.errors
    reasons = "".join(f", {count} {reason}" for reason, count in outcome.reasons.items())
    yield (
        f"decision rule: accepts {outcome.accepted} of {outcome.rows} rows, {_shown(outcome.share_accepted)}; to "
        f"people {outcome.rows - outcome.accepted}{reasons}"
    )
    yield f"wrong among the accepted: {errors.wrong} of {errors.accepted}, {_shown(errors.share)}"
    if novelty := outcome.novelty:
        yield f"unlike the training texts: {novelty.flagged} of {outcome.rows} rows"
    for promise in found.review.promises:
        of = "" if promise.of == "all" else f" ({promise.of})"
        yield f"promised: at most {promise.promised:.3g} wrong{of}; {_OUTCOMES[promise.outcome]}" + (
            "" if promise.of == "all" else f": {promise.errors.wrong} of {promise.errors.accepted}"
        )
    for pair in found.human_agreement.pairs if found.human_agreement else ():
        kappa = _shown(pair.agreement.kappa if pair.agreement else None)
        yield f"human coders {pair.first} and {pair.second}: kappa {kappa} on {pair.rows} rows"
    yield from found.human_agreement.notes if found.human_agreement else ()
    for note in found.notes:
        yield f"note: {note}"


_OUTCOMES = {
    "kept": "kept here: the whole interval is within the promise",
    "consistent": "consistent with these rows, which are too few to decide",
    "contradicted": "contradicted here: the whole interval is above the promise",
    "no rows": "no row was accepted",
}


def _shown(estimate: Estimate | None) -> str:
    return "undefined" if estimate is None else f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"
