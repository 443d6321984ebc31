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
"""A fixed scale is cheaper than one for each token, and taken where its error is no more than so many times larger."""
_TOKENS = 256
_SMALLEST = 1e-5


def choose_activations(
    layers: Sequence[Linear], fed: Mapping[str, Fed], scalings: Sequence[Scaling] = ("fixed", "token")
) -> dict[str, Activation]:
    """Choose, for each input that layers share, its scaling and how far its channels are evened out.

    Args:
        layers: The layers to quantize.
        fed: By the name of an input, what it was on calibration rows.
        scalings: What may be chosen.

    Returns:
        By the name of an input.
    """
    return {source: _choose(_readers(layers, source), fed[source], scalings) for source in _sources(layers)}


def errors(layers: Sequence[Linear], fed: Mapping[str, Fed], how: Mapping[str, Activation]) -> dict[str, float]:
    """Return, by input, the mean squared change of its layers' outputs relative to their mean square."""
    return {source: _error(_readers(layers, source), fed[source].values, how[source]) for source in _sources(layers)}


def _sources(layers: Sequence[Linear]) -> list[str]:
    return list(dict.fromkeys(layer.source for layer in layers))


def _readers(layers: Sequence[Linear], source: str) -> Floats:
    """The weights of all layers that read an input, side by side."""
    return np.concatenate([layer.weights for layer in layers if layer.source == source], axis=1)


def _choose(weights: Floats, fed: Fed, scalings: Sequence[Scaling]) -> Activation:
    found: dict[Scaling, tuple[float, Activation]] = {}
    for scaling, share in product(scalings, SHARES):
        how = _activation(weights, fed, scaling, share)
        error = _error(weights, fed.values, how)
        if scaling not in found or error < found[scaling][0]:
            found[scaling] = error, how
    if "fixed" in found and found["fixed"][0] <= WORTH * min(error for error, _ in found.values()):
        return found["fixed"][1]
    return min(found.values(), key=lambda one: one[0])[1]


def _activation(weights: Floats, fed: Fed, scaling: Scaling, share: float | None) -> Activation:
    channels = None
    if share is not None:
        largest = np.maximum(fed.channels, _SMALLEST)
        channels = (largest**share / np.maximum(np.abs(weights).max(axis=1), _SMALLEST) ** (1 - share)).astype("f4")
    even = fed.values if channels is None else fed.values / channels
    return Activation(float(even.min()), float(even.max()), channels, scaling)


def _error(weights: Floats, values: Floats, how: Activation) -> float:
    some = values[:: -(-len(values) // _TOKENS)]
    even, scaled = (some, weights) if how.channels is None else (some / how.channels, weights * how.channels[:, None])
    step = (how.high - how.low) / 255 if how.scaling == "fixed" else np.abs(even).max(axis=1, keepdims=True) / 127
    step = np.maximum(step, _SMALLEST)
    integers, scales = nearest(scaled.astype(np.float32))
    wanted = some @ weights
    found = (np.rint(even / step) * step) @ (integers * scales)
    return float(((found - wanted) ** 2).mean() / max(float((wanted**2).mean()), _SMALLEST))
