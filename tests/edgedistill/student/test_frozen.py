"""The frozen encoder with a fitted head, as a baseline and as a student."""

from dataclasses import replace

import numpy as np
import pytest

from edgedistill.errors import RunError, TrainingFailed
from edgedistill.student.frozen import fit_frozen, pooled_states, predict_frozen, train_frozen_student, write_frozen
from edgedistill_export.checkpoint import Checkpoint
from edgedistill_serve.task.task import Label, Task


def texts(validation):
    return [row.response.inputs for row in validation]


def test_a_linear_head_learns_keyword_labels(bert, mixtures, validation, task):
    heads = fit_frozen(mixtures(192), validation, task, 24, bert)
    assert heads[0].macro_f1 > 0.8


def test_the_head_with_the_lowest_validation_loss_comes_first(bert, mixture, validation, task):
    heads = fit_frozen(mixture, validation, task, 24, bert)
    assert len(heads) == 12
    assert heads[0].loss == min(head.loss for head in heads)
    assert {head.pooling for head in heads} == {"mean", "first"}


def test_a_saved_head_predicts_like_the_fitted_one(bert, mixture, validation, task, tmp_path):
    head = fit_frozen(mixture, validation, task, 24, bert)[0]
    write_frozen(head, task, 24, tmp_path / "frozen.safetensors")
    coding = predict_frozen(tmp_path / "frozen.safetensors", bert, task, texts(validation))
    right = np.mean([label == row.label for label, row in zip(coding.labels, validation, strict=True)])
    assert right == pytest.approx(head.accuracy)
    assert coding.probabilities.sum(axis=1) == pytest.approx(np.ones(len(validation)))
    assert [path.name for path in tmp_path.iterdir()] == ["frozen.safetensors"]


def test_the_prediction_of_a_row_does_not_depend_on_other_rows(bert, mixture, validation, task, tmp_path):
    file = tmp_path / "frozen.safetensors"
    write_frozen(fit_frozen(mixture, validation, task, 24, bert)[0], task, 24, file)
    together = predict_frozen(file, bert, task, texts(validation)).probabilities[7]
    alone = predict_frozen(file, bert, task, [texts(validation)[7]]).probabilities[0]
    assert (together == alone).all()


def test_two_labels_have_two_probabilities(bert, mixture, validation, task, tmp_path):
    two = Task("nominal", (Label("process"), Label("rest")), ("response",))

    def joined(label):
        return "process" if label == "process" else "rest"

    rows = [replace(row, label=joined(row.label), shares={}) for row in mixture]
    relabelled = type(validation)(tuple(replace(row, label=joined(row.label)) for row in validation))
    head = fit_frozen(rows, relabelled, two, 24, bert)[0]
    assert head.weights.shape[0] == 2
    assert head.accuracy > 0.7


def test_a_label_without_rows_is_never_predicted(bert, mixture, validation, task):
    rows = [row for row in mixture if row.label != "other"]
    head = fit_frozen(rows, validation, task, 24, bert)[0]
    states = pooled_states(bert, task, 24, texts(validation))[head.pooling]
    logits = head.logits(states)
    assert (logits[:, task.names.index("other")] < logits.max(axis=1) - 1000).all()


def test_a_head_of_other_labels_is_refused(bert, mixture, validation, task, tmp_path):
    file = tmp_path / "frozen.safetensors"
    write_frozen(fit_frozen(mixture, validation, task, 24, bert)[0], task, 24, file)
    other = Task("nominal", (Label("a"), Label("b")), ("response",))
    with pytest.raises(RunError, match="its labels are process, outcome, other"):
        predict_frozen(file, bert, other, texts(validation))


def test_a_damaged_head_is_refused(bert, validation, task, tmp_path):
    (tmp_path / "frozen.safetensors").write_text("no tensors")
    with pytest.raises(RunError, match="is missing or damaged"):
        predict_frozen(tmp_path / "frozen.safetensors", bert, task, texts(validation))


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert"])
def test_the_frozen_student_scores_like_the_fitted_head(
    family, backbones, mixture, validation, task, section, tmp_path
):
    heads = train_frozen_student(mixture, validation, task, section, backbones[family], tmp_path / "student")
    logits = Checkpoint.load(tmp_path / "student", task, 24).logits(texts(validation))
    states = pooled_states(backbones[family], task, 24, texts(validation))["first"]
    assert logits == pytest.approx(states @ heads[0].weights.T + heads[0].bias, abs=1e-3)


def test_test_rows_cannot_select_the_head(bert, mixture, task):
    from edgedistill.data.types import TestRows

    with pytest.raises(TrainingFailed, match="these are TestRows"):
        fit_frozen(mixture, TestRows(()), task, 24, bert)
