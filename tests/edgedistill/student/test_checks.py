"""Checks of training and validation rows."""

from dataclasses import replace

import pytest

from edgedistill.data.types import CodedResponse, Response, TestRows, ValidationRows
from edgedistill.errors import TrainingFailed
from edgedistill.student.data import check_rows, mixture_rows, note_truncated_rows
from edgedistill_serve.scoring.encoding import Encoder
from edgedistill_serve.task.task import Label, Task


def test_rows_with_every_label_need_no_note(mixture, validation, task):
    assert check_rows(mixture, validation, task) == ()


def test_test_rows_cannot_select_the_epoch(mixture, validation, task):
    with pytest.raises(TrainingFailed, match="validation rows select the epoch, and these are TestRows"):
        check_rows(mixture, TestRows(validation.rows), task)


def test_validation_needs_rows(mixture, task):
    with pytest.raises(TrainingFailed, match=r"no validation rows. Give `validation` a share"):
        check_rows(mixture, ValidationRows(()), task)


def test_a_mixture_needs_at_least_as_many_rows_as_labels(mixture, validation, task):
    with pytest.raises(TrainingFailed, match="the training set has 2 rows for 3 labels"):
        check_rows(mixture[:2], validation, task)


def test_an_empty_mixture_is_refused(validation, task):
    with pytest.raises(TrainingFailed, match="the training set has 0 rows for 3 labels"):
        check_rows([], validation, task)


def test_a_mixture_needs_two_labels(mixture, validation, task):
    with pytest.raises(TrainingFailed, match="every row of the training set has the label 'process'"):
        check_rows([row for row in mixture if row.label == "process"], validation, task)


def test_an_unknown_label_is_refused_with_its_row(mixture, validation, task):
    with pytest.raises(TrainingFailed) as refused:
        check_rows([*mixture, replace(mixture[0], id="odd", label="Process")], validation, task)
    assert str(refused.value) == (
        "mixture row 'odd': the task has no label 'Process'. Its labels: process, outcome, other."
    )


def test_an_unknown_validation_label_is_refused(mixture, task):
    rows = ValidationRows((CodedResponse(Response("v", {"response": "x"}, "human.csv", 2), "praise"),))
    with pytest.raises(TrainingFailed, match="validation row 'v': the task has no label 'praise'"):
        check_rows(mixture, rows, task)


def test_a_missing_input_is_refused_with_its_row(mixture, validation, task):
    paired_task = Task(kind="nominal", labels=task.labels, inputs=("question", "response"))
    with pytest.raises(TrainingFailed, match="mixture row 'm0': the input 'question' is missing"):
        check_rows(mixture, validation, paired_task)


def multilabel(task):
    return Task(kind="multilabel", labels=task.labels, inputs=task.inputs)


def test_a_multilabel_row_counts_for_each_of_its_labels(mixture, validation, task):
    both = [replace(row, label=";".join(task.names)) for row in mixture]
    alone = [replace(both[0], id="alone", label=task.names[0])]
    notes = check_rows([*both, *alone], validation, multilabel(task))
    assert f"Every training row has the label {task.names[0]!r}: the student cannot learn" in notes[0]
    assert not any("No training row" in note for note in notes)


def test_rows_with_identical_label_sets_are_refused(mixture, validation, task):
    same = [replace(row, label="none") for row in mixture]
    with pytest.raises(TrainingFailed, match="every row of the training set has the label 'none'"):
        check_rows(same, validation, multilabel(task))


def test_an_invalid_multilabel_code_is_refused_with_its_row(mixture, validation, task):
    wrong = [replace(mixture[0], label=f"{task.names[0]};other label"), *mixture[1:]]
    with pytest.raises(TrainingFailed, match="mixture row 'm0': 'other label' is not a label"):
        check_rows(wrong, validation, multilabel(task))


def test_a_label_without_validation_rows_is_noted(mixture, validation, task):
    rows = ValidationRows(tuple(row for row in validation if row.label != "other"))
    assert check_rows(mixture, rows, task) == (
        "No validation row has the label 'other': epoch selection ignores this label.",
    )


def test_a_label_without_mixture_rows_is_noted(mixture, validation, task):
    more = Task(kind="nominal", labels=(*task.labels, Label("rare")), inputs=task.inputs)
    notes = check_rows(mixture, validation, more)
    assert notes[0] == "No training row has the label 'rare': the student cannot learn it."


def test_truncated_responses_are_counted(mixture, task, bert):
    rows = mixture_rows(mixture, task, Encoder(bert / "tokenizer.json", max_tokens=8))
    longer = sum(len(row.inputs["response"].split()) > 6 for row in mixture)
    assert note_truncated_rows(rows, "mixture", 8) == (
        f"{longer} of 96 mixture responses were truncated to max_tokens = 8.",
    )


def test_rows_that_fit_need_no_note(mixture, task, bert):
    assert note_truncated_rows(mixture_rows(mixture, task, Encoder(bert / "tokenizer.json", 24)), "mixture", 24) == ()
