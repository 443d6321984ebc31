"""Computing an `Evaluation`: what validation rows choose, and what the test rows then show of it.

Scores of the student choose a temperature, label thresholds and a decision rule on validation rows (`choose`). The
codings of the test rows (`TestCodings`) are compared with the human codes and with one another, and
`build_evaluation` puts the figures together.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from itertools import pairwise
from typing import Any, Self, TypeAlias, TypeVar

import msgspec
import numpy as np

from edgedistill.agreement import (
    Agreement,
    InterCoderAgreement,
    agreement,
    change,
    compare,
    human_agreement,
    prevalence,
    probability_metrics,
    subgroups,
)
from edgedistill.agreement.alt_test import alt_test_by_id
from edgedistill.agreement.bootstrap import Figure, bootstrap_groups
from edgedistill.agreement.draws import LabelFigure
from edgedistill.data.splitting import Splits
from edgedistill.data.twins import SplitTwins
from edgedistill.data.types import CodedResponse, Population, SetAside, TestRows, ValidationRows
from edgedistill.decisions import (
    AtMostToPeople,
    AtMostWrong,
    Calibration,
    ChosenRule,
    Circumstances,
    KeepKappa,
    LeastProbability,
    ReviewAim,
    RuleOutcome,
    Scores,
    TestScores,
    ValidationScores,
    choose_rule,
    fit_temperature,
    risk_coverage,
    rule_outcome,
)
from edgedistill.decisions.familiar_scripts import familiar_scripts
from edgedistill.evaluation.files import to_plain
from edgedistill.evaluation.questions import KnownQuestions, question_table
from edgedistill.evaluation.types import (
    EVALUATION_VERSION,
    PYTORCH,
    CalibrationEffect,
    CalibrationFigures,
    DecisionRule,
    Evaluation,
    FidelityStep,
    InterCoderFigures,
    LabelThresholds,
    NamedComparison,
    PopulationPrevalence,
    PrecisionRecallShift,
    ProbabilityQuality,
    QuestionFigures,
    RiskCoverage,
    ServedFigures,
    ServedRule,
    StatedAim,
    SubgroupTable,
    TwinFigures,
)
from edgedistill.project.evaluation import EvaluationSection, ReviewSection
from edgedistill.student.label_thresholds import Thresholds, choose_thresholds
from edgedistill_export.checkpoint import Checkpoint
from edgedistill_export.export_stages import is_readable
from edgedistill_export.novelty import NoveltyModel, Vectors, cannot_measure, choose_limit, fit_novelty
from edgedistill_export.plan import GraphScores, LockedScores, ReviewChooser
from edgedistill_serve.bundle.manifest import REVIEW_ALL, Precision, ReviewRule
from edgedistill_serve.scoring.encoding import Encoded
from edgedistill_serve.task.contexts import ShownContexts, context_hash, has_context, shown_hashes
from edgedistill_serve.task.scripts import count_letters
from edgedistill_serve.task.task import Task, task_inputs

NO_QUESTIONS = KnownQuestions(frozenset())
HUMAN_TRAINED = "human-trained student"
"""The coding of a student that was trained on human codes alone."""

Labels: TypeAlias = Mapping[str, str]
"""By a row's id, its label."""
S = TypeVar("S", bound=Scores)
T = TypeVar("T")


def validation_scores(
    student: Checkpoint,
    rows: ValidationRows,
    training: Sequence[Mapping[str, str]] = (),
    review: ReviewSection | None = None,
    *,
    held_out: bool = False,
) -> tuple[ValidationScores, NoveltyModel | None]:
    """Score the validation rows with the student in PyTorch, each row alone.

    Args:
        student: The student.
        rows: The validation rows.
        training: The inputs of the training texts that others are compared with; empty: novelty is not measured.
        review: Names the column of groups in which a promise must hold, if any.
        held_out: Whether the rows answer questions that were held out as a whole.

    Returns:
        The scores, and the distribution of the training texts; None if there are too few of them.
    """
    scores, vectors = _scores(ValidationScores, student, rows)
    scores = replace(scores, subgroups=_subgroups(rows, review), questions=_questions(rows) if held_out else ())
    if not training:
        return scores, None
    readable = np.array([is_readable(row, ReviewRule()) for row in scores.encoded], dtype=np.bool_)
    model = fit_novelty(student.outputs(training)[1], vectors[readable])
    return _with_novelty(scores, vectors, model), model


