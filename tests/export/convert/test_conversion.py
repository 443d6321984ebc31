"""PyTorch to ONNX to int8: a graph scores what the student scores, in one file, made without a word."""

import logging
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from transformers import ErnieConfig, ErnieForSequenceClassification

from edgedistill_export import Checkpoint, ExportFailed
from edgedistill_export.convert import exporter
from edgedistill_export.convert.exporter import by_torch_alone, to_onnx
from edgedistill_export.convert.graph import Graph
from edgedistill_export.export_stages import Converter
from edgedistill_export.quantize.prune_last_layer import prune_last_layer
from edgedistill_export.quantize.recipes import quantize_int8
from edgedistill_export.verify.parity import graph_logits

from ..tiny import BERT, DISTILBERT, FAMILIES, GRADING, MAX_TOKENS, PRAISE, Kin, rows_for, save_student

OPTIMUM_IS_INSTALLED = exporter.by_optimum is not None
Converted = Callable[..., tuple[Checkpoint, Path]]
CONVERTERS = [*([to_onnx] if OPTIMUM_IS_INSTALLED else []), by_torch_alone]


@pytest.fixture
def student(tmp_path: Path) -> Checkpoint:
    return Checkpoint.load(save_student(tmp_path / "student", PRAISE), PRAISE, MAX_TOKENS)


@pytest.fixture(params=CONVERTERS, ids=lambda convert: "torch" if convert is by_torch_alone else "optimum")
def convert(request: pytest.FixtureRequest) -> Converter:
    return request.param


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Converted:
    """A function that makes the graph of a family with a converter, once: it takes PyTorch's exporter seconds."""

    @cache
    def make(convert: Converter, kin: Kin) -> tuple[Checkpoint, Path]:
        folder = tmp_path_factory.mktemp(kin.name)
        student = Checkpoint.load(save_student(folder / "student", GRADING, kin), GRADING, MAX_TOKENS)
        convert(student, folder / "graphs" / "model.onnx")
        return student, folder / "graphs" / "model.onnx"

    return lambda convert, kin=BERT: make(convert, kin)


@pytest.mark.parametrize("kin", FAMILIES, ids=lambda kin: kin.name)
def test_the_graph_scores_what_pytorch_scores_at_every_length(converted: Converted, kin: Kin, convert: Converter):
    student, file = converted(convert, kin)
    rows = rows_for(GRADING)
    np.testing.assert_allclose(graph_logits(file, student.encoder, rows), student.logits(rows), atol=1e-5)


def test_batch_and_length_are_free(converted: Converted, convert: Converter):
    graph = onnx.load(converted(convert)[1]).graph
    shapes = {node.name: [size.dim_param for size in node.type.tensor_type.shape.dim] for node in graph.input}
    assert set(shapes) == {"input_ids", "attention_mask", "token_type_ids"}
    assert all(len(shape) == 2 and all(shape) for shape in shapes.values())


def test_a_graph_is_one_file_with_its_weights_inside(converted: Converted, tmp_path: Path, convert: Converter):
    student, file = converted(convert)
    folder = shutil.copytree(file.parent, tmp_path / "graphs")
    quantize_int8(folder / "model.onnx", folder / "model_quantized.onnx", student.encoder.encode(rows_for(GRADING)))
    assert {each.name for each in folder.iterdir()} == {"model.onnx", "model_quantized.onnx"}


def test_a_graph_tells_nothing_of_the_machine_that_made_it(converted: Converted, convert: Converter):
    written = converted(convert)[1].read_bytes()
    assert not [place for place in (str(Path.cwd()), str(Path(torch.__file__).parent)) if place.encode() in written]
    assert b"stack_trace" not in written


def test_onnxruntime_finds_each_gelu(converted: Converted, tmp_path: Path, convert: Converter):
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(tmp_path / "fused.onnx"), 4
    onnxruntime.InferenceSession(converted(convert)[1], options, providers=["CPUExecutionProvider"])
    kinds = [node.op_type for node in onnx.load(tmp_path / "fused.onnx").graph.node]
    assert sum(kind in ("Gelu", "BiasGelu") for kind in kinds) == 2  # one a layer
    assert "Erf" not in kinds


