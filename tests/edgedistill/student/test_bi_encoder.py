"""How a student reads a task with a context: as one text, or response and context apart."""

import json
import shutil

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertModel

from edgedistill.data.types import CodedResponse, MixtureRow, Response, ValidationRows
from edgedistill.errors import ProjectFileError
from edgedistill.project.student import ShrinkSection
from edgedistill.student import train_student
from edgedistill.student.compression import compress_student
from edgedistill.student.model import choose_architecture, load_model
from edgedistill_export.bi_encoder import BiEncoderForSequenceClassification
from edgedistill_export.checkpoint import Checkpoint
from edgedistill_serve.task.task import Label, Task

from .conftest import FILLERS, SIZES, make_section, make_tokenizer

PAIRS = Task("nominal", (Label("same"), Label("other")), ("question", "response"))
ALONE = Task("nominal", (Label("same"), Label("other")), ("response",))


def pairs(count, words, seed=0):
    """Rows whose response has the question's words, or others."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        question, other = rng.choice(words, (2, 3))
        same = number % 2 == 0
        rows.append(
            (
                {"question": " ".join(question), "response": " ".join(rng.permutation(question if same else other))},
                "same" if same else "other",
            )
        )
    return rows


def mixture(rows):
    return [MixtureRow(f"m{i}", inputs, label, "human", {label: 1.0}) for i, (inputs, label) in enumerate(rows)]


def validation(rows):
    return ValidationRows(
        tuple(CodedResponse(Response(f"v{i}", inputs, "v.csv", i + 2), label) for i, (inputs, label) in enumerate(rows))
    )


@pytest.fixture(scope="module")
def trained(backbones, tmp_path_factory):
    folder = tmp_path_factory.mktemp("student") / "student"
    section = make_section(learning_rate=(3e-3,), epochs=(10,))
    return train_student(
        mixture(pairs(160, FILLERS[:8])),
        validation(pairs(40, FILLERS[:8], 1)),
        PAIRS,
        section,
        backbones["bert"],
        folder,
    )


def test_it_compares_words_that_no_training_row_has(trained):
    rows = pairs(60, FILLERS[8:], 2)
    student = Checkpoint.load(trained.folder, PAIRS, 24)
    labels = [PAIRS.names[place] for place in student.logits([inputs for inputs, _ in rows]).argmax(axis=1)]
    assert np.mean([label == code for label, (_, code) in zip(labels, rows, strict=True)]) > 0.75  # by chance .5


def test_the_result_names_the_architecture(trained):
    assert trained.architecture == "bi-encoder"
    assert isinstance(load_model(trained.folder, PAIRS), BiEncoderForSequenceClassification)


def test_a_smaller_student_of_it_is_a_bi_encoder(trained, tmp_path):
    texts = [inputs for inputs, _ in pairs(32, FILLERS[:8], 3)]
    section = ShrinkSection(layers=1, epochs=1, learning_rate=1e-3)
    compress_student(trained.folder, tmp_path / "small", texts, texts[:8], PAIRS, section, 24)
    student = Checkpoint.load(tmp_path / "small", PAIRS, 24)
    assert isinstance(student.model, BiEncoderForSequenceClassification)
    assert student.model.config.num_hidden_layers == 1


@pytest.mark.parametrize(
    ("wanted", "family", "task", "chosen"),
    [
        ("auto", "bert", PAIRS, "bi-encoder"),
        ("auto", "bert", ALONE, "cross-encoder"),
        ("auto", "roberta", PAIRS, "cross-encoder"),
        ("auto", "distilbert", PAIRS, "cross-encoder"),
        ("cross-encoder", "bert", PAIRS, "cross-encoder"),
        ("bi-encoder", "bert", PAIRS, "bi-encoder"),
    ],
)
def test_auto_takes_what_the_backbone_was_trained_for(wanted, family, task, chosen, backbones):
    assert choose_architecture(wanted, backbones[family], task) == chosen


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", {"architectures": ["BertForMaskedLM"]}),
        ("config.json", {"type_vocab_size": 1}),
        ("backbone.json", {"model": "cross-encoder/some-model"}),
    ],
    ids=["a language model", "one segment", "published for pairs"],
)
def test_auto_takes_a_cross_encoder_for_other_berts(name, content, bert, tmp_path):
    folder = shutil.copytree(bert, tmp_path / "backbone")
    before = json.loads((folder / name).read_text()) if (folder / name).exists() else {}
    (folder / name).write_text(json.dumps(before | content))
    assert choose_architecture("auto", folder, PAIRS) == "cross-encoder"


@pytest.mark.parametrize(
    ("family", "task", "hint"), [("roberta", PAIRS, "cross-encoder"), ("bert", ALONE, "task.inputs")]
)
def test_a_bi_encoder_that_cannot_be_is_refused(family, task, hint, backbones):
    with pytest.raises(ProjectFileError) as refusal:
        choose_architecture("bi-encoder", backbones[family], task)
    assert refusal.value.where == "student.architecture"
    assert hint in str(refusal.value)


def test_a_tokenizer_that_does_not_tell_the_texts_apart_is_changed_to_do_so(tmp_path):
    tokenizer = make_tokenizer("roberta")
    torch.manual_seed(0)
    BertModel(
        BertConfig(**SIZES, vocab_size=len(tokenizer), max_position_embeddings=64, pad_token_id=1)
    ).save_pretrained(tmp_path / "backbone")
    tokenizer.save_pretrained(tmp_path / "backbone")
    rows = pairs(16, FILLERS)
    section = make_section(learning_rate=(1e-3,), epochs=(1,))
    trained = train_student(
        mixture(rows), validation(rows), PAIRS, section, tmp_path / "backbone", tmp_path / "student"
    )
    encoded = Checkpoint.load(trained.folder, PAIRS, 24).encoder.encode([rows[0][0]])[0]
    assert set(encoded.type_ids) == {0, 1}