def _questions(rows: Iterable[CodedResponse]) -> tuple[str, ...]:
    return tuple(row.response.question for row in rows)


def _subgroups(rows: ValidationRows, review: ReviewSection | None) -> tuple[str, ...]:
    """Return each row's group in the column ``review.groups``; empty without a column."""
    column = review.groups if review else None
    return tuple(row.subgroups.get(column, "") for row in rows) if column else ()


def test_scores(student: Checkpoint, rows: TestRows, novelty: NoveltyModel | None) -> TestScores:
    """Score the test rows with the student in PyTorch, each row alone; with the model of `validation_scores`."""
    return _with_novelty(*_scores(TestScores, student, rows), novelty)


test_scores.__test__ = False  # type: ignore[attr-defined]  # pytest: this is no test


def _with_novelty(scores: S, vectors: Vectors, model: NoveltyModel | None) -> S:
    return scores if model is None else replace(scores, novelty=tuple(model.novelty(vectors).tolist()))


def _scores(kind: type[S], student: Checkpoint, rows: Iterable[CodedResponse]) -> tuple[S, Vectors]:
    coded = list(rows)
    inputs: list[dict[str, Any]] = [task_inputs(row.response.inputs, student.task) for row in coded]
    groups = bootstrap_groups([row.response.group for row in coded])
    logits, vectors = student.outputs(inputs)
    scores = kind(
        task=student.task,
        ids=tuple(row.response.id for row in coded),
        codes=tuple(row.label for row in coded),
        logits=logits.astype(np.float64),
        encoded=tuple(student.encoder.encode(inputs)),
        groups=tuple(groups) if groups else None,
        contexts=tuple(map(context_hash, inputs)) if has_context(student.task) else (),
    )
    return scores, vectors


@dataclass(frozen=True, slots=True)
class ChosenSettings:
    """What the validation rows chose.

    Attributes:
        calibration: The temperature.
        thresholds: For a multilabel task, the probability from which each label is predicted; else None.
        review: The decision rule.
        contexts: The questions for which the rule was shown; None for a task without questions.
    """

    calibration: Calibration
    thresholds: Thresholds | None
    review: ChosenRule
    contexts: ShownContexts | None = None

    @property
    def temperature(self) -> float:
        """What the logits are divided by."""
        return self.calibration.temperature

    @property
    def notes(self) -> list[str]:
        """What a reader must know."""
        return [*self.calibration.notes, *(self.thresholds.notes if self.thresholds else ()), *self.review.notes]

    def apply(self, scores: S) -> S:
        """Return the same scores with the labels that these thresholds give, and the rows with a new question."""
        known = self.contexts.hashes if self.contexts and self.contexts.closed else None
        new = () if known is None else tuple(context not in known for context in scores.contexts)
        return replace(_with_thresholds(scores, self.thresholds, self.temperature), new_questions=new)


def choose(
    scores: ValidationScores,
    evaluation: EvaluationSection,
    review: ReviewSection | None,
    circumstances: Circumstances = Circumstances(),  # noqa: B008  # frozen
    training: Sequence[Mapping[str, str]] = (),
) -> ChosenSettings:
    """Fit the temperature and choose thresholds and decision rule, as the project file says.

    Args:
        scores: Of the validation rows.
        evaluation: The section of the project file.
        review: The section of the project file.
        circumstances: What a promise depends on besides.
        training: The inputs of the training texts that others are compared with.
    """
    calibration = fit_temperature(scores) if evaluation.calibrate else Calibration()
    temperature = calibration.temperature
    thresholds = None
    if scores.task.kind == "multilabel":
        thresholds = choose_thresholds(scores.probabilities(temperature), scores.codes, scores.task)
    rule = choose_rule(
        _with_thresholds(scores, thresholds, temperature),
        temperature,
        review_aim(review),
        always=_always(review or ReviewSection(), scores, training, held_out=circumstances.held_out),
        circumstances=circumstances,
    )
    shown = shown_hashes(scores.contexts, held_out=circumstances.held_out) if scores.contexts else None
    return ChosenSettings(calibration, thresholds, rule, shown)


