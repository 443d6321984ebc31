"""PyTorch to ONNX to int8: a graph scores what the student scores, in one file, made without a word."""

import logging
from pathlib import Path

import numpy as np
import onnx
import pytest
from transformers import ErnieConfig, ErnieForSequenceClassification

from edgedistill_export import Checkpoint, ExportFailed
from edgedistill_export.convert.exporter import to_onnx
from edgedistill_export.quantize.recipes import measured_int8
from edgedistill_export.verify.parity import graph_logits

from ..tiny import DISTILBERT, FAMILIES, GRADING, MAX_TOKENS, PRAISE, Kin, rows_for, save_student


@pytest.fixture
def student(tmp_path: Path) -> Checkpoint:
    return Checkpoint.load(save_student(tmp_path / "student", PRAISE), PRAISE, MAX_TOKENS)


@pytest.mark.parametrize("kin", FAMILIES, ids=lambda kin: kin.name)
def test_the_graph_scores_what_pytorch_scores_at_every_length(tmp_path: Path, kin: Kin):
    student = Checkpoint.load(save_student(tmp_path / "student", GRADING, kin), GRADING, MAX_TOKENS)
    rows = rows_for(GRADING)
    to_onnx(student, tmp_path / "model.onnx")
    converted = graph_logits(tmp_path / "model.onnx", student.encoder, rows)
    np.testing.assert_allclose(converted, student.logits(rows), atol=1e-5)


def test_batch_and_length_are_free(student: Checkpoint, tmp_path: Path):
    to_onnx(student, tmp_path / "model.onnx")
    graph = onnx.load(tmp_path / "model.onnx").graph
    shapes = {node.name: [size.dim_param for size in node.type.tensor_type.shape.dim] for node in graph.input}
    assert set(shapes) == {"input_ids", "attention_mask", "token_type_ids"}
    assert all(len(shape) == 2 and all(shape) for shape in shapes.values())


def test_a_graph_is_one_file_with_its_weights_inside(student: Checkpoint, tmp_path: Path):
    folder = tmp_path / "graphs"
    to_onnx(student, folder / "model.onnx")
    measured_int8(folder / "model.onnx", folder / "model_quantized.onnx", student.encoder.encode(rows_for(PRAISE)))
    assert {file.name for file in folder.iterdir()} == {"model.onnx", "model_quantized.onnx"}


def test_converting_and_quantizing_are_silent_and_leave_logging_alone(
    student: Checkpoint, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    before = (list(logging.root.handlers), logging.root.manager.disable)
    to_onnx(student, tmp_path / "model.onnx")
    rows = student.encoder.encode(rows_for(PRAISE))
    measured_int8(tmp_path / "model.onnx", tmp_path / "model_quantized.onnx", rows)
    assert capfd.readouterr() == ("", "")
    assert (logging.root.handlers, logging.root.manager.disable) == before


def test_a_model_that_optimum_does_not_know_is_refused(tmp_path: Path):
    folder = save_student(tmp_path / "student", PRAISE, DISTILBERT)
    labels = dict(enumerate(PRAISE.names))
    config = ErnieConfig(
        vocab_size=400, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        id2label=labels, label2id={name: i for i, name in labels.items()},
    )  # fmt: skip
    ErnieForSequenceClassification(config).save_pretrained(folder)
    student = Checkpoint.load(folder, PRAISE, MAX_TOKENS)
    with pytest.raises(ExportFailed, match="no classifier of the kind 'ernie'") as refusal:
        to_onnx(student, tmp_path / "model.onnx")
    assert refusal.value.exit_code == 5
