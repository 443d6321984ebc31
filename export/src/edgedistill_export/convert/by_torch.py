"""Convert PyTorch to ONNX with torch's exporter, for every model that torch can trace."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx
import torch

from edgedistill_export.text_vectors import VECTOR

OPSET = 18
"""The oldest operator set that torch writes without conversion; onnxruntime supports it since 1.14."""

_ROWS, _TOKENS = 3, 11
"""Example sizes: not 0 or 1, which torch would make constants, and unlikely to equal another size of the model."""


def write(model: Any, inputs: Sequence[str], file: Path) -> None:
    """Write a graph with dynamic batch size and sequence length.

    Args:
        model: The classifier to trace.
        inputs: The names of its inputs, each of shape (rows, tokens).
        file: The ``.onnx`` file to write.

    Raises:
        Exception: The conversion failed; torch raises many types.
    """
    axes = {0: torch.export.Dim("batch_size"), 1: torch.export.Dim("sequence_length")}
    with _plain_attention(model):
        program = torch.onnx.export(
            model,
            kwargs={name: torch.ones((_ROWS, _TOKENS), dtype=torch.int64) for name in inputs},
            dynamic_shapes=dict.fromkeys(inputs, axes),
            input_names=list(inputs),
            output_names=["logits", VECTOR],
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
    """Trace attention as products and a softmax: torch's fused function is exported as more and slower nodes."""
    traced = model
    while not hasattr(traced, "set_attn_implementation"):  # wrapped to return more, or to know padding by the mask
        traced = traced.model
    before = traced.config._attn_implementation
    traced.set_attn_implementation("eager")
    try:
        yield
    finally:
        traced.set_attn_implementation(before)


def _forget_the_source(graph: onnx.ModelProto) -> None:
    """Remove source locations, and shapes, which later rewriting would invalidate."""
    del graph.graph.value_info[:]
    for proto in (graph.graph, *graph.graph.node, *graph.graph.initializer, *graph.graph.input, *graph.graph.output):
        del proto.metadata_props[:]
        proto.doc_string = ""


def _half_last(graph: onnx.GraphProto) -> None:
    """Rewrite ``x · (½ · (1 + erf …))`` as ``(x · (1 + erf …)) · ½``, the GELU that onnxruntime fuses."""
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