def review_aim(review: ReviewSection | None) -> ReviewAim | None:
    """Return the aim of the decision rule, as the project file says, or else the default; None for no thresholds."""
    if review is None or review.aim == "least_probability":
        return LeastProbability((review and review.at_least) or LEAST_PROBABILITY)
    if review.aim == "none":
        return None
    if review.aim == "keep_kappa":
        return KeepKappa(review.at_least or 0.0)
    if review.aim == "at_most_to_people":
        return AtMostToPeople(review.share or 0.0)
    return AtMostWrong(review.share or 0.0, review.confidence or CONFIDENCE, review.per_label, review.groups)


LEAST_PROBABILITY = 0.7
"""The probability from which a label is accepted, unless the project file states a rule."""
CONFIDENCE = 0.95
"""The confidence of a promise, unless the project file states another."""


def _always(
    review: ReviewSection, scores: ValidationScores, training: Sequence[Mapping[str, str]], *, held_out: bool
) -> ReviewRule:
    """Return the rule without thresholds; held-out questions stand for new ones, which are then not reviewed."""
    limited = review.novelty is not None and review.novelty.false_alarms is not None
    texts = [count_letters(row["response"]) for row in training] if limited else []
    familiar = familiar_scripts([*texts, *(row.letters for row in scores.encoded)] if texts else [])
    return ReviewRule(
        max_unknown_share=review.max_unknown_share,
        new_question=review.new_questions == "review" or (review.new_questions is None and not held_out),
        max_novelty=_novelty_limit(scores, review, training),
        scripts=familiar.names,
        min_letters=familiar.min_letters,
    )


def _novelty_limit(
    scores: ValidationScores, review: ReviewSection, training: Sequence[Mapping[str, str]]
) -> float | None:
    """Return the limit of novelty in PyTorch; the export chooses that of the served graph in the same way."""
    if review.novelty is None or review.novelty.false_alarms is None:
        return None
    rule = ReviewRule(max_unknown_share=review.max_unknown_share)
    readable = [place for place, row in enumerate(scores.encoded) if is_readable(row, rule)]
    if not scores.novelty:
        return REVIEW_ALL if cannot_measure(training, len(readable)) else None
    return choose_limit([scores.novelty[place] for place in readable], review.novelty.false_alarms)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedChoice(ChosenRule):
    """A decision rule that was chosen on the scores of the served graph, and its outcome on the validation rows."""

    validation: RuleOutcome


