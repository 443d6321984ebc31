"""Weights rounded to integers so that a layer's outputs change little, not its weights.

Rounding each weight to the nearest integer errs at random. Rounding one input's weights after the other, and taking
each error out of the weights that are still to come, keeps the outputs on calibration rows closer (Frantar et al. 2023,
"GPTQ", algorithm 1).
"""

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float32]
Integers: TypeAlias = npt.NDArray[np.int8]

_DAMPING = 0.01
"""Share of the mean variance that is added to each input's, so that inputs that hardly vary can be divided by."""
_BLOCK = 128
"""Inputs whose errors are carried on together; no figure depends on it."""
_SMALLEST = 1e-8


def nearest(weights: Floats, bits: int = 8) -> tuple[Integers, Floats]:
    """Round weights to the nearest integers of one scale for each output.

    Args:
        weights: Shape (inputs, outputs).
        bits: 2 to 8: integers up to ``2 ** (bits - 1) - 1``.

    Returns:
        The integers, of the same shape, and the scales, of shape (outputs,).
    """
    scales, _ = _scales(weights, bits)
    return np.rint(weights / scales).astype(np.int8), scales


def carried(weights: Floats, fed: Floats, bits: int = 8) -> tuple[Integers, Floats]:
    """Round weights with each input's error carried on to the inputs after it.

    Args:
        weights: Shape (inputs, outputs).
        fed: What the layer was fed with, shape (tokens, inputs), at least one token.
        bits: As for `nearest`.

    Returns:
        As `nearest`.
    """
    scales, most = _scales(weights, bits)
    toward = _shares(fed)
    left = weights.astype(np.float64)
    integers = np.zeros(weights.shape, dtype=np.int8)
    for start in range(0, len(left), _BLOCK):
        end = min(start + _BLOCK, len(left))
        errors = np.zeros((end - start, left.shape[1]))
        for row in range(start, end):
            rounded = np.clip(np.rint(left[row] / scales), -most, most)
            integers[row] = rounded
            errors[row - start] = error = (left[row] - rounded * scales) / toward[row, row]
            left[row + 1 : end] -= np.outer(toward[row, row + 1 : end], error)
        left[end:] -= toward[start:end, end:].T @ errors
    return integers, scales


def _scales(weights: Floats, bits: int) -> tuple[Floats, int]:
    most = 2 ** (bits - 1) - 1
    return np.maximum(np.abs(weights).max(axis=0) / most, _SMALLEST).astype(np.float32), most


def _shares(fed: Floats) -> npt.NDArray[np.float64]:
    """The upper Cholesky factor of the inverse of the inputs' second moments, shape (inputs, inputs)."""
    moments = (fed.T @ fed).astype(np.float64)
    moments += np.eye(len(moments)) * max(_DAMPING * float(np.diag(moments).mean()), _SMALLEST)
    factor: npt.NDArray[np.float64] = np.linalg.cholesky(np.linalg.inv(moments)).T
    return factor
