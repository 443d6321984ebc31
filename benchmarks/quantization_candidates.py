"""Recipes that are compared with those of `edgedistill_export` and are not a part of it.

floats, short         fp32, without what no score depends on
by token              a scale for each token, no channel apart
dynamic               as onnxruntime makes it: one scale over a whole batch
half floats           weights in 16-bit floats, computed in 32
blocks of 32, 128     MatMulNBits: 8-bit weights and activations with a scale for each block of a row
static, KIND          onnxruntime's own static quantization, ranges clipped by entropy or percentile
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from onnx import TensorProto
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)

from edgedistill_export.convert.graph import CONTRIB, Graph, make_node
from edgedistill_export.quantize.int8_layers import quantize_embeddings
from edgedistill_export.quantize.prune_last_layer import prune_last_layer
from edgedistill_export.quantize.recipes import Recipe, quantize_int8
from edgedistill_export.quiet import quiet
from edgedistill_serve.scoring.encoding import Encoded
from edgedistill_serve.scoring.session import GraphFeeds, build_feeds

LARGE = 4096
"""Tensors with fewer values stay in 32-bit floats: together they are small."""


def short_floats(fp32: Path, target: Path, _rows: Sequence[Encoded]) -> None:
    """Leave out what no score depends on, and nothing else."""
    graph = Graph(fp32)
    prune_last_layer(graph)
    graph.save(target)


def half_floats(fp32: Path, target: Path, _rows: Sequence[Encoded]) -> None:
    """Keep weights in 16-bit floats; onnxruntime turns them into 32-bit ones when the graph is loaded."""
    graph = Graph(fp32)
    prune_last_layer(graph)
    for tensor in list(graph.proto.initializer):
        values = graph.constant(tensor.name)
        if values is None or values.dtype != np.float32 or values.size < LARGE:
            continue
        half = graph.add_constant(f"{tensor.name}.half", values.astype(np.float16))
        graph.proto.initializer.remove(tensor)
        graph.insert(graph.proto.node[0], [make_node("Cast", [half], tensor.name, to=TensorProto.FLOAT)])
    graph.save(target)


def blocks(fp32: Path, target: Path, _rows: Sequence[Encoded], *, size: int) -> None:
    """Give every block of ``size`` inputs a scale, in weights and, when a row is scored, in activations."""
    graph = Graph(fp32)
    prune_last_layer(graph)
    for layer in graph.linear_layers():
        inputs, outputs = layer.weights.shape
        name = layer.node.output[0]
        cut = layer.weights.T.reshape(outputs, inputs // size, size)
        scales = np.maximum(np.abs(cut).max(axis=2) / 127, 1e-8).astype(np.float32)
        integers = (np.rint(cut / scales[:, :, None]) + 128).astype(np.uint8)
        given = [
            layer.source,
            graph.add_constant(f"{name}.blocks", integers),
            graph.add_constant(f"{name}.scales", scales),
        ]
        shape = {"K": inputs, "N": outputs, "bits": 8, "block_size": size, "accuracy_level": 4}
        graph.insert(layer.node, [make_node("MatMulNBits", given, name, CONTRIB, **shape)])
        graph.remove(layer.node)
    quantize_embeddings(graph)
    graph.save(target)


def dynamic(fp32: Path, target: Path, _rows: Sequence[Encoded]) -> None:
    """Quantize as everybody does, with integers from -64 to 64, so that no pair of them overflows."""
    with quiet():
        quantize_dynamic(fp32, target, per_channel=True, reduce_range=True, weight_type=QuantType.QInt8)


class _Rows(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime is untyped here
    """Calibration rows one by one, as onnxruntime asks for them: those of at least the median length, cut to it.

    Its histograms take rows of one length only.
    """

    def __init__(self, rows: Sequence[Encoded], wanted: set[str]) -> None:
        length = int(np.median([len(row.ids) for row in rows]))
        cut = [
            replace(row, ids=row.ids[:length], type_ids=row.type_ids[:length]) for row in rows if len(row.ids) >= length
        ]
        self._feeds = iter(
            [{name: value for name, value in build_feeds([row]).items() if name in wanted} for row in cut]
        )

    def get_next(self) -> GraphFeeds | None:
        return next(self._feeds, None)


def static(fp32: Path, target: Path, rows: Sequence[Encoded], *, method: CalibrationMethod) -> None:
    """Quantize as onnxruntime does with fixed ranges, the layers over tokens alone."""
    graph = Graph(fp32)
    prune_last_layer(graph)
    quantize_embeddings(graph)
    for layer in graph.linear_layers():
        layer.node.name = layer.node.name or layer.node.output[0]
    short = target.with_suffix(".short.onnx")
    graph.save(short)
    with quiet():
        quantize_static(
            short,
            target,
            _Rows(rows, {given.name for given in graph.proto.input}),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["MatMul"],
            nodes_to_quantize=[layer.node.name for layer in graph.linear_layers()],
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=method,
        )
    short.unlink()


CANDIDATES: Mapping[str, Recipe] = {
    "two apart": partial(quantize_int8, outliers=2),
    "none apart": partial(quantize_int8, outliers=0),
    "by token": partial(quantize_int8, scalings=("token",), outliers=0),
    "dynamic": dynamic,
    "floats, short": short_floats,
    "half floats": half_floats,
    "blocks of 32": partial(blocks, size=32),
    "blocks of 128": partial(blocks, size=128),
    "static, percentile": partial(static, method=CalibrationMethod.Percentile),
    "static, entropy": partial(static, method=CalibrationMethod.Entropy),
}
"""By the name that the tables use."""