def choose_served_rule(
    rows: ValidationRows,
    task: Task,
    review: ReviewSection | None,
    calibration: Calibration,
    thresholds: Mapping[str, float],
    circumstances: Circumstances,
    rule: ReviewRule,
    positive: str | None = None,
) -> ReviewChooser | None:
    """Return a function that chooses the decision rule on the scores of the graphs of a bundle.

    An aim that says something about accepted responses must hold for the scores that are served, which differ a little
    from those of the student in PyTorch. Other aims are those of the student: None.

    Args:
        rows: The validation rows, in the order of the logits.
        task: The task.
        review: The section of the project file.
        calibration: The temperature.
        thresholds: Of a multilabel task, by label; else empty.
        circumstances: What a promise depends on besides; its graphs are replaced.
        rule: The rule of the student in PyTorch; its thresholds and its limit of novelty are replaced.
        positive: As in `agreement`, for the outcome on the validation rows.
    """
    aim = review_aim(review)
    if not isinstance(aim, AtMostWrong | KeepKappa):
        return None
    groups = bootstrap_groups([row.response.group for row in rows])

    def chooser(
        found: Mapping[Precision, GraphScores], encoded: tuple[Encoded, ...], max_novelty: float | None
    ) -> ServedChoice:
        graphs = {
            graph: ValidationScores(
                task=task,
                ids=tuple(row.response.id for row in rows),
                codes=tuple(rows.labels),
                logits=of_graph.logits.astype(np.float64),
                encoded=encoded,
                groups=tuple(groups) if groups else None,
                thresholds=tuple(thresholds[name] for name in task.names if name in thresholds),
                threshold_temperature=calibration.temperature if thresholds else 1.0,
                contexts=_contexts(rows, task),
                novelty=() if of_graph.novelty is None else tuple(of_graph.novelty.tolist()),
                subgroups=_subgroups(rows, review),
                questions=_questions(rows) if circumstances.held_out else (),
            )
            for graph, of_graph in found.items()
        }
        served, *others = graphs
        given = replace(circumstances, graph=served, others={graph: graphs[graph] for graph in others})
        always = msgspec.structs.replace(rule, thresholds={}, least_certainty=0.0, max_novelty=max_novelty)
        choice = choose_rule(graphs[served], calibration.temperature, aim, always=always, circumstances=given)
        return ServedChoice(
            **{each.name: getattr(choice, each.name) for each in fields(ChosenRule)},
            validation=rule_outcome(graphs[served], calibration.temperature, choice.rule, positive=positive),
        )

    return chooser


def _with_thresholds(scores: S, thresholds: Thresholds | None, temperature: float) -> S:
    return replace(scores, thresholds=thresholds.values, threshold_temperature=temperature) if thresholds else scores


@dataclass(frozen=True, slots=True)
class TestCodings:
    """The human codes of the test rows, and other codings of the same rows.

    Attributes:
        task: Its labels are the only ones.
        human: The human codes.
        groups: By a row's id what it belongs to, so that whole groups are resampled; None: every row is independent.
        codings: By name, such as ``student`` or ``teacher``; a coding may lack rows.
    """

    __test__ = False  # pytest: this is no test class

    task: Task
    human: Labels
    groups: Labels | None
    codings: Mapping[str, Labels]

    @classmethod
    def of(cls, rows: TestRows, task: Task, codings: Mapping[str, Labels]) -> Self:
        """Return codings beside the human codes of rows."""
        ids = [row.response.id for row in rows]
        groups = bootstrap_groups([row.response.group for row in rows])
        return cls(
            task,
            dict(zip(ids, rows.labels, strict=True)),
            dict(zip(ids, groups, strict=True)) if groups else None,
            codings,
        )

    def shared_rows(self, *names: str) -> list[str]:
        """Return the ids of the rows that all of these codings have."""
        return [row for row in self.human if all(row in self.codings[name] for name in names)]

    def columns(self, rows: Sequence[str], *names: str) -> list[list[str]]:
        """Return the human codes of some rows, and then their labels in each of these codings."""
        return [[coding[row] for row in rows] for coding in (self.human, *(self.codings[name] for name in names))]

    def groups_at(self, rows: Sequence[str]) -> list[str] | None:
        """Return the groups of some rows; None if every row is independent."""
        return [self.groups[row] for row in rows] if self.groups else None

    def pair(self, first: str, second: str) -> tuple[list[str], list[str], list[str], list[str] | None] | None:
        """Return human codes, two codings and groups of the rows that both coded; None if there are none."""
        if not (rows := self.shared_rows(first, second)):
            return None
        human, one, other = self.columns(rows, first, second)
        return human, one, other, self.groups_at(rows)


def fidelity_steps(coded: TestCodings) -> tuple[FidelityStep, ...]:
    """Compare each coding with the one before it, both against the human codes, with paired intervals.

    Args:
        coded: The forms of a classifier in order, such as ``teacher``, ``PyTorch``, ``ONNX fp32``, ``int8``.
    """
    steps = []
    for before, after in pairwise(coded.codings):
        if pair := coded.pair(before, after):
            human, one, other, groups = pair
            steps.append(
                _extend(FidelityStep, change(human, one, other, coded.task, groups=groups), before=before, after=after)
            )
    return tuple(steps)


