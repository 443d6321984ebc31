"""Int8 layers: ``x · w`` becomes an integer product, scaled back to fp32.

Weights have one scale per output channel. Activations have either one static scale, measured on calibration rows, or
one dynamic scale per token. With both, a score does not depend on the other rows of a batch; onnxruntime's dynamic
quantization has one scale per batch, with which it does. Outlier channels of the input are multiplied in fp32, so that
they do not widen the scale.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto

from edgedistill_export.convert.graph import CONTRIB, Graph, LinearLayer, make_node
from edgedistill_export.quantize.rounding import Floats, Integers, round_to_nearest

Rounding: TypeAlias = Callable[[str, Floats], tuple[Integers, Floats]]
"""Takes the name of a layer's input and the weights; returns integers and one scale per output channel."""
Scaling: TypeAlias = Literal["fixed", "token", "above"]

ZERO = 16
"""The zero point of inputs with the scaling ``above``: 239 integers remain for values above 0."""

MIN_EMBEDDING_ROWS = 200
"""Smaller tables, such as that of the segments, stay in fp32."""

_SMALLEST = 1e-8
"""Lower bound of scales, for inputs that are 0 everywhere."""


@dataclass(frozen=True, slots=True)
class Activation:
    """The quantization of a layer's input.

    Attributes:
        low: Smallest representable value; smaller ones are clipped.
        high: Largest representable value.
        channels: SmoothQuant channel scales of shape (inputs,): they divide the input and are multiplied into the
            weights (Xiao et al. 2023, "SmoothQuant", equation 3); None for no channel scaling.
        scaling: ``fixed``: a static scale from ``low`` and ``high``; ``token``: one scale per token from its largest
            absolute value; ``above``, for almost nonnegative inputs: one scale per token from its largest value, up
            to ``high``.
        outliers: Channels that are multiplied in fp32 (Dettmers et al. 2022, "LLM.int8()"), here static.
    """

    low: float
    high: float
    channels: Floats | None = None
    scaling: Scaling = "fixed"
    outliers: tuple[int, ...] = ()

    def scaled(self, values: Floats) -> Floats:
        """Return values of shape (tokens, inputs) after channel scaling, with outlier channels set to 0."""
        scaled = values if self.channels is None else values / self.channels
        return _without(scaled, self.outliers, axis=1)

    def factors(self, inputs: int) -> Floats:
        """Return the factor of every channel, shape (inputs,); 0 for outlier channels."""
        found = np.ones(inputs, dtype=np.float32) if self.channels is None else (1 / self.channels).astype(np.float32)
        return _without(found, self.outliers, axis=0)

    def counterpart(self, weights: Floats) -> Floats:
        """Return the weights, shape (inputs, outputs), that match the scaled values of `scaled`."""
        scaled = weights if self.channels is None else weights * self.channels[:, None]
        return _without(scaled, self.outliers, axis=0)

    def rounded(self, scaled: Floats) -> Floats:
        """Quantize and dequantize scaled values; the shape does not change."""
        zero: float = ZERO
        if self.scaling == "token":
            steps, zero = np.maximum(np.abs(scaled).max(axis=1, keepdims=True) / 127, _SMALLEST), 128
        elif self.scaling == "above":
            steps = np.clip(scaled.max(axis=1, keepdims=True), *self.largest) / (255 - ZERO)
        else:
            scale, shift = self.fixed
            steps, zero = scale[None, None], float(shift)
        found: Floats = ((np.clip(np.rint(scaled / steps) + zero, 0, 255) - zero) * steps).astype(np.float32)
        return found

    @property
    def fixed(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
        """The static scale and zero point."""
        low, high = min(self.low, 0.0), max(self.high, 0.0)
        scale = max((high - low) / 255, _SMALLEST)
        return np.array(scale, dtype=np.float32), np.array(np.clip(round(-low / scale), 0, 255), dtype=np.uint8)

    @property
    def largest(self) -> tuple[float, float]:
        """The limits of a token's largest value for ``above``; below the first, ``low`` would be clipped."""
        least = max(-self.low / ZERO, _SMALLEST) * (255 - ZERO)
        return least, max(self.high, least)


def _without(values: Floats, channels: Sequence[int], axis: int) -> Floats:
    if not channels:
        return values
    left = values.copy()
    left[(slice(None),) * axis + (list(channels),)] = 0
    return left


def quantize_layers(
    graph: Graph, layers: Sequence[LinearLayer], how: Mapping[str, Activation], rounding: Rounding
) -> None:
    """Replace layers by int8 layers, in place.

    Args:
        graph: The graph.
        layers: The layers to replace.
        how: The quantization of each layer input, by its name; layers with the same input share its integers.
        rounding: Rounds weights, after the channel scales were multiplied into them.
    """
    done: set[str] = set()
    for layer in layers:
        activation = how[layer.source]
        if layer.source not in done:
            graph.insert(layer.node, _integers(graph, layer.source, len(layer.weights), activation))
            done.add(layer.source)
        graph.insert(layer.node, _product(graph, layer, activation, rounding))
        graph.remove(layer.node, layer.bias_node)


def _integers(graph: Graph, source: str, inputs: int, how: Activation) -> list[onnx.NodeProto]:
    """The nodes that compute ``SOURCE.int8`` and, if needed, ``SOURCE.apart`` and the per-token ``SOURCE.scale``."""
    nodes, value = [], source
    if how.outliers:
        which = graph.add_constant(f"{source}.which", np.array(how.outliers, dtype=np.int64))
        nodes.append(make_node("Gather", [source, which], f"{source}.apart", axis=-1))
    if how.channels is not None or (how.outliers and how.scaling == "token"):
        factors = graph.add_constant(f"{source}.factors", how.factors(inputs))
        value = f"{source}.even"
        nodes.append(make_node("Mul", [source, factors], value))
    if how.scaling == "fixed":
        scale, zero = how.fixed
        constants = (graph.add_constant(f"{source}.scale", scale), graph.add_constant(f"{source}.zero", zero))
        return [*nodes, make_node("QuantizeLinear", [value, *constants], f"{source}.int8")]
    one = graph.add_constant("one", np.float32(1))
    return [
        *nodes,
        *(
            _scale_of_largest(graph, source, value)
            if how.scaling == "token"
            else _scale_above(graph, source, value, how)
        ),
        make_node("Div", [value, f"{source}.scale"], f"{source}.steps"),
        make_node("QuantizeLinear", [f"{source}.steps", one, _zero(graph, how)], f"{source}.int8"),
    ]


def _scale_of_largest(graph: Graph, source: str, value: str) -> list[onnx.NodeProto]:
    share = graph.add_constant("one_127th", np.float32(1 / 127))
    least = graph.add_constant("smallest", np.float32(_SMALLEST))
    return [
        make_node("Abs", [value], f"{source}.abs"),
        make_node("ReduceMax", [f"{source}.abs", _last_axis(graph)], f"{source}.largest", keepdims=1),
        make_node("Mul", [f"{source}.largest", share], f"{source}.step"),
        make_node("Max", [f"{source}.step", least], f"{source}.scale"),
    ]


def _scale_above(graph: Graph, source: str, value: str, how: Activation) -> list[onnx.NodeProto]:
    least, most = (
        graph.add_constant(f"{source}.{name}", np.float32(one))
        for name, one in zip(("least", "most"), how.largest, strict=True)
    )
    share = graph.add_constant("one_above", np.float32(1 / (255 - ZERO)))
    return [
        make_node("ReduceMax", [value, _last_axis(graph)], f"{source}.largest", keepdims=1),
        make_node("Clip", [f"{source}.largest", least, most], f"{source}.clipped"),
        make_node("Mul", [f"{source}.clipped", share], f"{source}.scale"),
    ]


def _last_axis(graph: Graph) -> str:
    return graph.add_constant("last_axis", np.array([-1], dtype=np.int64))


def _zero(graph: Graph, how: Activation) -> str:
    """The zero point of per-token scales."""
    zero = 128 if how.scaling == "token" else ZERO
    return graph.add_constant(f"zero_{zero}", np.uint8(zero))


def _product(graph: Graph, layer: LinearLayer, how: Activation, rounding: Rounding) -> list[onnx.NodeProto]:
    """The nodes that compute the integer product, add the outlier channels and the bias, and give the result."""
    name = layer.node.output[0]
    integers, scales = rounding(layer.source, how.counterpart(layer.weights))
    operands = [f"{layer.source}.int8", graph.add_constant(f"{name}.weights", integers)]
    steps = graph.add_constant(f"{name}.steps", scales)
    # One per layer: where onnxruntime converts signed weights to unsigned ones, it fails on a shared zero point.
    nothing = graph.add_constant(f"{name}.no_shift", np.int8(0))
    bias = [] if layer.bias is None else [graph.add_constant(f"{name}.bias", layer.bias)]
    if how.scaling == "fixed":
        inputs = [*operands, f"{layer.source}.scale", steps, f"{layer.source}.zero", nothing, *bias]
        nodes = [make_node("MatMulIntegerToFloat", inputs, f"{name}.product", CONTRIB)]
    else:
        inputs = [*operands, graph.add_constant("one", np.float32(1)), steps, _zero(graph, how), nothing]
        nodes = [
            make_node("MatMulIntegerToFloat", inputs, f"{name}.whole", CONTRIB),
            make_node("Mul", [f"{name}.whole", f"{layer.source}.scale"], f"{name}.product"),
        ]
        if bias:
            nodes.append(make_node("Add", [f"{name}.product", *bias], f"{name}.biased"))
    if how.outliers:
        floats = graph.add_constant(f"{name}.floats", layer.weights[list(how.outliers)])
        so_far = nodes[-1].output[0]
        nodes.append(make_node("MatMul", [f"{layer.source}.apart", floats], f"{name}.apart"))
        nodes.append(make_node("Add", [so_far, f"{name}.apart"], f"{name}.all"))
    nodes[-1].output[0] = layer.result
    return nodes


def quantize_embeddings(graph: Graph) -> int:
    """Replace large embedding tables by 8-bit ones with one scale per token of the vocabulary, in place.

    Returns:
        The number of tables that were replaced.
    """
    replaced = 0
    for gather in [one for one in graph.proto.node if one.op_type == "Gather"]:
        table = graph.constant(gather.input[0])
        if table is None or table.ndim != 2 or table.dtype != np.float32 or len(table) < MIN_EMBEDDING_ROWS:
            continue
        integers, scales = round_to_nearest(table.T, multiplied=False)
        name, (_, ids), result = gather.input[0], gather.input, gather.output[0]
        small = graph.add_constant(f"{name}.int8", integers.T)
        steps = graph.add_constant(f"{name}.steps", scales[:, None])
        graph.insert(
            gather,
            [
                make_node("Gather", [small, ids], f"{result}.int8", axis=0),
                make_node("Cast", [f"{result}.int8"], f"{result}.steps", to=TensorProto.FLOAT),
                make_node("Gather", [steps, ids], f"{result}.scale", axis=0),
                make_node("Mul", [f"{result}.steps", f"{result}.scale"], result),
            ],
        )
        graph.remove(gather)
        replaced += 1
    return replaced
