"""A second student with fewer layers, taught by the first one's logits."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file
from transformers import AlbertConfig, AlbertForSequenceClassification

from edgedistill.agreement import agreement
from edgedistill.errors import TrainingFailed
from edgedistill.project.schema import ShrinkSection
from edgedistill.student import train_student
from edgedistill.student.compression import compare_students, compress_student, evenly_spaced, write_with_layers
from edgedistill_export.checkpoint import Checkpoint

SHORT = ShrinkSection(layers=1, epochs=1, learning_rate=5e-3, batch_size=8)


@pytest.fixture(scope="module")
def student(backbones, tmp_path_factory):
    """A tiny student that knows its task."""
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
def test_layers_are_kept_from_the_first_to_the_last_at_even_distances(layers, kept, places):
    assert evenly_spaced(layers, kept) == places


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert"])
def test_the_named_layers_are_kept_as_they_are(family, backbones, task, tmp_path):
    assert write_with_layers(backbones[family], task, [1], 1, tmp_path / "one") == [1]
    before, after = (
        load_file(backbones[family] / "model.safetensors"),
        load_file(tmp_path / "one" / "model.safetensors"),
    )
    layer = next(name for name in before if "layer.1." in name)
    left = next(name for name in after if name.endswith(layer.replace("layer.1.", "layer.0.")))
    assert torch.equal(before[layer], after[left])
    assert not [name for name in after if "layer.1." in name]


def test_a_shrunk_student_learns_what_the_first_one_says(student, texts, rows, task, tmp_path):
    section = ShrinkSection(layers=1, epochs=8, learning_rate=4e-3, batch_size=8)
    shrunk = compress_student(student, tmp_path / "shrunk", texts, rows, task, section, 24)
    first, second = (
        [task.names[best] for best in Checkpoint.load(folder, task, 24).logits(rows).argmax(axis=1)]
        for folder in (student, shrunk.folder)
    )
    assert agreement(first, second, task).kappa.value > 0.8


def test_human_codes_of_the_texts_are_not_read(student, texts, rows, task, tmp_path):
    first = compress_student(student, tmp_path / "a", texts, rows, task, SHORT, 24)
    relabelled = [dict(text) | {"label": "other"} for text in texts]
    second = compress_student(student, tmp_path / "b", relabelled, rows, task, SHORT, 24)
    assert (first.folder / "model.safetensors").read_bytes() == (second.folder / "model.safetensors").read_bytes()


def test_the_vocabulary_is_cut_to_what_the_texts_need(student, texts, rows, task, tmp_path):
    few = [text for text in texts if "bulb" not in text["response"]]
    shrunk = compress_student(student, tmp_path / "shrunk", few, rows, task, SHORT, 24)
    assert shrunk.vocabulary is None or shrunk.vocabulary.pieces <= shrunk.vocabulary.pieces_before
    full = SHORT.model_copy(update={"vocabulary": "full"})
    whole = compress_student(student, tmp_path / "full", few, rows, task, full, 24)
    assert whole.vocabulary is None
    assert (whole.folder / "tokenizer.json").read_bytes() == (student / "tokenizer.json").read_bytes()


def test_the_shrunk_student_is_the_epoch_that_agrees_most_with_the_first_one(student, texts, rows, task, tmp_path):
    section = SHORT.model_copy(update={"epochs": 3})
    shrunk = compress_student(student, tmp_path / "shrunk", texts, rows, task, section, 24)
    first, second = (Checkpoint.load(folder, task, 24).logits(rows) for folder in (student, shrunk.folder))
    assert (first.argmax(axis=1) == second.argmax(axis=1)).mean() == pytest.approx(shrunk.best.accuracy)
    assert len(shrunk.history) == 3


def test_the_first_student_stays_as_it_was(student, texts, rows, task, tmp_path):
    before = (student / "model.safetensors").read_bytes()
    compress_student(student, tmp_path / "shrunk", texts, rows, task, SHORT, 24)
    assert (student / "model.safetensors").read_bytes() == before
    assert json.loads((student / "config.json").read_text())["num_hidden_layers"] == 2


def test_as_many_layers_as_there_are_make_nothing_smaller(student, texts, rows, task, tmp_path):
    section = SHORT.model_copy(update={"layers": 2})
    with pytest.raises(TrainingFailed, match=r"has 2 layers, and 2 of them make it no smaller. Choose 1 to 1"):
        compress_student(student, tmp_path / "shrunk", texts, rows, task, section, 24)


def test_a_layer_that_is_not_there_is_named(student, texts, rows, task, tmp_path):
    section = SHORT.model_copy(update={"kept": (2,)})
    with pytest.raises(TrainingFailed, match=r"kept: there is no layer 2. They are 0 to 1"):
        compress_student(student, tmp_path / "shrunk", texts, rows, task, section, 24)


def test_a_model_whose_layers_are_one_cannot_be_shrunk(bert, task, tmp_path):
    folder = tmp_path / "albert"
    shutil.copytree(bert, folder)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    config = AlbertConfig(vocab_size=40, embedding_size=16, **sizes)
    AlbertForSequenceClassification(config).save_pretrained(folder)
    with pytest.raises(TrainingFailed, match="a albert student cannot be shrunk"):
        write_with_layers(folder, task, None, 1, tmp_path / "one")


def test_nothing_to_learn_from_is_an_error(student, rows, task, tmp_path):
    with pytest.raises(TrainingFailed, match="there is no text to shrink the student with"):
        compress_student(student, tmp_path / "shrunk", [], rows, task, SHORT, 24)


def test_side_by_side_the_smaller_student_is_smaller(student, texts, rows, validation, task, tmp_path):
    shrunk = compress_student(student, tmp_path / "shrunk", texts, rows, task, SHORT, 24)
    students = [Checkpoint.load(folder, task, 24) for folder in (student, shrunk.folder)]
    compared = compare_students(*students, rows, validation.labels)
    assert compared.bytes[1] < compared.bytes[0]
    assert compared.times_as_fast > 0
    assert compared.change.rows == len(validation)