def measure_fidelity(rows: TestRows, task: Task, labels: Mapping[str, Sequence[str]]) -> tuple[FidelityStep, ...]:
    """Compare the forms of a student, in order, by their labels of test rows; see `fidelity_steps`."""
    ids = [row.response.id for row in rows]
    codings = {form: dict(zip(ids, of_form, strict=True)) for form, of_form in labels.items()}
    return fidelity_steps(TestCodings.of(rows, task, codings))


def fidelity_comparison(rows: TestRows, task: Task) -> Callable[[Mapping[str, Sequence[str]]], list[dict[str, Any]]]:
    """Return `measure_fidelity` of these rows as a function of the labels, which returns plain data."""
    return lambda labels: [to_plain(step) for step in measure_fidelity(rows, task, labels)]


def served_agreement(rows: TestRows, task: Task, positive: str | None) -> Callable[[Sequence[str]], dict[str, Any]]:
    """Return the agreement of labels of these rows with their human codes, as a function that returns plain data."""

    def measure(labels: Sequence[str]) -> dict[str, Any]:
        ids = [row.response.id for row in rows]
        coded = TestCodings.of(rows, task, {"served": dict(zip(ids, labels, strict=True))})
        return dict(to_plain(_agreement(coded, "served", positive)))

    return measure


def served_figures(
    rows: TestRows,
    section: EvaluationSection,
    evaluation: Evaluation,
    task: Task,
    scores: LockedScores,
    validation: ValidationRows,
    rule: ReviewRule,
    chosen: ServedChoice | None = None,
    known: KnownQuestions = NO_QUESTIONS,
) -> ServedFigures:
    """Compute the figures of the served graph that `build_evaluation` computes of the student in PyTorch.

    Args:
        rows: The test rows.
        section: Which figures the project file asks for.
        evaluation: That of the student in PyTorch; its temperature and thresholds are the bundle's.
        task: The task.
        scores: The logits of the test rows, before and after the export.
        validation: Their questions are those for which the decision rule was shown.
        rule: The bundle's.
        chosen: The decision rule that was chosen on the served graph's scores; None: on PyTorch's.
        known: The questions that the student was trained on.
    """
    temperature = evaluation.calibration.temperature
    thresholds = evaluation.thresholds.values if evaluation.thresholds else {}
    groups = bootstrap_groups([row.response.group for row in rows])
    contexts = _contexts(rows, task)
    shown = shown_hashes(_contexts(validation, task), held_out=known.held_out) if contexts else None
    served = TestScores(
        task=task,
        ids=tuple(row.response.id for row in rows),
        codes=tuple(rows.labels),
        logits=scores.served.astype(np.float64),
        encoded=scores.encoded,
        groups=tuple(groups) if groups else None,
        thresholds=tuple(thresholds[name] for name in task.names if name in thresholds),
        threshold_temperature=temperature if thresholds else 1.0,
        contexts=contexts,
        new_questions=tuple(each not in shown.hashes for each in contexts) if shown and shown.closed else (),
        novelty=() if scores.novelty is None else tuple(scores.novelty.tolist()),
    )
    before = served.label_decoder.labels(scores.student.astype(np.float64))
    coded = TestCodings.of(rows, task, {"student": dict(zip(served.ids, served.labels, strict=True))})
    (change_of_all,) = measure_fidelity(rows, task, {PYTORCH: before, "served": served.labels})
    return ServedFigures(
        change=change_of_all,
        review=rule_outcome(served, temperature, rule, positive=section.positive),
        rule=ServedRule(**{each.name: getattr(chosen, each.name) for each in fields(ServedRule)}) if chosen else None,
        subgroups=subgroup_tables(rows, coded, section),
        human_agreement=measure_human_agreement(rows, coded, section),
        questions=question_table(
            rows, validation, coded.codings, served, temperature, rule, known, positive=section.positive
        ),
    )


