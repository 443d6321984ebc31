"""A nano student: what it starts from, and its training."""

import json
from dataclasses import replace

import numpy as np
import pytest
from safetensors.torch import load_file
from tokenizers import Tokenizer

from edgedistill.data.types import ValidationRows
from edgedistill.errors import TrainingFailed
from edgedistill.project.student import StudentSection
from edgedistill.student import nano as nano_module
from edgedistill.student.nano import reduce_vectors, train_nano_student, write_nano_start
from edgedistill.student.presets import complete_search
from edgedistill_export.checkpoint import Checkpoint
from edgedistill_export.nano import is_nano
from edgedistill_serve.task.task import Label, Task

from .conftest import KEYWORDS, make_section

PAIRS = Task("nominal", (Label("process"), Label("outcome"), Label("other")), ("question", "response"))


@pytest.fixture
def texts(mixture):
    return [row.inputs for row in mixture]


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert"])
def test_a_nano_student_learns_keyword_labels(family, backbones, mixtures, validation, task, tmp_path):
    section = make_section(learning_rate=(2e-2,), epochs=(5,))
    start, trained = train_nano_student(
        mixtures(192), validation, task, section, backbones[family], tmp_path / "student", tmp_path / "start"
    )
    assert trained.best.validation_macro_f1 > 0.9
    assert start.tokens == start.backbone_tokens
    assert is_nano(Checkpoint.load(trained.folder, task, 24).model)


def test_seeds_start_from_one_table_and_different_classifiers(bert, texts, task, tmp_path):
    write_nano_start(bert, tmp_path / "start", texts, task, 24)
    assert set(load_file(tmp_path / "start" / "model.safetensors")) == {"embeddings.weight"}


def test_the_same_texts_give_the_same_start(bert, texts, task, tmp_path):
    for name in ("one", "other"):
        write_nano_start(bert, tmp_path / name, texts, task, 24)
    files = [path.name for path in sorted((tmp_path / "one").iterdir())]
    assert [(tmp_path / "other" / name).read_bytes() for name in files] == [
        (tmp_path / "one" / name).read_bytes() for name in files
    ]


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert"])
def test_the_response_of_a_pair_has_a_type_of_its_own(family, backbones, texts, tmp_path):
    rows = [{"question": "what did you do", **row} for row in texts]
    start = write_nano_start(backbones[family], tmp_path / "start", rows, PAIRS, 24)
    tokenizer = Tokenizer.from_file(str(start.folder / "tokenizer.json"))
    encoded = tokenizer.encode("what did", "you tried")
    kinds = [kind for kind, text in zip(encoded.type_ids, encoded.sequence_ids, strict=True) if text is not None]
    assert kinds == [0, 0, 1, 1]
    before = Tokenizer.from_file(str(backbones[family] / "tokenizer.json")).encode("what did", "you tried")
    assert encoded.ids == before.ids


def test_a_nano_student_of_pairs_is_trained_and_tells_their_order(bert, mixture, validation, tmp_path):
    pairs = [replace(row, inputs={"question": "what did you do", **row.inputs}) for row in mixture]
    held = ValidationRows(
        tuple(
            replace(row, response=replace(row.response, inputs={"question": "what did you do", **row.response.inputs}))
            for row in validation
        )
    )
    section = make_section(learning_rate=(2e-2,), epochs=(5,))
    _, trained = train_nano_student(pairs, held, PAIRS, section, bert, tmp_path / "student", tmp_path / "start")
    assert trained.best.validation_macro_f1 > 0.8
    student = Checkpoint.load(trained.folder, PAIRS, 24)
    one, other = student.logits(
        [{"question": "page", "response": "you tried"}, {"question": "you tried", "response": "page"}]
    )
    assert one.argmax() != other.argmax()


def test_a_vocabulary_that_does_not_fit_and_cannot_be_cut_is_refused(bert, texts, task, tmp_path):
    with pytest.raises(TrainingFailed) as error:
        write_nano_start(bert, tmp_path / "start", texts, task, 24, bundle_bytes=nano_module._OTHER_BYTES + 100)
    assert "does not fit into a nano student" in error.value.what
    assert "'WordLevel' cannot be cut" in error.value.what
    assert not (tmp_path / "start").exists()


def test_reduced_vectors_keep_what_distinguishes_tokens_most():
    draw = np.random.default_rng(0)
    vectors = np.concatenate([3 * draw.normal(size=(100, 2)), 0.01 * draw.normal(size=(100, 6))], axis=1)
    reduced = reduce_vectors(vectors.astype(np.float32), 4)
    assert reduced.shape == (100, 4)
    assert np.linalg.norm(reduced, axis=1).mean() == pytest.approx(1, abs=1e-5)
    assert reduced[:, :2].std() > 50 * reduced[:, 2:].std()


def test_the_presets_of_nano_have_a_higher_learning_rate_and_more_steps(bert):
    nano, large = (complete_search(StudentSection(kind=kind), 1000, bert) for kind in ("nano", "fine-tuned"))
    assert nano.search.learning_rate == (3e-3,)
    assert nano.search.epochs > large.search.epochs


def test_layers_cannot_be_removed_from_a_nano_student():
    with pytest.raises(ValueError, match="kind: nano has no layers; remove shrink"):
        StudentSection.model_validate({"kind": "nano", "shrink": {"layers": 1}})


def test_labels_are_those_of_the_task(bert, texts, task, tmp_path):
    write_nano_start(bert, tmp_path / "start", texts, task, 24)
    config = json.loads((tmp_path / "start" / "config.json").read_text())
    assert list(config["id2label"].values()) == list(KEYWORDS)
