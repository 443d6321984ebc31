"""From PyTorch to ONNX by torch's own exporter, for every kind of model that torch can follow."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx
import torch

OPSET = 18
"""The oldest operator set that torch writes without converting; onnxruntime knows it since 1.14."""

_ROWS, _TOKENS = 3, 11
"""Any numbers but 0 and 1, of which torch would make constants, and that nothing else in a model is likely to equal."""


def write(model: Any, inputs: Sequence[str], file: Path) -> None:
    """Write a graph with batch and sequence length free.

    Args:
        model: A classifier as it is to be traced.
        inputs: The names of its inputs, each of shape (rows, tokens).
        file: The ``.onnx`` file to write.

    Raises:
        Exception: Of many kinds, where the conversion fails.
    """
    axes = {0: torch.export.Dim("batch_size"), 1: torch.export.Dim("sequence_length")}
    with _plain_attention(model):
        program = torch.onnx.export(
            model,
            kwargs={name: torch.ones((_ROWS, _TOKENS), dtype=torch.int64) for name in inputs},
            dynamic_shapes=dict.fromkeys(inputs, axes),
            input_names=list(inputs),
            output_names=["logits"],
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    graph = program.model_proto
    _forget_the_source(graph)
    _half_last(graph.graph)
    file.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(graph, file)


@contextmanager
def _plain_attention(model: Any) -> Iterator[None]:
    """Trace attention as products and a softmax: torch's fused function becomes more nodes, and slower ones."""
    traced = getattr(model, "model", model) if not hasattr(model, "set_attn_implementation") else model
    before = traced.config._attn_implementation
    traced.set_attn_implementation("eager")
    try:
        yield
    finally:
        traced.set_attn_implementation(before)


def _forget_the_source(graph: onnx.ModelProto) -> None:
    """Drop where in whose code each node came from, and shapes, which what is rewritten later would belie."""
    del graph.graph.value_info[:]
    for proto in (graph.graph, *graph.graph.node, *graph.graph.initializer, *graph.graph.input, *graph.graph.output):
        del proto.metadata_props[:]
        proto.doc_string = ""


def _half_last(graph: onnx.GraphProto) -> None:
    """Write ``x · (½ · (1 + erf …))`` as ``(x · (1 + erf …)) · ½``, the GELU that onnxruntime knows as one operator."""
    made = {output: node for node in graph.node for output in node.output}

    def kinds(*names: str) -> list[str]:
        return [made[name].op_type if name in made else "" for name in names]

    for product in graph.node:
        if product.op_type != "Mul" or kinds(product.input[1]) != ["Mul"]:
            continue
        value, inner = product.input[0], made[product.input[1]]
        half, total = inner.input
        if kinds(total) == ["Add"] and kinds(made[total].input[0]) == ["Erf"]:
            inner.input[:] = [value, total]
            product.input[:] = [inner.output[0], half]