def _contexts(rows: Iterable[CodedResponse], task: Task) -> tuple[str, ...]:
    """Return the hash of each row's question and reference answer; empty for a task without them."""
    return tuple(context_hash(task_inputs(row.response.inputs, task)) for row in rows) if has_context(task) else ()


def compare_student(coded: TestCodings) -> tuple[NamedComparison, ...]:
    """Compare the student with every other coding, on the rows that the other coded."""
    found = []
    for name in coded.codings:
        if name != "student" and (pair := coded.pair(name, "student")):
            human, one, other, groups = pair
            compared = compare(human, one, other, coded.task, groups=groups)
            found.append(_extend(NamedComparison, compared, first=name, second="student"))
    return tuple(found)


def precision_recall_shifts(coded: TestCodings, positive: str | None) -> tuple[PrecisionRecallShift, ...]:
    """Return how precision and recall of student and teachers differ from those of a human-trained student.

    Students of an LLM's labels tend to have a higher recall of the label of interest and a lower precision (Pangakis &
    Wolken 2024).

    Args:
        coded: Without the coding `HUMAN_TRAINED` there is nothing to compare with.
        positive: The label whose precision and recall are compared; None: the means over labels.
    """
    if HUMAN_TRAINED not in coded.codings:
        return ()
    task = coded.task
    index = None if positive is None else task.names.index(positive)
    shifts = []
    for name in coded.codings:
        if (name == "student" or name.startswith("teacher")) and (pair := coded.pair(HUMAN_TRAINED, name)):
            human, one, other, groups = pair
            compared = compare(human, one, other, task, groups=groups, figures=_shift_figures(index))
            shifts.append(
                PrecisionRecallShift(name, HUMAN_TRAINED, compared.rows, positive or "macro", **compared.differences)
            )
    return tuple(shifts)


def _shift_figures(index: int | None) -> dict[str, Callable[[Any], Figure]]:
    """Return precision and recall of a label, or their means over labels, of draws of either kind."""

    def of(name: LabelFigure) -> Callable[[Any], Figure]:
        return lambda draws: draws.labels.macro(name) if index is None else draws.labels.label(name, index)

    return {"precision": of("precision"), "recall": of("recall")}


def measure_human_agreement(rows: TestRows, coded: TestCodings, section: EvaluationSection) -> InterCoderFigures | None:
    """Compare the coders of `evaluation.coders` with one another and with the student; None without coders.

    If one column is named, the column ``label`` is the other coder.
    """
    if not section.coders:
        return None
    coders: dict[str, Labels] = {
        name: {row.response.id: row.codes[name] for row in rows if name in row.codes} for name in section.coders
    }
    if len(coders) == 1:
        coders = {"label": coded.human, **coders}
    found = human_agreement(
        coders, coded.task, student=coded.codings["student"], groups=coded.groups, positive=section.positive
    )
    compared = tuple(
        _extend(NamedComparison, each.comparison, reference=each.reference, first=each.human, second="student")
        for each in found.beside_humans
    )
    tested, note = alt_test_by_id(
        coded.codings["student"], coders, coded.task, epsilon=section.alt_test_epsilon, groups=coded.groups
    )
    return InterCoderFigures(found.coders, found.rows, found.alpha, found.pairs, compared, tested, note, found.notes)


def subgroup_tables(rows: TestRows, coded: TestCodings, section: EvaluationSection) -> tuple[SubgroupTable, ...]:
    """Compare every coding with the human codes in each group of the columns of `evaluation.subgroups`."""
    traits = {row.response.id: row.subgroups for row in rows}
    tables = []
    for column in section.subgroups:
        for name in coded.codings:
            if ids := coded.shared_rows(name):
                values = [traits[row][column] for row in ids]
                human, labels = coded.columns(ids, name)
                smallest = section.smallest_subgroup
                found = subgroups(human, labels, values, coded.task, smallest=smallest, groups=coded.groups_at(ids))
                tables.append(SubgroupTable(column, name, smallest, values.count(""), found))
    return tuple(tables)


