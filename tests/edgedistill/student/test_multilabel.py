"""Multilabel students: loss, evaluation, the frozen encoder and the smaller student."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from edgedistill.errors import ProjectFileError, RunError
from edgedistill.project.student import LossSection, ShrinkSection
from edgedistill.student import train_student
from edgedistill.student.compression import compare_students, compress_student
from edgedistill.student.data import mixture_rows
from edgedistill.student.frozen import fit_frozen, predict_frozen, train_frozen_student, write_frozen
from edgedistill.student.label_thresholds import label_decoder_from_logits
from edgedistill.student.losses import build_loss
from edgedistill_export.checkpoint import Checkpoint
from edgedistill_serve.scoring.encoding import Encoder
from edgedistill_serve.task.label_decoding import LabelDecoder
from edgedistill_serve.task.task import Task

from .conftest import make_section
from .multilabels import MULTILABEL, mixture_of_sets, validation_of_sets

CODES = list(validation_of_sets().labels)
TEXTS = [row.response.inputs for row in validation_of_sets()]


@pytest.fixture(scope="module")
def trained(backbones, tmp_path_factory):
    """A tiny student that knows the toy."""
    folder = tmp_path_factory.mktemp("multilabel") / "student"
    section = make_section(learning_rate=(4e-3,), epochs=(8,))
    return train_student(mixture_of_sets(), validation_of_sets(), MULTILABEL, section, backbones["bert"], folder)


def agreeing(labels):
    return np.mean([one == other for one, other in zip(labels, CODES, strict=True)])


def test_a_student_learns_a_multilabel_task(trained):
    student = Checkpoint.load(trained.folder, MULTILABEL, 24)
    logits = student.logits(TEXTS)
    assert agreeing(label_decoder_from_logits(logits, CODES, MULTILABEL).labels(logits)) > 0.9
    assert trained.best.validation_macro_f1 > 0.9


def test_an_epoch_s_accuracy_is_exact_match_and_its_loss_binary(trained):
    best = trained.best.best
    logits = Checkpoint.load(trained.folder, MULTILABEL, 24).logits(TEXTS).astype(np.float64)
    held = np.array([[name in code.split(";") for name in MULTILABEL.names] for code in CODES])
    loss = np.where(held, np.log1p(np.exp(-logits)), np.log1p(np.exp(logits))).mean()
    assert best.loss == pytest.approx(loss, rel=1e-3)
    assert best.accuracy == agreeing(LabelDecoder(MULTILABEL, 1.0, (0.5, 0.5, 0.5)).labels(logits))


def test_the_checkpoint_is_marked_as_multilabel(trained):
    config = json.loads((trained.folder / "config.json").read_text())
    assert config["problem_type"] == "multi_label_classification"


def loss_function(**given):
    return build_loss(LossSection(**given), MULTILABEL, mixture_of_sets(6))


def test_soft_labels_are_the_shares_of_votes_for_each_label():
    logits, hard = torch.tensor([[0.3, -1.2, 2.0]]), torch.tensor([[1.0, 0.0, 1.0]])
    shares = torch.tensor([[2 / 3, 1 / 3, 1.0]])
    found = float(loss_function(targets="soft").loss(logits, hard, shares))
    chance = logits.sigmoid()
    assert found == pytest.approx(float(-(shares * chance.log() + (1 - shares) * (1 - chance).log()).mean()))
    assert float(loss_function().loss(logits, hard, shares)) != pytest.approx(found)


def test_hard_and_soft_targets_are_weighted():
    logits, hard = torch.tensor([[0.3, -1.2, 2.0]]), torch.tensor([[1.0, 0.0, 1.0]])
    shares = torch.tensor([[2 / 3, 1 / 3, 3 / 4]])
    alone = [float(loss_function(targets=name).loss(logits, hard, shares)) for name in ("soft", "hard")]
    both = float(loss_function(targets="both", soft_weight=0.25).loss(logits, hard, shares))
    assert both == pytest.approx(0.25 * alone[0] + 0.75 * alone[1])


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_shares_of_0_and_1_have_the_hard_loss_at_any_temperature(temperature):
    logits, hard = torch.tensor([[0.3, -1.2, 2.0]]), torch.tensor([[1.0, 0.0, 1.0]])
    soft = loss_function(targets="soft", temperature=temperature).loss(logits, hard, hard)
    assert float(soft) == pytest.approx(float(loss_function().loss(logits, hard)))


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_the_optimum_is_the_soft_label_at_any_temperature(temperature):
    expected, hard = torch.tensor([[0.8, 0.3, 0.5]]), torch.tensor([[1.0, 0.0, 1.0]])
    logits = torch.zeros(1, 3, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.05)
    for _ in range(400):
        optimizer.zero_grad()
        loss_function(targets="soft", temperature=temperature).loss(logits, hard, expected).backward()
        optimizer.step()
    assert logits.sigmoid().detach().numpy() == pytest.approx(expected.numpy(), abs=0.01)


def test_class_weights_are_refused_with_a_hint():
    with pytest.raises(ProjectFileError, match=r"do not support multilabel tasks. Remove it"):
        loss_function(class_weights="balanced")


def test_a_row_without_a_label_trains_all_labels_as_absent(trained):
    encoder = Encoder(trained.folder / "tokenizer.json", 24)
    rows = mixture_rows([replace(mixture_of_sets(1)[0], label="none", shares={})], MULTILABEL, encoder)
    assert (rows[0].target, rows[0].shares) == ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0))


def test_the_frozen_encoder_learns_each_label_separately(bert, tmp_path):
    heads = fit_frozen(mixture_of_sets(), validation_of_sets(), MULTILABEL, 24, bert)
    write_frozen(heads[0], MULTILABEL, 24, tmp_path / "frozen.safetensors")
    coding = predict_frozen(tmp_path / "frozen.safetensors", bert, MULTILABEL, TEXTS)
    assert heads[0].macro_f1 > 0.8
    assert len(heads[0].thresholds) == 3
    assert agreeing(coding.labels) > 0.7
    assert ((coding.probabilities >= 0) & (coding.probabilities <= 1)).all()


def test_the_frozen_encoder_never_predicts_a_label_without_rows(bert):
    rows = [row for row in mixture_of_sets() if "other" not in row.label]
    head = fit_frozen(rows, validation_of_sets(), MULTILABEL, 24, bert)[0]
    assert head.bias[2] == -1e4


def test_a_head_of_a_nominal_task_is_refused_for_a_multilabel_task(bert, mixture, validation, task, tmp_path):
    write_frozen(fit_frozen(mixture, validation, task, 24, bert)[0], task, 24, tmp_path / "frozen.safetensors")
    with pytest.raises(RunError, match="Train again"):
        predict_frozen(tmp_path / "frozen.safetensors", bert, MULTILABEL, TEXTS)


def test_the_checkpoint_of_a_frozen_student_predicts_like_its_head(bert, tmp_path):
    section = make_section().model_copy(update={"kind": "frozen"})
    heads = train_frozen_student(
        mixture_of_sets(), validation_of_sets(), MULTILABEL, section, bert, tmp_path / "student"
    )
    logits = Checkpoint.load(tmp_path / "student", MULTILABEL, 24).logits(TEXTS)
    assert agreeing(label_decoder_from_logits(logits, CODES, MULTILABEL).labels(logits)) == pytest.approx(
        heads[0].accuracy, abs=0.2
    )


def test_a_smaller_student_learns_the_first_one_s_probabilities(trained, tmp_path):
    section = ShrinkSection(layers=1, epochs=6, learning_rate=5e-3, batch_size=8)
    texts = [row.inputs for row in mixture_of_sets()]
    shrunk = compress_student(trained.folder, tmp_path / "small", texts, TEXTS, MULTILABEL, section, 24)
    assert shrunk.best.macro_f1 > 0.9
    students = [Checkpoint.load(folder, MULTILABEL, 24) for folder in (trained.folder, shrunk.folder)]
    compared = compare_students(*students, TEXTS, CODES)
    assert compared.change.flips <= 6


def test_a_nominal_task_with_the_same_labels_is_another_task(trained):
    nominal = Task(kind="nominal", labels=MULTILABEL.labels, inputs=MULTILABEL.inputs)
    with pytest.raises(Exception, match="multi_label_classification"):
        Checkpoint.load(trained.folder, nominal, 24)