@pytest.mark.skipif(not OPTIMUM_IS_INSTALLED, reason="optimum-onnx is not installed")
@pytest.mark.parametrize("kin", FAMILIES, ids=lambda kin: kin.name)
def test_both_graphs_hold_the_same_layers_and_lose_the_same_to_pruning(converted: Converted, kin: Kin):
    graphs = [Graph(converted(convert, kin)[1]) for convert in (to_onnx, by_torch_alone)]
    assert [prune_last_layer(graph) for graph in graphs] == [True, True]
    first, second = (graph.linear_layers() for graph in graphs)
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one.weights, other.weights)
        np.testing.assert_array_equal(one.bias, other.bias)


def test_converting_and_quantizing_are_silent_and_leave_logging_alone(
    student: Checkpoint, tmp_path: Path, capfd: pytest.CaptureFixture[str], convert: Converter
):
    before = (list(logging.root.handlers), logging.root.manager.disable)
    capfd.readouterr()  # what the fixture's checkpoint was written with
    convert(student, tmp_path / "model.onnx")
    quantize_int8(tmp_path / "model.onnx", tmp_path / "model_quantized.onnx", student.encoder.encode(rows_for(PRAISE)))
    assert capfd.readouterr() == ("", "")
    assert (logging.root.handlers, logging.root.manager.disable) == before


def test_a_model_that_optimum_does_not_know_is_converted_all_the_same(tmp_path: Path):
    folder = save_student(tmp_path / "student", PRAISE, DISTILBERT)
    labels = dict(enumerate(PRAISE.names))
    config = ErnieConfig(
        vocab_size=400, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        id2label=labels, label2id={name: i for i, name in labels.items()},
    )  # fmt: skip
    ErnieForSequenceClassification(config).save_pretrained(folder)
    student = Checkpoint.load(folder, PRAISE, MAX_TOKENS)
    to_onnx(student, tmp_path / "model.onnx")
    converted = graph_logits(tmp_path / "model.onnx", student.encoder, rows_for(PRAISE))
    np.testing.assert_allclose(converted, student.logits(rows_for(PRAISE)), atol=1e-5)


class _AsksItsInput(torch.nn.Module):
    """A model whose steps hang on what it reads, which no graph can."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.inner, self.config = model, model.config

    def set_attn_implementation(self, name: str) -> None:
        self.inner.set_attn_implementation(name)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor) -> Any:
        while attention_mask.sum() > 5:
            attention_mask = attention_mask - 1
        return self.inner(input_ids=input_ids, attention_mask=attention_mask)


def test_a_model_that_cannot_be_traced_is_refused(student: Checkpoint, tmp_path: Path):
    asking = replace(student, model=_AsksItsInput(student.model))
    with pytest.raises(ExportFailed, match="the bert model cannot be exported") as refusal:
        by_torch_alone(asking, tmp_path / "model.onnx")
    assert refusal.value.exit_code == 5
    assert not (tmp_path / "model.onnx").exists()


def test_what_only_a_branch_reads_is_kept(tmp_path):
    """DeBERTa has conditions whose branches read values of the graph around them."""

    def branch(name):
        node = helper.make_node("Identity", ["doubled"], [name])
        return helper.make_graph([node], name, [], [helper.make_tensor_value_info(name, TensorProto.FLOAT, None)])

    nodes = [
        helper.make_node("Mul", ["x", "two"], ["doubled"]),
        helper.make_node("Mul", ["x", "two"], ["unread"]),
        helper.make_node("If", ["condition"], ["y"], then_branch=branch("one"), else_branch=branch("other")),
    ]
    inputs = [("x", TensorProto.FLOAT), ("condition", TensorProto.BOOL)]
    graph = helper.make_graph(
        nodes,
        "conditional",
        [helper.make_tensor_value_info(name, kind, [1]) for name, kind in inputs],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.array([2.0], np.float32), "two")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), tmp_path / "in.onnx")
    Graph(tmp_path / "in.onnx").save(tmp_path / "out.onnx")
    assert [node.op_type for node in onnx.load(tmp_path / "out.onnx").graph.node] == ["Mul", "If"]
    session = onnxruntime.InferenceSession(tmp_path / "out.onnx")
    assert session.run(None, {"x": np.array([3.0], np.float32), "condition": np.array([True])})[0] == [6]