def calibration_figures(chosen: ChosenSettings, validation: ValidationScores, test: TestScores) -> CalibrationFigures:
    """Return the temperature and its effect on the probabilities of both splits."""

    def effect(scores: Scores) -> CalibrationEffect:
        return CalibrationEffect(_quality(scores, 1.0), _quality(scores, chosen.temperature))

    return _extend(CalibrationFigures, chosen.calibration, validation=effect(validation), test=effect(test))


def _quality(scores: Scores, temperature: float) -> ProbabilityQuality:
    groups = scores.groups_at(range(len(scores)))
    found = probability_metrics(scores.codes, scores.probabilities(temperature), scores.task, groups=groups)
    return ProbabilityQuality(found.log_loss, found.brier, found.ece)


def label_thresholds(chosen: ChosenSettings, task: Task) -> LabelThresholds | None:
    """Return the probability from which each label is predicted; None if a response has one label."""
    if (thresholds := chosen.thresholds) is None:
        return None
    return LabelThresholds(
        dict(zip(task.names, thresholds.values, strict=True)),
        dict(zip(task.names, thresholds.f1, strict=True)),
        thresholds.notes,
    )


def review_figures(
    chosen: ChosenSettings, validation: ValidationScores, test: TestScores, positive: str | None = None
) -> DecisionRule:
    """Return the decision rule and its outcome on both splits."""
    choice, temperature = chosen.review, chosen.temperature
    return DecisionRule(
        aim=StatedAim(**asdict(choice.aim)) if choice.aim else None,
        met=choice.met,
        rule=choice.rule,
        least_chance=choice.least_chance,
        label_shifts=choice.label_shifts,
        notes=choice.notes,
        validation=rule_outcome(validation, temperature, choice.rule, positive=positive),
        test=rule_outcome(test, temperature, choice.rule, positive=positive),
        risk_coverage=RiskCoverage(
            risk_coverage(validation, temperature, choice.label_shifts),
            risk_coverage(test, temperature, choice.label_shifts),
        ),
        questions=_question_figures(chosen, test, positive),
        guarantee=choice.guarantee,
        labels_tested=choice.labels_tested,
    )


def _question_figures(chosen: ChosenSettings, test: TestScores, positive: str | None) -> QuestionFigures | None:
    """Return for which questions the rule was shown, and what it would do with other ones."""
    if (contexts := chosen.contexts) is None:
        return None
    rule = chosen.review.rule
    places = np.flatnonzero(test.new_questions)
    new = replace(test.rows_at(places), new_questions=())
    return QuestionFigures(
        questions=contexts.distinct,
        validation_rows=contexts.rows,
        closed=contexts.closed,
        reviewed=contexts.closed and rule.new_question,
        rows=len(places),
        outcome=rule_outcome(new, chosen.temperature, rule, positive=positive) if len(places) else None,
    )


def population_prevalence(population: Population, student: Checkpoint, test: TestScores) -> PopulationPrevalence:
    """Score the responses that nobody coded, and return the label shares of the whole population.

    Args:
        population: The responses, and the human codes of those that repeat a coded one.
        student: Scores the others.
        test: Its scores of the test rows, from which its error rates come.
    """
    inputs = [dict(response.inputs) for response in population.responses]
    found = prevalence(
        test.label_decoder.labels(student.logits(inputs)) if inputs else (),
        test.codes,
        test.labels,
        test.task,
        known=population.known,
        groups=test.groups_at(range(len(test))),
    )
    set_aside = dict(Counter(row.reason for row in population.set_aside))
    return _extend(PopulationPrevalence, found, file=population.file, read=population.read, set_aside=set_aside)


