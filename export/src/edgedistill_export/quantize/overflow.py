"""Prove that no 8-bit product of a graph overflows, on any processor and in any runtime.

With AVX2 or AVX-512 and without VNNI, onnxruntime adds two products of unsigned by signed bytes in 16 bits with
saturation (``vpmaddubsw``): those of rows 2i and 2i + 1 of the weights, for all shapes (its kernels process four rows
at a time). `rounding` has the bound for such a pair. Products of two unsigned bytes are added in 32 bits.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx

from edgedistill_export.convert.graph import Graph
from edgedistill_export.errors import ExportFailed
from edgedistill_export.quantize.rounding import MAX_PAIR_SUM, pair_sums

_WEIGHTS = {
    "DynamicQuantizeMatMul": 1,
    "MatMulInteger": 1,
    "MatMulIntegerToFloat": 1,
    "QAttention": 1,
    "QLinearMatMul": 3,
}
"""The index of the weights, of shape (…, inputs, outputs), among the inputs of each operator."""
_MULTIPLIES = re.compile(r"Q[A-Z]|.*Integer")
"""Other operators on 8-bit integers, for which there is no proof."""


def check_overflow(file: Path) -> None:
    """Check that no pair of weights can overflow 16 bits.

    Args:
        file: An ONNX graph. A graph without 8-bit products passes.

    Raises:
        ExportFailed: A pair of weights sums to more than `MAX_PAIR_SUM`, or an operator computes with 8-bit integers in
            a way that is not known here, or with weights that are not constant; or the file cannot be read.
    """
    graph = Graph(file)
    for node in _all_nodes(graph):
        place = _WEIGHTS.get(node.op_type)
        matrices = {
            number: values
            for number, values in enumerate(map(graph.constant, node.input))
            if values is not None and values.dtype in (np.int8, np.uint8) and values.ndim > 1
        }
        if place is not None and list(matrices) == [place]:
            _check_pairs(matrices[place], node, file)
        elif _MULTIPLIES.match(node.op_type) or (matrices and node.op_type != "Gather"):
            raise ExportFailed(
                f"the 8-bit products of {node.op_type} ({node.name!r}) cannot be proven not to overflow",
                where=file.name,
                hint="Quantize with constant weights and a MatMul operator, or set export.precision to fp32.",
            )


def multiplies_integers(file: Path) -> bool:
    """Whether a graph has 8-bit products. One without them is computed in floats by every processor.

    Raises:
        ExportFailed: The file cannot be read.
    """
    return any(node.op_type in _WEIGHTS or _MULTIPLIES.match(node.op_type) for node in _all_nodes(Graph(file)))


def _check_pairs(weights: npt.NDArray[np.int8 | np.uint8], node: onnx.NodeProto, file: Path) -> None:
    if weights.dtype == np.uint8:
        return
    largest = max(pair_sums(matrix).max(initial=0) for matrix in weights.reshape(-1, *weights.shape[-2:]))
    if not largest <= MAX_PAIR_SUM:
        raise ExportFailed(
            f"two neighbouring weights of {node.name!r} sum to {largest:.0f}; above {MAX_PAIR_SUM} their products "
            "overflow on processors without VNNI",
            where=file.name,
            hint="Round the weights with edgedistill_export.quantize.rounding, or use onnxruntime's reduce_range.",
        )


def _all_nodes(graph: Graph) -> list[onnx.NodeProto]:
    return [*_nodes(graph.proto.node), *(node for one in graph.model.functions for node in _nodes(one.node))]


def _nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """The nodes, and those of their subgraphs."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _nodes(inner.node)
