"""How the input of each layer becomes integers: measured ranges, and the scaling that changes outputs least."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime

from edgedistill_export.convert.graph import Graph, LinearLayer
from edgedistill_export.errors import ExportFailed
from edgedistill_export.quantize.int8_layers import Activation, Scaling
from edgedistill_export.quantize.rounding import Floats, round_to_nearest
from edgedistill_serve.scoring.encoding import Encoded
from edgedistill_serve.scoring.session import build_feeds

MOST_VALUES = 2_000_000
"""Values of one layer's input that are kept to find percentiles in; of more, an even choice is."""


@dataclass(frozen=True, slots=True, eq=False)
class LayerInputs:
    """What one layer was fed with over all calibration rows.

    Attributes:
        values: Shape (tokens, channels), float32.
    """

    values: npt.NDArray[np.float32]

    @property
    def channels(self) -> npt.NDArray[np.float32]:
        """Each channel's largest absolute value, of shape (channels,)."""
        found: npt.NDArray[np.float32] = np.abs(self.values).max(axis=0)
        return found


def record_layer_inputs(graph: Graph, rows: Sequence[Encoded]) -> dict[str, LayerInputs]:
    """Score calibration rows, each alone, and keep what every layer over tokens is fed with.

    Args:
        graph: An fp32 graph.
        rows: At least one.

    Returns:
        By the name of a layer's input.

    Raises:
        ExportFailed: The graph cannot be run.
    """
    sources = list(dict.fromkeys(layer.source for layer in graph.linear_layers()))
    watched = onnx.ModelProto()
    watched.CopyFrom(graph.model)
    watched.graph.output.extend(onnx.ValueInfoProto(name=name) for name in sources)
    with TemporaryDirectory(prefix="edgedistill-calibration-") as work:
        file = Path(work) / "watched.onnx"
        onnx.save(watched, file)
        try:
            session = _session(file)
            wanted = {given.name for given in session.get_inputs()}
            found = [
                session.run(sources, {name: value for name, value in build_feeds([row]).items() if name in wanted})
                for row in rows
            ]
        except Exception as error:  # onnxruntime's errors have no common root
            raise ExportFailed(f"the graph cannot be calibrated ({type(error).__name__})", where=file.name) from error
    return {name: LayerInputs(_stacked([of_row[place] for of_row in found])) for place, name in enumerate(sources)}


def _session(file: Path) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    # Fusions would do away with the values that are watched.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


def _stacked(found: Sequence[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
    values = np.concatenate([one.reshape(-1, one.shape[-1]) for one in found])
    every = -(-values.size // MOST_VALUES)
    return values[::every]


SHARES = (None, 0.25, 0.5, 0.75)
"""How much of the difference between channels moves from activations into weights; None: nothing moves."""
BELOW = 0.1
"""An input lies above 0 where its smallest value is at most so far below, as a share of its largest."""
HEADROOM = 1.25
"""Largest value ``above``, by that of the calibration rows: other rows may have larger ones."""
_TOKENS = 256
_SMALLEST = 1e-5


def choose_activation_scaling(
    layers: Sequence[LinearLayer], fed: Mapping[str, LayerInputs], scalings: Sequence[Scaling], apart: int = 0
) -> dict[str, Activation]:
    """Choose, for each input that layers share, its scaling, how far its channels are evened out, and which are apart.

    Inputs that lie above 0, such as what a GELU gives, have rare values far above the others, and in other rows other
    ones: they are scaled ``above`` wherever that is allowed, for calibration rows cannot tell how far to go.

    Args:
        layers: The layers to quantize.
        fed: By the name of an input, what it was on calibration rows.
        scalings: What may be chosen.
        apart: How many channels of every input are multiplied apart: those with the largest values. Where errors are
            equal on average, it is still a few tokens that such channels spoil, and scores hang on them.

    Returns:
        By the name of an input.
    """
    sources = dict.fromkeys(layer.source for layer in layers)
    return {source: _choose(_readers(layers, source), fed[source], scalings, apart) for source in sources}


def _readers(layers: Sequence[LinearLayer], source: str) -> Floats:
    """The weights of all layers that read an input, side by side."""
    return np.concatenate([layer.weights for layer in layers if layer.source == source], axis=1)


def _choose(weights: Floats, fed: LayerInputs, scalings: Sequence[Scaling], apart: int) -> Activation:
    values = fed.values
    largest = np.argsort(fed.channels)[len(fed.channels) - apart :]
    outliers = tuple(np.sort(largest).tolist())
    if "above" in scalings and values.max() > 0 and values.min() >= -BELOW * values.max():
        return _activation(weights, fed, "above", None, outliers)
    ways = [
        _activation(weights, fed, scaling, share, outliers)
        for scaling, share in product(scalings, SHARES)
        if scaling != "above"
    ]
    return min(ways, key=lambda how: _error(weights, values, how))


def _activation(
    weights: Floats, fed: LayerInputs, scaling: Scaling, share: float | None, apart: tuple[int, ...]
) -> Activation:
    channels = None
    if share is not None:
        largest = np.maximum(fed.channels, _SMALLEST)
        channels = (largest**share / np.maximum(np.abs(weights).max(axis=1), _SMALLEST) ** (1 - share)).astype("f4")
    even = Activation(0.0, 0.0, channels, scaling, apart).even(fed.values)
    room = HEADROOM if scaling == "above" else 1.0
    return Activation(float(even.min()), room * float(even.max()), channels, scaling, apart)


def _error(weights: Floats, values: Floats, how: Activation) -> float:
    some = values[:: -(-len(values) // _TOKENS)]
    even, scaled = how.even(some), how.counterpart(weights)
    integers, scales = round_to_nearest(scaled)
    change = how.rounded(even) @ (integers * scales) - even @ scaled
    return float((change**2).mean() / max(float(((some @ weights) ** 2).mean()), _SMALLEST))
