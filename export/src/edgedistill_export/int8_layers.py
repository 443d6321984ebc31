"""Layers in 8-bit integers: ``x · w`` becomes a product of integers, scaled back to floats.

Weights have one scale for each output. Activations have either one fixed scale, measured beforehand on calibration
rows, or one scale for each token, taken when it is scored. Both leave a response's score alone, whatever is scored
beside it; onnxruntime's own dynamic quantization takes one scale over the whole batch and does not.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx

from edgedistill_export.graph import CONTRIB, Graph, Linear, node
from edgedistill_export.rounding import Floats, Integers

Rounding: TypeAlias = Callable[[str, Floats], tuple[Integers, Floats]]
"""From the name of a layer's input, and its weights, to integers and one scale for each output."""
Scaling: TypeAlias = Literal["fixed", "token"]

_SMALLEST = 1e-8
"""Keeps a scale above 0 where a layer's input is 0 throughout."""


@dataclass(frozen=True, slots=True)
class Activation:
    """How the input of a layer becomes integers.

    Attributes:
        low: The smallest value that has an integer of its own; smaller ones are clipped.
        high: The largest.
        channels: Divides every channel first, shape (inputs,), and is multiplied into the weights, so that no channel
            sets the scale for all (Xiao et al. 2023, "SmoothQuant", equation 3); None for nothing.
        scaling: ``fixed``: ``low`` and ``high`` make the scale; ``token``: each token's largest absolute value does.
    """

    low: float
    high: float
    channels: Floats | None = None
    scaling: Scaling = "fixed"


def quantize_layers(graph: Graph, layers: Sequence[Linear], how: Mapping[str, Activation], rounding: Rounding) -> None:
    """Replace layers by 8-bit ones, in place.

    Args:
        graph: The graph.
        layers: Those to replace.
        how: By the name of a layer's input, how it becomes integers; layers of one input share its integers.
        rounding: How weights become integers; it is handed weights that ``channels`` were multiplied into.
    """
    done: set[str] = set()
    for layer in layers:
        activation = how[layer.source]
        if layer.source not in done:
            graph.insert(layer.node, _integers(graph, layer.source, activation))
            done.add(layer.source)
        product = _product(graph, layer, activation, rounding)
        graph.insert(layer.node, product)
        graph.remove(layer.node, layer.bias_node)


def _integers(graph: Graph, source: str, how: Activation) -> list[onnx.NodeProto]:
    """The nodes that turn a layer's input into ``SOURCE.int8``, with ``SOURCE.scale`` where each token has its own."""
    nodes, value = [], source
    if how.channels is not None:
        divisor = graph.add_constant(f"{source}.channels", (1 / how.channels).astype(np.float32))
        value = f"{source}.even"
        nodes.append(node("Mul", [source, divisor], value))
    if how.scaling == "fixed":
        scale, zero = _fixed_scale(how)
        constants = (graph.add_constant(f"{source}.scale", scale), graph.add_constant(f"{source}.zero", zero))
        return [*nodes, node("QuantizeLinear", [value, *constants], f"{source}.int8")]
    one = graph.add_constant("one", np.float32(1))
    middle = graph.add_constant("middle", np.uint8(128))
    share = graph.add_constant("one_127th", np.float32(1 / 127))
    least = graph.add_constant("smallest", np.float32(_SMALLEST))
    axis = graph.add_constant("last_axis", np.array([-1], dtype=np.int64))
    return [
        *nodes,
        node("Abs", [value], f"{source}.abs"),
        node("ReduceMax", [f"{source}.abs", axis], f"{source}.largest", keepdims=1),
        node("Mul", [f"{source}.largest", share], f"{source}.step"),
        node("Max", [f"{source}.step", least], f"{source}.scale"),
        node("Div", [value, f"{source}.scale"], f"{source}.steps"),
        node("QuantizeLinear", [f"{source}.steps", one, middle], f"{source}.int8"),
    ]


def _fixed_scale(how: Activation) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
    low, high = min(how.low, 0.0), max(how.high, 0.0)
    scale = max((high - low) / 255, _SMALLEST)
    return np.array(scale, dtype=np.float32), np.array(np.clip(round(-low / scale), 0, 255), dtype=np.uint8)


def _product(graph: Graph, layer: Linear, how: Activation, rounding: Rounding) -> list[onnx.NodeProto]:
    weights = layer.weights if how.channels is None else layer.weights * how.channels[:, None]
    integers, scales = rounding(layer.source, weights)
    name = layer.node.output[0]
    quantized = graph.add_constant(f"{name}.weights", integers)
    steps = graph.add_constant(f"{name}.steps", scales)
    # Of its own: where onnxruntime turns signed weights into unsigned ones, it fails on a zero that layers share.
    nothing = graph.add_constant(f"{name}.no_shift", np.int8(0))
    bias = [] if layer.bias is None else [graph.add_constant(f"{name}.bias", layer.bias)]
    operands = [f"{layer.source}.int8", quantized]
    if how.scaling == "fixed":
        inputs = [*operands, f"{layer.source}.scale", steps, f"{layer.source}.zero", nothing, *bias]
        return [node("MatMulIntegerToFloat", inputs, layer.result, CONTRIB)]
    inputs = [*operands, "one", steps, "middle", nothing]
    scaled = f"{name}.scaled" if bias else layer.result
    nodes = [
        node("MatMulIntegerToFloat", inputs, f"{name}.product", CONTRIB),
        node("Mul", [f"{name}.product", f"{layer.source}.scale"], scaled),
    ]
    return [*nodes, node("Add", [scaled, bias[0]], layer.result)] if bias else nodes
