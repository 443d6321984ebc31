"""How the input of each layer becomes integers: what changes the layer's outputs least on calibration rows."""

from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np

from edgedistill_export.calibration import Fed
from edgedistill_export.graph import Linear
from edgedistill_export.int8_layers import Activation, Scaling
from edgedistill_export.rounding import Floats, nearest

SHARES = (None, 0.25, 0.5, 0.75)
"""How much of the difference between channels moves from activations into weights; None: nothing moves."""
WORTH = 1.5
"""A scale for each token costs time: a fixed one is taken unless its error is so much larger."""
BELOW = 0.1
"""An input lies above 0 where its smallest value is at most so far below, as a share of its largest."""
HEADROOM = 1.25
"""Largest value ``above``, by that of the calibration rows: other rows may have larger ones."""
_TOKENS = 256
_SMALLEST = 1e-5


def choose_activations(
    layers: Sequence[Linear], fed: Mapping[str, Fed], scalings: Sequence[Scaling] = ("fixed", "token"), apart: int = 0
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
    return {source: _choose(_readers(layers, source), fed[source], scalings, apart) for source in _sources(layers)}


def errors(layers: Sequence[Linear], fed: Mapping[str, Fed], how: Mapping[str, Activation]) -> dict[str, float]:
    """Return, by input, the mean squared change of its layers' outputs relative to their mean square."""
    return {source: _error(_readers(layers, source), fed[source].values, how[source]) for source in _sources(layers)}


def _sources(layers: Sequence[Linear]) -> list[str]:
    return list(dict.fromkeys(layer.source for layer in layers))


def _readers(layers: Sequence[Linear], source: str) -> Floats:
    """The weights of all layers that read an input, side by side."""
    return np.concatenate([layer.weights for layer in layers if layer.source == source], axis=1)


def _choose(weights: Floats, fed: Fed, scalings: Sequence[Scaling], apart: int) -> Activation:
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
    return min(ways, key=lambda how: _error(weights, values, how) * (WORTH if how.scaling == "token" else 1.0))


def _activation(weights: Floats, fed: Fed, scaling: Scaling, share: float | None, apart: tuple[int, ...]) -> Activation:
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
    integers, scales = nearest(scaled)
    change = how.rounded(even) @ (integers * scales) - even @ scaled
    return float((change**2).mean() / max(float(((some @ weights) ** 2).mean()), _SMALLEST))
