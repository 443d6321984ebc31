"""A finished student's label shares are moved to those of the human codes of its validation rows."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax

from edgedistill.data.types import TestRows, ValidationRows
from edgedistill.errors import TrainingFailed
from edgedistill.student.checkpoints import copy_files
from edgedistill.student.model import load_model, load_tokenizer_and_padding, quiet_transformers
from edgedistill.student.nano import write_nano_start
from edgedistill.student.prior_correction import (
    LEAST_ROWS,
    PRIOR_ROWS,
    correct_prior,
    fit_prior_correction,
    is_corrected,
    shift_to,
)
from edgedistill_export.checkpoint import Checkpoint
from edgedistill_export.convert.exporter import to_onnx
from edgedistill_export.quantize.recipes import DEFAULT
from edgedistill_serve.scoring.session import Session
from edgedistill_serve.task.task import Label, Task, task_inputs

from .conftest import WORDS, make_mixture, make_section, make_validation
from .families import DECODERS, ENCODERS, save_backbone

TASK = Task("nominal", tuple(map(Label, "abc")), ("response",))


def draw(rows, seed=0):
    """Logits of a calibrated student, and codes drawn from its probabilities."""
    rng = np.random.default_rng(seed)
    logits = 2 * rng.normal(size=(rows, 3)) + [0.5, 0, -0.5]
    return logits, ["abc"[rng.choice(3, p=row)] for row in softmax(logits, axis=1)]


def values(found):
    return [found.shift[name] for name in "abc"]


def test_a_known_shift_is_found():
    logits, codes = draw(20_000)
    wrong = np.array([-1.0, 0.2, 0.8])
    found = fit_prior_correction(logits + wrong, codes, TASK)
    assert values(found) == pytest.approx(-wrong, abs=0.05)
    assert [found.before[name] - found.human[name] for name in "ac"] != pytest.approx([0, 0], abs=0.1)


def test_the_mean_probability_becomes_the_human_share_shrunk_by_twenty_rows():
    logits, codes = draw(150)
    found = fit_prior_correction(logits + np.array([-1.0, 0.2, 0.8]), codes, TASK)
    for name in "abc":
        assert found.human[name] == codes.count(name) / 150
        target = (codes.count(name) + PRIOR_ROWS * found.before[name]) / (150 + PRIOR_ROWS)
        assert found.after[name] == pytest.approx(target, abs=1e-8)
    assert sum(values(found)) == pytest.approx(0, abs=1e-12)


def test_nothing_changes_where_the_shares_agree():
    logits = np.tile(np.eye(3), (50, 1))
    found = fit_prior_correction(logits, list("abc") * 50, TASK)
    assert (found.shift, found.note) == ({}, "")
    assert found.after == found.before


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.floats(-8, 8), min_size=12, max_size=12),
    st.lists(st.floats(0.01, 1), min_size=4, max_size=4),
)
def test_every_target_is_reached(logits, weights):
    target = np.array(weights) / sum(weights)
    scored = np.array(logits).reshape(3, 4)
    assert softmax(scored + shift_to(scored, target), axis=1).mean(axis=0) == pytest.approx(target, abs=1e-6)


def test_too_few_rows_leave_the_student_as_it_is():
    logits, codes = draw(LEAST_ROWS - 1)
    found = fit_prior_correction(logits + np.array([3, 0, 0]), codes, TASK)
    assert (found.shift, found.note) == ({}, "there are 99 validation rows, and it needs 100")


def test_a_label_without_a_validation_row_leaves_the_student_as_it_is():
    logits, codes = draw(200)
    found = fit_prior_correction(logits, [{"c": "b"}.get(code, code) for code in codes], TASK)
    assert (found.shift, found.note) == ({}, "no validation row has the label 'c'")


def test_a_label_that_the_student_never_gives_leaves_it_as_it_is():
    logits, codes = draw(200)
    found = fit_prior_correction(logits - np.array([0, 0, 1e4]), codes, TASK)
    assert (found.shift, found.note) == ({}, "the student never gives the label 'c'")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_logit_that_is_not_a_number_is_refused(value):
    logits, codes = draw(200)
    logits[7, 1] = value
    with pytest.raises(TrainingFailed, match="logits of 1 of 200 validation rows are not numbers"):
        fit_prior_correction(logits, codes, TASK)


def mixture_of(**counts):
    rows = iter(make_mixture(sum(counts.values())))
    return [replace(next(rows), source=source) for source, count in counts.items() for _ in range(count)]


@pytest.mark.parametrize(
    ("setting", "mixture", "weights", "expected"),
    [
        ("auto", mixture_of(human=10, teacher=11), "none", True),
        ("auto", mixture_of(human=10, teacher=6, synthetic=5), "none", True),
        ("auto", mixture_of(human=10, teacher=10), "none", False),
        ("auto", mixture_of(human=10), "none", False),
        ("auto", mixture_of(teacher=10), "balanced", False),
        (True, mixture_of(human=10), "none", True),
        (False, mixture_of(teacher=10), "none", False),
    ],
)
def test_auto_corrects_where_most_labels_are_not_human(setting, mixture, weights, expected, task):
    section = make_section()
    loss = section.loss.model_copy(update={"class_weights": weights})
    section = section.model_copy(update={"prior_correction": setting, "loss": loss})
    assert is_corrected(section, mixture, task) is expected
    multilabel = Task("multilabel", task.labels, task.inputs)
    assert is_corrected(section, mixture, multilabel) is False


@pytest.fixture(scope="module")
def validation():
    """Rows whose codes are not distributed as a random student's."""
    labels = ["process"] * 80 + ["outcome"] * 30 + ["other"] * 10
    rows = make_validation(120)
    return ValidationRows(tuple(replace(row, label=label) for row, label in zip(rows, labels, strict=True)))


