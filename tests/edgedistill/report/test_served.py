"""After an export, the report is about the graph that is served, and names the student in PyTorch beside it."""

import json
import re
from dataclasses import replace

import msgspec
import pytest

from edgedistill.agreement import Agreement, Estimate
from edgedistill.evaluation.types import Evaluation, Fidelity
from edgedistill.report.page import render_page
from edgedistill.report.verdict import VerdictAnswer, verdict

from .runs import evaluation_of, exported, fidelity_of, gate_of, inputs_of_run, write_run
from .test_page import Seen
from .test_verdict import _about, _no_rule, _requirements, _rule
from .verdicts import evaluation, student, with_student


def _verdict_of(before, served, **changes):
    made = with_student(before, **{"review": _no_rule(), **changes})
    return verdict(made, None, exported(made, served))


@pytest.mark.parametrize("before", [(0.7, 0.9), (0.4, 0.7), (0.1, 0.3)])
@pytest.mark.parametrize(
    ("served", "answer"),
    [
        ((0.65, 0.85), VerdictAnswer.YES),
        ((0.5, 0.7), VerdictAnswer.INCONCLUSIVE),
        ((0.2, 0.5), VerdictAnswer.NO),
    ],
)
def test_the_served_graph_decides_whatever_the_student_reached_before_the_export(before, served, answer):
    found = _verdict_of(student(*before), student(*served))
    assert found.answer is answer
    assert found.reason.startswith("The served model (int8) and the human coders agree on")
    of_served, of_student = found.reason.split("Before the export")
    assert f"{sum(served) / 2:.3f}"[1:] in of_served
    assert f"{sum(before) / 2:.3f}"[1:] in of_student
    assert "the export changes 0\u00a0labels (κ lost: " in of_student


def test_the_served_graph_decides_for_every_label():
    found = _verdict_of(student(), student(labels={"none": (40, 0.1, 0.4)}))
    assert [each.value for each in _requirements(found).values()] == ["met", "met", "not met"]
    assert found.answer is VerdictAnswer.SOME_LABELS


def test_an_undefined_kappa_of_the_served_graph_is_inconclusive():
    assert _verdict_of(student(), student(kappa=False)).answer is VerdictAnswer.INCONCLUSIVE


def test_the_rows_that_the_rule_accepts_are_those_of_the_served_graph():
    good, poor = (_rule(student(*ends, rows=96)) for ends in ((0.7, 0.9), (0.3, 0.5)))
    made = with_student(student(0.5, 0.7), review=good)
    worse = exported(made, review=replace(good.test, agreement=poor.test.agreement))
    assert verdict(made, None, exported(made)).answer is VerdictAnswer.WITH_REVIEW
    found = verdict(made, None, worse)
    assert found.answer is VerdictAnswer.INCONCLUSIVE
    assert ".400" in found.findings[0].text


def _export_of_an_older_version(made):
    return replace(exported(made, student(0.2, 0.5)), figures=None)


def test_an_export_without_its_other_figures_still_decides_and_says_what_is_missing():
    made = evaluation(review=_no_rule())
    found = verdict(made, None, _export_of_an_older_version(made))
    assert found.answer is VerdictAnswer.NO
    assert "Export it again" in _about(found, "Exported model")[0].text
    assert "the export changes" not in found.reason


def test_an_export_without_agreement_leaves_the_verdict_to_the_student_and_warns():
    found = verdict(evaluation(), None, fidelity_of())
    assert found.reason.startswith("The model and")
    assert _about(found, "Exported model")[0].tone == "warning"


def _shifted(values, by):
    """The figures with every number of an interval moved, so that none equals the original."""
    if isinstance(values, dict):
        if values.keys() == {"value", "low", "high"}:
            return {key: value - by for key, value in values.items()}
        return {key: _shifted(value, by) for key, value in values.items()}
    return [_shifted(value, by) for value in values] if isinstance(values, list) else values


@pytest.mark.parametrize("kind", ["nominal", "ordinal"])
def test_no_figure_of_the_student_is_shown_without_its_name(tmp_path, kind):
    values, lines = evaluation_of(kind=kind)
    made = msgspec.convert(values, type=Evaluation, strict=False)
    agreement = _shifted(values["agreement"]["student"], 0.0537)
    served = exported(made, msgspec.convert(agreement, type=Agreement, strict=False))
    write_run(tmp_path, values, lines, gate=gate_of(), fidelity=served)
    seen = Seen(render_page(inputs_of_run(tmp_path))[1]).words
    before, after = made.student.kappa, served.agreement.kappa
    shown = {each: f"{each.value:.3f}".removeprefix("0") for each in (before, after)}
    verdict_text, rest = seen.split("1. Agreement with human coders", 1)
    reason = verdict_text.split("served model (int8) and the human coders", 1)[1]
    assert shown[after] in reason.split("Before the export")[0]
    assert shown[before] not in reason.split("Before the export")[0]
    header = re.search(r"brackets\. (.*?) rows ", rest.split("Agreement with the human codes", 1)[1])[1]
    assert header == "served model (int8) student (PyTorch) teacher"
    for heading in ("2. Calibration and", "3. Groups of learners and", "7. Misclassified responses"):
        assert "before the export" in rest.split(heading, 1)[1][:300], heading


def test_an_export_of_another_evaluation_is_left_out(tmp_path):
    values, lines = evaluation_of()
    made = msgspec.convert(values, type=Evaluation, strict=False)
    write_run(tmp_path, values, lines, fidelity=exported(made, student(0.1, 0.2)))
    file = tmp_path / "fidelity.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"evaluation": "0" * 64}))
    seen = Seen(render_page(inputs_of_run(tmp_path))[1]).words
    assert "served model" not in seen
    assert "has not been exported since this evaluation" in seen


def test_the_evaluation_of_the_served_graph_keeps_every_other_coding():
    made = evaluation()
    low = student(0.1, 0.2)
    served = exported(made, low).of_served(made)
    assert served.student is low
    assert served.agreement["teacher"] is made.agreement["teacher"]
    assert {table.coding for table in served.subgroups} == {table.coding for table in made.subgroups}
    assert Fidelity.of_served(fidelity_of(), made) is made
    assert made.student.kappa == Estimate(0.8, 0.7, 0.9)
