"""Known and unknown questions apart: a student can learn the questions of its train rows and fail on others."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace

from edgedistill.agreement import Agreement, agreement, compare
from edgedistill.data.types import TestRows, ValidationRows
from edgedistill.decisions import TestScores, rule_outcome
from edgedistill.evaluation.types import NamedComparison, QuestionAgreement, QuestionPart, QuestionTable
from edgedistill_serve.bundle.manifest import ReviewRule
from edgedistill_serve.task.contexts import ROWS_PER_CONTEXT
from edgedistill_serve.task.task import Task


@dataclass(frozen=True, slots=True)
class KnownQuestions:
    """The questions that a student was trained on.

    Attributes:
        trained: `Response.question` of the rows of its training set.
        held_out: Whether the project holds whole questions out (``data.questions: held_out``).
    """

    trained: frozenset[str]
    held_out: bool = False


def question_table(
    rows: TestRows,
    validation: ValidationRows,
    codings: Mapping[str, Mapping[str, str]],
    scores: TestScores,
    temperature: float,
    rule: ReviewRule,
    known: KnownQuestions,
    *,
    positive: str | None = None,
) -> QuestionTable | None:
    """Compare every coding with the human codes on test rows of known and of unknown questions.

    Rows of unknown questions are resampled by question: what is to be known is the agreement on other questions.

    Args:
        rows: The test rows.
        validation: The validation rows.
        codings: By name and row, the label.
        scores: The student's scores of the test rows, in their order.
        temperature: Divides the logits.
        rule: The decision rule, whose outcome each part has.
        known: The questions that the student was trained on.
        positive: As in `agreement`.

    Returns:
        The table; None where rows have no questions, or nearly every validation row has its own question and none is
        held out.
    """
    asked = [row.response.question for row in validation]
    if not asked or not all(asked) or not (known.held_out or len(asked) >= ROWS_PER_CONTEXT * len(set(asked))):
        return None
    questions = {row.response.id: row.response.question for row in rows}
    human = {row.response.id: row.label for row in rows}
    groups = dict(zip(scores.ids, scores.groups, strict=True)) if scores.groups else None

    def part(*, trained: bool) -> QuestionPart | None:
        places = [at for at, row in enumerate(scores.ids) if (questions[row] in known.trained) is trained]
        ids = [scores.ids[place] for place in places]
        if not ids:
            return None
        clusters = groups if trained else questions
        chosen = scores.rows_at(places)
        if clusters is not None:
            chosen = replace(chosen, groups=tuple(clusters[row] for row in ids))
        return QuestionPart(
            rows=len(ids),
            questions=len({questions[row] for row in ids}),
            agreement={
                name: _agreement(human, coding, ids, clusters, scores.task, positive)
                for name, coding in codings.items()
                if any(row in coding for row in ids)
            },
            review=rule_outcome(chosen, temperature, rule, positive=positive),
            comparisons=tuple(_comparisons(human, codings, ids, clusters, scores.task)),
        )

    return QuestionTable(
        held_out=known.held_out,
        validation_rows_of_known=sum(question in known.trained for question in asked),
        validation_rows_of_unknown=sum(question not in known.trained for question in asked),
        validation_questions=len(set(asked)),
        known=part(trained=True),
        unknown=part(trained=False),
        by_question=_by_question(scores, questions, temperature, rule, known),
    )


def _by_question(
    scores: TestScores, questions: Mapping[str, str], temperature: float, rule: ReviewRule, known: KnownQuestions
) -> tuple[QuestionAgreement, ...]:
    """Measure the student on the test rows of each question, the least accuracy first."""
    places: dict[str, list[int]] = {}
    for place, row in enumerate(scores.ids):
        places.setdefault(questions[row], []).append(place)
    found = []
    for question, of_question in places.items():
        some = scores.rows_at(of_question)
        measured = agreement(some.codes, some.labels, scores.task, groups=some.groups)
        accepted = sum(score.decision == "accept" for score in some.apply_rule(temperature, rule))
        found.append(
            QuestionAgreement(
                question, question in known.trained, len(of_question), accepted, measured.accuracy, measured.kappa
            )
        )
    return tuple(sorted(found, key=lambda each: (each.accuracy.value, -each.rows, each.question)))


def _comparisons(
    human: Mapping[str, str],
    codings: Mapping[str, Mapping[str, str]],
    ids: Sequence[str],
    clusters: Mapping[str, str] | None,
    task: Task,
) -> Iterator[NamedComparison]:
    """Compare the student with every other coding, on the rows that the other coded."""
    for name, coding in codings.items():
        rows = [row for row in ids if row in coding and row in codings["student"]]
        if name == "student" or not rows:
            continue
        compared = compare(
            [human[row] for row in rows],
            [coding[row] for row in rows],
            [codings["student"][row] for row in rows],
            task,
            groups=None if clusters is None else [clusters[row] for row in rows],
        )
        values = {field.name: getattr(compared, field.name) for field in fields(compared)}
        yield NamedComparison(**values, first=name, second="student")


def _agreement(
    human: Mapping[str, str],
    coding: Mapping[str, str],
    ids: Sequence[str],
    clusters: Mapping[str, str] | None,
    task: Task,
    positive: str | None,
) -> Agreement:
    coded = [row for row in ids if row in coding]
    return agreement(
        [human[row] for row in coded],
        [coding[row] for row in coded],
        task,
        groups=None if clusters is None else [clusters[row] for row in coded],
        positive=positive,
    )