@pytest.fixture
def wanted():
    return make_section().model_copy(update={"prior_correction": True})


@pytest.fixture(scope="module")
def student_of(tmp_path_factory, backbones):
    """The maker of untrained students: family, or nano."""

    def make(family, task):
        folder = tmp_path_factory.mktemp(f"student-{family}")
        backbone = backbones.get(family) or tmp_path_factory.mktemp(f"backbone-{family}")
        if family == "nano":
            texts = [row.inputs for row in make_mixture()]
            backbone = write_nano_start(backbones["bert"], backbone / "start", texts, task, 24).folder
        elif family not in backbones:
            save_backbone(family, WORDS, backbone)
        with quiet_transformers():
            model = load_model(backbone, task)
            model.config.pad_token_id = load_tokenizer_and_padding(backbone, model, folder).token
            model.save_pretrained(folder)
        return folder

    return make


def inputs_of(validation):
    return [dict(row.response.inputs) for row in validation]


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "nano", *ENCODERS, *DECODERS])
def test_the_checkpoint_has_the_shift_in_its_last_bias(family, student_of, validation, wanted, task):
    folder = student_of(family, task)
    before = Checkpoint.load(folder, task, 24).logits(inputs_of(validation))
    found = correct_prior(folder, make_mixture(), validation, task, wanted)
    after = Checkpoint.load(folder, task, 24).logits(inputs_of(validation))
    assert after - before == pytest.approx(np.tile(list(found.shift.values()), (120, 1)), abs=1e-4)
    assert softmax(after, axis=1).mean(axis=0) == pytest.approx(list(found.after.values()), abs=1e-4)
    assert found.after["process"] > found.before["process"]


@pytest.mark.parametrize("family", ["bert", "qwen2"])
def test_the_graphs_of_a_corrected_student_are_those_of_the_uncorrected_one_with_the_shift(
    family, student_of, validation, wanted, task, tmp_path
):
    folder, plain = student_of(family, task), tmp_path / "plain"
    plain.mkdir()
    copy_files(folder, plain)
    found = correct_prior(folder, make_mixture(), validation, task, wanted)
    shift = np.array(list(found.shift.values()))
    logits = {}
    for name, place in (("plain", plain), ("corrected", folder)):
        student = Checkpoint.load(place, task, 24)
        rows = student.encoder.encode([task_inputs(row, task) for row in inputs_of(validation)])
        fp32, int8 = tmp_path / f"{name}.onnx", tmp_path / f"{name}-int8.onnx"
        to_onnx(student, fp32)
        DEFAULT(fp32, int8, rows)
        for file in (fp32, int8):
            session = Session(file, overflow_free=True)
            logits[name, file is int8] = np.array([session.logits(row) for row in rows[:20]])
    for quantized in (False, True):
        assert logits["corrected", quantized] - logits["plain", quantized] == pytest.approx(
            np.tile(shift, (20, 1)), abs=1e-4
        )


def test_a_hard_link_of_the_uncorrected_weights_keeps_them(student_of, validation, wanted, task, tmp_path):
    folder = student_of("bert", task)
    copy_files(folder, tmp_path)
    before = (folder / "model.safetensors").read_bytes()
    correct_prior(folder, make_mixture(), validation, task, wanted)
    assert (tmp_path / "model.safetensors").read_bytes() == before
    assert (folder / "model.safetensors").read_bytes() != before


def test_a_corrected_student_is_not_corrected_again(student_of, validation, wanted, task):
    folder = student_of("bert", task)
    first = correct_prior(folder, make_mixture(), validation, task, wanted)
    written = (folder / "model.safetensors").read_bytes()
    assert correct_prior(folder, make_mixture(), validation, task, wanted) == first
    assert (folder / "model.safetensors").read_bytes() == written


def test_a_student_that_is_not_to_be_corrected_is_not_even_scored(student_of, task):
    folder = student_of("bert", task)
    written = (folder / "model.safetensors").read_bytes()
    assert correct_prior(folder, make_mixture(), make_validation(120), task, make_section()) is None
    few = make_section().model_copy(update={"prior_correction": True})
    assert correct_prior(folder, make_mixture(), make_validation(30), task, few).before == {}
    assert (folder / "model.safetensors").read_bytes() == written


def test_test_rows_cannot_fit_the_correction(wanted, task, tmp_path):
    with pytest.raises(TrainingFailed, match="these are TestRows"):
        correct_prior(tmp_path, make_mixture(), TestRows(()), task, wanted)
