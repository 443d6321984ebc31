"""What to do next is said with numbers."""

from dataclasses import replace

import pytest

from edgedistill.cli.commands import _next_steps
from edgedistill.report.inputs import ReportInputs, RunLog
from edgedistill.report.next_steps import next_steps
from edgedistill.report.verdict import verdict

from .verdicts import evaluation, gate, student, with_student


def _steps(found, **given):
    inputs = ReportInputs(
        name="praise",
        project_file="praise/project.yaml",
        definitions={},
        evaluation=found,
        fidelity=None,
        gate=None,
        run_log=RunLog(),
        scores=(),
        **given,
    )
    return " ".join(next_steps(inputs, verdict(found, inputs.gate)))


def test_an_inconclusive_verdict_names_the_test_rows_that_would_settle_it():
    text = _steps(with_student(student(0.5, 0.9), human_agreement=None))
    assert "120\u00a0test rows leave [.50,\u00a0.90]; at this κ about 480 would reach 0.6" in text
    assert "square root" in text


def test_a_kappa_below_the_requirement_calls_for_a_better_model_and_not_for_more_rows():
    text = _steps(with_student(student(0.3, 0.8)))
    assert "Improve the model, not the number of test rows" in text
    assert "Code more test rows" not in text


def test_labels_with_few_rows_are_named_with_the_rows_they_need():
    text = _steps(with_student(student(labels={"none": (12, 0.5, 1.0)})))
    assert "none about 34 (now 12)" in text


def test_failed_training_comes_first():
    made = replace(student(0.0, 0.1), confusion=((0, 40, 0),) * 3)
    text = _steps(with_student(made, human_agreement=None))
    assert text.startswith("Train again: every response got the label outcome.")
    assert "second person" not in text
    assert "State how many wrong codes you accept" not in text


@pytest.mark.parametrize(("only_label", "tried"), [(None, True), ("outcome", False)])
def test_a_model_whose_training_failed_is_not_to_be_tried(tmp_path, only_label, tried):
    (tmp_path / "bundle").mkdir()
    steps = _next_steps("report", tmp_path, tmp_path, {"next_steps": ["Train again."], "only_label": only_label})
    assert any("edgedistill-serve serve" in step for step in steps) is tried
    assert "Train again." in steps


def test_a_model_that_may_be_used_is_to_be_exported_and_measured_further():
    text = _steps(evaluation(human_agreement=None))
    assert "`edgedistill export praise/project.yaml`" in text
    assert "`edgedistill review curve praise/project.yaml`" in text
    assert "Let a second person code the 120\u00a0test rows" in text


@pytest.mark.parametrize("passed", [True, False])
def test_a_teacher_that_was_accepted_by_hand_is_mentioned(passed):
    found = evaluation()
    inputs = ReportInputs(
        name="praise", project_file="p", definitions={}, evaluation=found, fidelity=None,
        gate=gate(passed=passed, accepted=not passed), run_log=RunLog(), scores=(),
    )  # fmt: skip
    text = " ".join(next_steps(inputs, verdict(found, inputs.gate)))
    assert ("run the gate again" in text or "Code more validation rows" in text) is not passed
