"""Choose the quantization of each layer's input: calibrated ranges, and the scaling with the smallest output error."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime

from edgedistill_export.convert.graph import Graph, LinearLayer
from edgedistill_export.errors import ExportFailed
from edgedistill_export.quantize.int8_layers import Activation, Scaling
from edgedistill_export.quantize.rounding import Floats, round_to_nearest
from edgedistill_export.temporary import temporary_folder
from edgedistill_serve.scoring.encoding import Encoded
from edgedistill_serve.scoring.session import build_feeds

MOST_VALUES = 2_000_000
"""Maximum number of values that are stored per layer input; of more, evenly spaced tokens are stored."""


@dataclass(frozen=True, slots=True, eq=False)
class LayerInputs:
    """The input of one layer over all calibration rows.

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
    """Score calibration rows, each alone, and record the input of every linear layer.

    Args:
        graph: An fp32 graph.
        rows: Calibration rows, at least one.

    Returns:
        The recorded values, by name of the layer input.

    Raises:
        ExportFailed: The graph cannot be run.
    """
    sources = list(dict.fromkeys(layer.source for layer in graph.linear_layers()))
    watched = onnx.ModelProto()
    watched.CopyFrom(graph.model)
    watched.graph.output.extend(onnx.ValueInfoProto(name=name) for name in sources)
    with temporary_folder("calibration") as work:
        file = work / "watched.onnx"
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
    # Fusions would remove the recorded values.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


def _stacked(found: Sequence[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
    values = np.concatenate([one.reshape(-1, one.shape[-1]) for one in found])
    every = -(-values.size // MOST_VALUES)
    return values[::every]


SHARES = (None, 0.25, 0.5, 0.75)
"""Migration strengths of SmoothQuant (alpha); None: no channel scaling."""
BELOW = 0.1
"""An input counts as nonnegative if its smallest value is at most this share of its largest value below 0."""
HEADROOM = 1.25
"""Factor on the largest calibration value for ``above``, since other rows may have larger values."""
_TOKENS = 256
_SMALLEST = 1e-5


def choose_activation_scaling(
    layers: Sequence[LinearLayer], fed: Mapping[str, LayerInputs], scalings: Sequence[Scaling], outliers: int = 0
) -> dict[str, Activation]:
    """Choose the scaling, the SmoothQuant channel scales and the outlier channels of each layer input.

    Nonnegative inputs, such as the output of a GELU, have rare values far above the others, which differ between rows.
    They get the scaling ``above`` if it is allowed, because calibration rows do not determine their range.

    Args:
        layers: The layers to quantize.
        fed: The values of each input on calibration rows, by name of the input.
        scalings: The allowed scalings.
        outliers: Number of outlier channels per input that are multiplied in fp32: those with the largest values. They
            spoil the scale of a few tokens even if the mean error is small.

    Returns:
        By name of the input.
    """
    sources = dict.fromkeys(layer.source for layer in layers)
    return {source: _choose(_readers(layers, source), fed[source], scalings, outliers) for source in sources}


def _readers(layers: Sequence[LinearLayer], source: str) -> Floats:
    """The weights of all layers that read an input, concatenated."""
    return np.concatenate([layer.weights for layer in layers if layer.source == source], axis=1)


def _choose(weights: Floats, fed: LayerInputs, scalings: Sequence[Scaling], outliers: int) -> Activation:
    values = fed.values
    largest = np.argsort(fed.channels)[len(fed.channels) - outliers :]
    channels = tuple(np.sort(largest).tolist())
    if "above" in scalings and values.max() > 0 and values.min() >= -BELOW * values.max():
        return _activation(weights, fed, "above", None, channels)
    ways = [
        _activation(weights, fed, scaling, share, channels)
        for scaling, share in product(scalings, SHARES)
        if scaling != "above"
    ]
    return min(ways, key=lambda how: _error(weights, values, how))


def _activation(
    weights: Floats, fed: LayerInputs, scaling: Scaling, share: float | None, outliers: tuple[int, ...]
) -> Activation:
    channels = None
    if share is not None:
        largest = np.maximum(fed.channels, _SMALLEST)
        channels = (largest**share / np.maximum(np.abs(weights).max(axis=1), _SMALLEST) ** (1 - share)).astype("f4")
    scaled = Activation(0.0, 0.0, channels, scaling, outliers).scaled(fed.values)
    room = HEADROOM if scaling == "above" else 1.0
    return Activation(float(scaled.min()), room * float(scaled.max()), channels, scaling, outliers)


def _error(weights: Floats, values: Floats, how: Activation) -> float:
    some = values[:: -(-len(values) // _TOKENS)]
    scaled, matching = how.scaled(some), how.counterpart(weights)
    integers, scales = round_to_nearest(matching)
    change = how.rounded(scaled) @ (integers * scales) - scaled @ matching
    error = float((change**2).mean() / max(float(((some @ weights) ** 2).mean()), _SMALLEST))
    return error if math.isfinite(error) else math.inf  # `min` could otherwise choose it
