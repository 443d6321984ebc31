"""A second student with fewer layers, distilled from the first one."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file
from transformers import AlbertConfig, AlbertForSequenceClassification

from edgedistill.agreement import agreement
from edgedistill.errors import TrainingFailed
from edgedistill.project.student import ShrinkSection
from edgedistill.student import train_student
from edgedistill.student.compression import compare_students, compress_student, evenly_spaced, write_with_layers
from edgedistill_export.checkpoint import Checkpoint

SHORT = ShrinkSection(layers=1, epochs=1, learning_rate=5e-3, batch_size=8)


@pytest.fixture(scope="module")
def student(backbones, tmp_path_factory):
    """A tiny trained student."""
    from edgedistill_serve.task.task import Label, Task

    from .conftest import KEYWORDS, make_mixture, make_section, make_validation

    task = Task(kind="nominal", labels=tuple(Label(name) for name in KEYWORDS), inputs=("response",))
    folder = tmp_path_factory.mktemp("student") / "student"
    section = make_section(learning_rate=(4e-3,), epochs=(8,))
    train_student(make_mixture(192), make_validation(), task, section, backbones["bert"], folder)
    return folder


@pytest.fixture
def texts(mixtures):
    return [row.inputs for row in mixtures(192)]


@pytest.fixture
def rows(validation):
    return [row.response.inputs for row in validation]


@pytest.mark.parametrize(
    ("layers", "kept", "places"),
    [(6, 3, (0, 2, 5)), (12, 6, (0, 2, 4, 7, 9, 11)), (6, 6, (0, 1, 2, 3, 4, 5)), (6, 1, (0,)), (2, 1, (0,))],
)
def test_evenly_spaced_layers_include_the_first_and_the_last(layers, kept, places):
    assert evenly_spaced(layers, kept) == places


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert"])
def test_the_given_layers_are_kept_unchanged(family, backbones, task, tmp_path):
    assert write_with_layers(backbones[family], task, [1], 1, tmp_path / "one") == [1]
    before, after = (
        load_file(backbones[family] / "model.safetensors"),
        load_file(tmp_path / "one" / "model.safetensors"),
    )
    layer = next(name for name in before if "layer.1." in name)
    left = next(name for name in after if name.endswith(layer.replace("layer.1.", "layer.0.")))
    assert torch.equal(before[layer], after[left])
    assert not [name for name in after if "layer.1." in name]


def test_a_smaller_student_learns_the_predictions_of_the_first_one(student, texts, rows, task, tmp_path):
    section = ShrinkSection(layers=1, epochs=8, learning_rate=4e-3, batch_size=8)
    shrunk = compress_student(student, tmp_path / "shrunk", texts, rows, task, section, 24)
    first, second = (
        [task.names[best] for best in Checkpoint.load(folder, task, 24).logits(rows).argmax(axis=1)]
        for folder in (student, shrunk.folder)
    )
    assert agreement(first, second, task).kappa.value > 0.8


def test_human_codes_of_the_texts_are_not_used(student, texts, rows, task, tmp_path):
    first = compress_student(student, tmp_path / "a", texts, rows, task, SHORT, 24)
    relabelled = [dict(text) | {"label": "other"} for text in texts]
    second = compress_student(student, tmp_path / "b", relabelled, rows, task, SHORT, 24)
    assert (first.folder / "model.safetensors").read_bytes() == (second.folder / "model.safetensors").read_bytes()


def test_the_vocabulary_is_cut_to_the_tokens_of_the_texts(student, texts, rows, task, tmp_path):
    few = [text for text in texts if "bulb" not in text["response"]]
    shrunk = compress_student(student, tmp_path / "shrunk", few, rows, task, SHORT, 24)
    assert shrunk.vocabulary is None or shrunk.vocabulary.pieces <= shrunk.vocabulary.pieces_before
    full = SHORT.model_copy(update={"vocabulary": "full"})
    whole = compress_student(student, tmp_path / "full", few, rows, task, full, 24)
    assert whole.vocabulary is None
    assert (whole.folder / "tokenizer.json").read_bytes() == (student / "tokenizer.json").read_bytes()


def test_the_best_epoch_has_the_highest_agreement_with_the_first_student(student, texts, rows, task, tmp_path):
    section = SHORT.model_copy(update={"epochs": 3})
    shrunk = compress_student(student, tmp_path / "shrunk", texts, rows, task, section, 24)
    first, second = (Checkpoint.load(folder, task, 24).logits(rows) for folder in (student, shrunk.folder))
    assert (first.argmax(axis=1) == second.argmax(axis=1)).mean() == pytest.approx(shrunk.best.accuracy)
    assert len(shrunk.history) == 3


def test_the_first_student_is_not_changed(student, texts, rows, task, tmp_path):
    before = (student / "model.safetensors").read_bytes()
    compress_student(student, tmp_path / "shrunk", texts, rows, task, SHORT, 24)
    assert (student / "model.safetensors").read_bytes() == before
    assert json.loads((student / "config.json").read_text())["num_hidden_layers"] == 2


def test_keeping_all_layers_is_refused(student, texts, rows, task, tmp_path):
    section = SHORT.model_copy(update={"layers": 2})
    with pytest.raises(TrainingFailed, match=r"has 2 layers; keeping 2 does not make it smaller. Use 1 to 1"):
        compress_student(student, tmp_path / "shrunk", texts, rows, task, section, 24)


def test_the_error_for_an_unknown_layer_names_it(student, texts, rows, task, tmp_path):
    section = SHORT.model_copy(update={"kept": (2,)})
    with pytest.raises(TrainingFailed, match=r"kept: there is no layer 2. Use 0 to 1"):
        compress_student(student, tmp_path / "shrunk", texts, rows, task, section, 24)


def test_a_model_with_shared_layers_is_refused(bert, task, tmp_path):
    folder = tmp_path / "albert"
    shutil.copytree(bert, folder)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    config = AlbertConfig(vocab_size=40, embedding_size=16, **sizes)
    AlbertForSequenceClassification(config).save_pretrained(folder)
    with pytest.raises(TrainingFailed, match="layers of a albert student cannot be removed"):
        write_with_layers(folder, task, None, 1, tmp_path / "one")


def test_compression_without_texts_is_refused(student, rows, task, tmp_path):
    with pytest.raises(TrainingFailed, match="there is no text to shrink the student with"):
        compress_student(student, tmp_path / "shrunk", [], rows, task, SHORT, 24)


def test_the_comparison_reports_a_smaller_size(student, texts, rows, validation, task, tmp_path):
    shrunk = compress_student(student, tmp_path / "shrunk", texts, rows, task, SHORT, 24)
    students = [Checkpoint.load(folder, task, 24) for folder in (student, shrunk.folder)]
    compared = compare_students(*students, rows, validation.labels)
    assert compared.bytes[1] < compared.bytes[0]
    assert compared.times_as_fast > 0
    assert compared.change.rows == len(validation)
