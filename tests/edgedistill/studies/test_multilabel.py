"""Studies of multilabel tasks: supported kinds, and kinds that are refused."""

import csv
from dataclasses import replace

import pytest

from edgedistill.agreement import agreement
from edgedistill.data import TestRows, ValidationRows
from edgedistill.data.types import CodedResponse, Response
from edgedistill.errors import DataError, ProjectFileError
from edgedistill.project import read_project
from edgedistill.studies.estimates import score_result, summarize_conditions
from edgedistill.studies.study import run_study
from edgedistill.studies.study_file import read_study
from edgedistill.studies.types import Predictions, RunPlan, RunResult, StudentResult
from edgedistill_serve.task.task import Label, Task

from ..pipeline.test_multilabel import write
from .study_inputs import inputs

TASK = Task(kind="multilabel", labels=(Label("a"), Label("b")), inputs=("response",))
CODES = ["a", "b", "a;b", "none"] * 5
STUDY = """\
name: sets
tasks: [{{project: sets.yaml, texts: train, labels: {{gpt: labels.jsonl}}, {more} }}]
student: {{steps: 100, max_epochs: 12, learning_rate: [5e-3]}}
label_source: {{human: [60], teacher: [60], consistent_only: false}}
"""


def coded(codes):
    return tuple(
        CodedResponse(Response(f"t{place}", {"response": f"text {place}"}, "h.csv", place), code)
        for place, code in enumerate(codes)
    )


def lines(condition, labels, reference=""):
    rows = coded(CODES)
    task = replace(inputs(), task=TASK, validation=ValidationRows(rows), tests={"test": TestRows(rows)})
    shares = tuple((0.9 if "a" in code else 0.2, 0.8 if "b" in code else 0.1) for code in labels)
    outcome = RunResult("id", (StudentResult(0, {"human": 5}, (Predictions("test", tuple(labels), shares),), 1.0),))
    plan = RunPlan("toy", condition, "fine-tuned", 0, reference=reference)
    return list(score_result(plan, outcome, task)), task


def test_the_metrics_of_a_condition_are_multilabel_metrics():
    predicted = ["a", "b", "a", "a"] * 5
    found, task = lines("x", predicted)
    (summary,) = summarize_conditions(found, {"toy": task})
    expected = agreement(CODES, predicted, TASK)
    assert summary.macro_f1.value == pytest.approx(expected.macro_f1.value)
    assert summary.kappa.value == pytest.approx(expected.kappa.value)
    assert 0.5 < summary.auc < 1


def test_a_difference_is_computed_on_the_same_resampled_rows():
    worse, task = lines("worse", ["a"] * 20)
    same, _ = lines("better", CODES, reference="worse")
    _, better = summarize_conditions([*worse, *same], {"toy": task})
    assert better.difference.macro_f1.low > 0


@pytest.fixture
def study_of(tmp_path):
    """A function that writes a study file and a small project with recorded labels of its train rows."""

    def make(more="positive: outcome", label=lambda row: row["label"]):
        project = write(tmp_path, "http://127.0.0.1:9/v1")
        with (tmp_path / "human.csv").open(newline="") as stream:
            rows = list(csv.DictReader(stream))
        recorded = (
            f'{{"id": "{row["id"]}", "label": "{label(row)}", "consistency": 1.0, "shares": '
            f'{{}}, "votes": ["{label(row)}"], "teacher": "gpt"}}\n'
            for row in rows
        )
        (tmp_path / "labels.jsonl").write_text("".join(recorded))
        (tmp_path / "study.yaml").write_text(STUDY.format(more=more))
        return read_study(tmp_path / "study.yaml"), read_project(project)

    return make


def test_label_sources_are_compared_for_a_multilabel_task(study_of):
    study, _ = study_of()
    report = run_study(study, "label-source", offline=True)
    assert report.failed == 0
    with (report.folder / "runs.csv").open(newline="") as stream:
        runs = [row for row in csv.DictReader(stream) if row["test"] == "test"]
    by_condition = {row["condition"]: row for row in runs}
    assert {"human 60", "human 60, frozen", "teacher 60", "teacher 60, frozen", "the teacher itself"} <= set(
        by_condition
    )
    assert float(by_condition["the teacher itself"]["accuracy"]) == 1.0
    assert all(float(row["kappa"] or 0) > 0.2 for row in runs)


def test_a_recorded_label_unknown_to_the_task_is_refused(study_of):
    study, _ = study_of(label=lambda _: "process;praise")
    with pytest.raises(DataError, match=r"labels\.jsonl: 'praise' is not a label"):
        run_study(study, "label-source", offline=True)


def test_a_study_of_synthetic_rows_is_refused_with_a_hint(study_of):
    study, _ = study_of(more="synthetic: {gpt: human.csv}")
    with pytest.raises(ProjectFileError, match=r"the task 'sets' is multilabel.*Remove this task"):
        run_study(study, "ratio", offline=True)
