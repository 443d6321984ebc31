"""Known and unknown questions apart: the figures, what the verdict rests on, and what the report says."""

import msgspec
import pytest

from edgedistill.data.splitting import Splits
from edgedistill.data.twins import SplitTwins
from edgedistill.data.types import CodedResponse, Response, TestRows, TrainRows, ValidationRows
from edgedistill.decisions import Circumstances, TestScores, ValidationScores
from edgedistill.evaluation import Evaluation
from edgedistill.evaluation.build import build_evaluation, choose
from edgedistill.evaluation.files import to_plain
from edgedistill.evaluation.questions import KnownQuestions
from edgedistill.project.evaluation import EvaluationSection, ReviewSection
from edgedistill.report.page import render_page
from edgedistill.report.verdict import verdict
from edgedistill_serve.bundle.manifest import ReviewRule
from edgedistill_serve.task.task import Label, Task

from ..report.runs import LABELS, exported, inputs_of_run, scores_of, write_run

TASK = Task("nominal", tuple(map(Label, LABELS)), ("response",))


def rows_of(kind, scores, questions):
    """Rows whose questions have the names ``q0`` … ``qN``, in turn."""
    return kind(
        tuple(
            CodedResponse(Response(row, {"response": f"text {row}"}, "h.csv", 2, None, f"q{at % questions}"), code)
            for at, (row, code) in enumerate(zip(scores.ids, scores.codes, strict=True))
        )
    )


def evaluated(*, held_out, trained, questions=20, validated=4):
    """An evaluation of 200 test rows of questions of which some were trained on."""
    validation = scores_of(ValidationScores, 60, TASK, spread=5.0, seed=1)
    test = scores_of(TestScores, 200, TASK, spread=5.0)
    rows, of_validation = rows_of(TestRows, test, questions), rows_of(ValidationRows, validation, validated)
    section, review = EvaluationSection(), ReviewSection(aim="at_most_to_people", share=0.3)
    return build_evaluation(
        Splits(TrainRows(()), of_validation, rows, False, SplitTwins(), 0, ()),
        section,
        choose(validation, section, review, Circumstances(held_out=held_out)),
        validation,
        test,
        {"overlap baseline": dict(zip(test.ids, test.codes, strict=True))},
        known=KnownQuestions(frozenset(f"q{at}" for at in trained), held_out),
    )


@pytest.fixture(scope="module")
def held_out():
    return evaluated(held_out=True, trained=range(10, 15))


@pytest.fixture(scope="module")
def validated_on_known():
    return evaluated(held_out=False, trained=range(10))


def test_every_coding_is_compared_on_known_and_on_unknown_questions(held_out):
    found = held_out.questions
    assert (found.known.rows, found.known.questions) == (50, 5)
    assert (found.unknown.rows, found.unknown.questions) == (150, 15)
    assert set(found.unknown.agreement) == {"student", "overlap baseline"}
    assert (found.validation_rows_of_known, found.validation_rows_of_unknown) == (0, 60)


def test_intervals_of_unknown_questions_are_over_questions(held_out):
    assert held_out.questions.unknown.agreement["student"].groups == 15
    assert held_out.questions.known.agreement["student"].groups is None


def test_the_verdict_on_held_out_questions_rests_on_the_unknown_ones(held_out):
    agreed = held_out.questions.unknown.agreement["student"]
    reason = verdict(held_out, None).reason
    count = round(agreed.accuracy.value * 150)
    assert reason.replace("\xa0", " ").startswith(
        f"The model and the human coders agree on {count} of 150 test responses to 15 questions that it was not "
        "trained on"
    )


def test_few_unknown_questions_settle_nothing():
    few = evaluated(held_out=True, trained=range(6, 20))
    reason = verdict(few, None).reason.replace("\xa0", " ")
    assert "The rows come from 6 questions; with fewer than 10 no conclusion is drawn." in reason


def test_a_report_warns_where_only_known_questions_were_validated(validated_on_known):
    (warning,) = (
        each for each in verdict(validated_on_known, None).findings if each.heading == "Known and unknown questions"
    )
    assert warning.tone == "warning"
    assert warning.text.endswith(
        "Epoch, calibration and decision rule were chosen on known questions only, and may be wrong for others: set "
        "data.questions: held_out."
    )


def test_the_report_compares_the_model_with_the_overlap_baseline_on_both_kinds_of_questions(held_out):
    found = [each for each in verdict(held_out, None).findings if each.heading.endswith("overlap baseline")]
    assert [each.tone for each in found] == ["warning", "warning"]  # that of this test is always right
    assert found[0].text.startswith(
        "On unknown questions, the model agrees less with the human codes than nine numbers"
    )
    assert found[1].text.startswith("On known questions, ")


def test_held_out_questions_are_accepted_by_the_rule_although_they_are_new(held_out, validated_on_known):
    assert not held_out.review.rule.new_question
    assert validated_on_known.review.rule.new_question


def test_rows_that_have_nearly_all_their_own_question_are_not_taken_apart():
    assert evaluated(held_out=False, trained=range(10), validated=60).questions is None


def test_the_page_has_a_table_for_each_kind_of_question(held_out, tmp_path):
    values = to_plain(held_out)
    lines = [["id", "human", "student", *(f"p:{name}" for name in LABELS), "decision", "reason", "teacher"]]
    test = scores_of(TestScores, 200, TASK, spread=5.0)
    for row, human, score in zip(test.ids, test.codes, test.apply_rule(1.0, ReviewRule()), strict=True):
        shares = [f"{score.probabilities[name]:.6f}" for name in LABELS]
        lines.append([row, human, score.label, *shares, score.decision, "", ""])
    folder = write_run(tmp_path / "run", values, lines, fidelity=exported(msgspec.convert(values, Evaluation)))
    page = render_page(inputs_of_run(folder))[1].replace("\xa0", " ")
    assert "150 test rows of 15 unknown questions" in page
    assert "50 test rows of 5 known questions" in page
    assert "overlap baseline" in page


def test_the_served_model_takes_the_place_of_the_student_in_both_parts(held_out):
    served = exported(held_out, questions=held_out.questions)
    assert served.of_served(held_out).questions == held_out.questions


def test_every_question_has_its_own_line_the_least_accurate_first(validated_on_known):
    lines = validated_on_known.questions.by_question
    assert sum(line.rows for line in lines) == validated_on_known.rows
    assert len({line.question for line in lines}) == len(lines) == 20
    assert [line.accuracy.value for line in lines] == sorted(line.accuracy.value for line in lines)
    assert sum(line.accepted for line in lines) == validated_on_known.review.test.accepted
    assert {line.question for line in lines if line.known} == {f"q{at}" for at in range(10)}
