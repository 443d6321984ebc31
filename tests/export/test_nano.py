"""A nano student: its checkpoint, its graph, its bundle."""

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch

from edgedistill_export import Checkpoint, export_bundle
from edgedistill_export.convert.exporter import to_onnx
from edgedistill_export.nano import NanoConfig, NanoForSequenceClassification, is_nano
from edgedistill_export.novelty import read_vectors
from edgedistill_export.quantize.int8_layers import MIN_EMBEDDING_ROWS
from edgedistill_export.quantize.overflow import multiplies_integers
from edgedistill_export.quantize.vocabulary import cut_vocabulary
from edgedistill_export.verify.parity import graph_logits
from edgedistill_serve import Scorer
from edgedistill_serve.task.task import task_inputs

from .exporting import plan_of
from .tiny import GRADING, MAX_TOKENS, MOVES, PRAISE, rows_for, save_student


def save_nano(folder, task):
    """Write a random nano student with the tokenizer of a tiny BERT, and a table that is large enough to quantize."""
    save_student(folder, task)
    tokens = json.loads((folder / "config.json").read_text())["vocab_size"]
    torch.manual_seed(1)
    config = NanoConfig(
        vocab_size=tokens + MIN_EMBEDDING_ROWS,
        hidden_size=32,
        head_size=16,
        type_vocab_size=2 if len(task.inputs) > 1 else 1,
        id2label=dict(enumerate(task.names)),
        label2id={name: place for place, name in enumerate(task.names)},
    )
    model = NanoForSequenceClassification(config)
    with torch.no_grad():
        model.embeddings.weight.normal_(0, 2)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=[PRAISE, GRADING, MOVES], ids=lambda task: task.kind)
def task(request):
    return request.param


@pytest.fixture(scope="module")
def nano(task, tmp_path_factory):
    return save_nano(tmp_path_factory.mktemp("nano") / task.kind, task)


@pytest.fixture(scope="module")
def rows(task):
    return [task_inputs(row, task) for row in rows_for(task)]


def test_a_checkpoint_is_loaded_as_a_nano_student(nano, task):
    student = Checkpoint.load(nano, task, MAX_TOKENS)
    assert is_nano(student.model)
    assert student.marks_response == (len(task.inputs) > 1)


def test_the_graph_gives_the_logits_and_vectors_of_pytorch(nano, task, rows, tmp_path):
    student = Checkpoint.load(nano, task, MAX_TOKENS)
    to_onnx(student, tmp_path / "model.onnx")
    onnx.checker.check_model(onnx.load(tmp_path / "model.onnx"), full_check=True)
    logits, vectors = student.outputs(rows)
    assert graph_logits(tmp_path / "model.onnx", student.encoder, rows) == pytest.approx(logits, abs=1e-4)
    found = read_vectors(tmp_path / "model.onnx", student.encoder.encode(rows))
    assert found == pytest.approx(vectors, abs=1e-4)


def test_the_response_is_read_apart_from_its_context(tmp_path):
    student = Checkpoint.load(save_nano(tmp_path / "nano", GRADING), GRADING, MAX_TOKENS)
    texts = {"question": "the battery", "reference_answer": "", "response": "the bulb"}
    swapped = {"question": "the bulb", "reference_answer": "", "response": "the battery"}
    one, other = student.logits([texts, swapped])
    assert np.abs(one - other).max() > 1e-3


def test_a_bundle_scores_with_an_int8_table_and_has_no_other_graph_beside(nano, task, rows, tmp_path):
    thresholds = dict.fromkeys(task.names, 0.5) if task.kind == "multilabel" else {}
    result = export_bundle(nano, tmp_path / "bundle", replace(plan_of(task), thresholds=thresholds), rows)
    assert result.served == "int8"
    assert result.bundle.model_file("fp32") is None
    assert not multiplies_integers(result.bundle.model_file("int8"))
    assert result.steps[-1].flips == 0
    scores = Scorer(result.bundle).score(rows)
    assert [score.label for score in scores] == [
        score.label for score in (Scorer(result.bundle, threads=1).score_one(row) for row in rows)
    ]


def test_a_reduced_vocabulary_changes_no_logit_of_its_texts(nano, task, rows, tmp_path):
    student = Checkpoint.load(nano, task, MAX_TOKENS)
    cut, kept = cut_vocabulary(student, rows[:3], tmp_path / "cut", common=0, least_learners=1)
    assert kept.pieces < kept.pieces_before
    assert (cut.logits(rows[:3]) == student.logits(rows[:3])).all()