def build_evaluation(
    splits: Splits,
    section: EvaluationSection,
    chosen: ChosenSettings,
    validation: ValidationScores,
    test: TestScores,
    codings: Mapping[str, Labels],
    *,
    teacher_set_aside: tuple[SetAside, ...] = (),
    between: InterCoderAgreement | None = None,
    prevalence: PopulationPrevalence | None = None,
    twins: SplitTwins | None = None,
    known: KnownQuestions = NO_QUESTIONS,
) -> Evaluation:
    """Compute every figure of the test rows.

    Args:
        splits: The human-coded rows.
        section: Which figures the project file asks for.
        chosen: What the validation rows chose.
        validation: The student's scores of the validation rows, with the chosen thresholds.
        test: Its scores of the test rows, likewise.
        codings: The other codings of the test rows by name: ``teacher``, baselines. Codings without a row are left out.
        teacher_set_aside: Test rows that the teachers left uncoded.
        between: Agreement among several teachers.
        prevalence: The label shares of a population.
        twins: The rows that repeat others, where more are known than `splits` lists.
        known: The questions that the student was trained on.
    """
    twins = twins or splits.twins
    student = dict(zip(test.ids, test.labels, strict=True))
    every = {"student": student, **codings}
    coded = TestCodings.of(splits.test, test.task, {name: coding for name, coding in every.items() if coding})
    distillation: tuple[FidelityStep, ...] = ()
    if codings.get("teacher"):
        distillation = fidelity_steps(replace(coded, codings={"teacher": codings["teacher"], PYTORCH: student}))
    return Evaluation(
        schema_version=EVALUATION_VERSION,
        kind=test.task.kind,
        labels=test.task.names,
        positive=section.positive,
        rows=len(test),
        predefined_split=splits.predefined,
        test_texts_also_in_train_or_validation=len(twins.test_same),
        test_groups_also_in_train_or_validation=splits.repeated_groups,
        twins=twin_figures(twins, coded, section.positive, copies=len(test) - len({row.ids for row in test.encoded})),
        teacher_set_aside=teacher_set_aside,
        between=between,
        agreement={name: _agreement(coded, name, section.positive) for name in coded.codings},
        probabilities=probability_metrics(
            test.codes, test.probabilities(chosen.temperature), test.task, groups=test.groups_at(range(len(test)))
        ),
        calibration=calibration_figures(chosen, validation, test),
        thresholds=label_thresholds(chosen, test.task),
        review=review_figures(chosen, validation, test, section.positive),
        distillation=distillation[0] if distillation else None,
        comparisons=compare_student(coded),
        shifts=precision_recall_shifts(coded, section.positive),
        human_agreement=measure_human_agreement(splits.test, coded, section),
        subgroups=subgroup_tables(splits.test, coded, section),
        prevalence=prevalence,
        questions=question_table(
            splits.test,
            splits.validation,
            coded.codings,
            test,
            chosen.temperature,
            chosen.review.rule,
            known,
            positive=section.positive,
        ),
    )


def twin_figures(twins: SplitTwins, coded: TestCodings, positive: str | None, *, copies: int = 0) -> TwinFigures:
    """Return the counts of rows that repeat others, and the agreement of each coding without them.

    Args:
        twins: The rows that repeat others.
        coded: The codings of the test rows.
        positive: As in `agreement`.
        copies: Number of test rows that are the same as an earlier one.
    """

    def without(ids: frozenset[str], any_of_them: bool) -> dict[str, Agreement]:
        human = {row: label for row, label in coded.human.items() if row not in ids}
        rest = replace(coded, human=human)
        return {
            name: _agreement(rest, name, positive)
            for name in (coded.codings if any_of_them else ())
            if rest.shared_rows(name)
        }

    same, either = frozenset(twins.test_same), frozenset((*twins.test_same, *twins.test_near))
    return TwinFigures(
        len(twins.test_near),
        len(twins.validation_same),
        len(twins.validation_near),
        without(same, bool(same)),
        without(either, bool(twins.test_near)),
        copies,
    )


def _agreement(coded: TestCodings, name: str, positive: str | None) -> Agreement:
    rows = coded.shared_rows(name)
    human, labels = coded.columns(rows, name)
    return agreement(human, labels, coded.task, groups=coded.groups_at(rows), positive=positive)


def _extend(kind: type[T], result: Any, **more: Any) -> T:
    """Return a result with more fields, as a subclass of its dataclass."""
    return kind(**{field.name: getattr(result, field.name) for field in fields(result)}, **more)
