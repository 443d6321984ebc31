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
    """Drop shapes, which onnxruntime's quantizer takes amiss, and where in whose code a node came from."""
    del graph.graph.value_info[:]
    for proto in (graph.graph, *graph.graph.node, *graph.graph.initializer, *graph.graph.input, *graph.graph.output):
        del proto.metadata_props[:]
        proto.doc_string = ""
