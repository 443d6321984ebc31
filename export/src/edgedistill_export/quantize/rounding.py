"""Round weights to integers such that a layer's outputs change little.

Rounding to the nearest integer has independent errors. GPTQ rounds the weights of one input after the other and
compensates each error in the weights of the following inputs, which reduces the error of the outputs on calibration
rows (Frantar et al. 2023, "GPTQ", algorithm 1).

x86 processors without VNNI multiply unsigned by signed 8-bit integers in pairs, inputs 2i and 2i + 1 of an output, and
saturate the sum of the two products at 16 bits. Therefore the two weights of a pair sum to at most `MAX_PAIR_SUM`: the
largest pair determines each output's scale.
"""

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float32]
Integers: TypeAlias = npt.NDArray[np.int8]

MAX_PAIR_SUM = 128
"""The largest absolute sum of a pair's weights of one sign without overflow: 255 * 128 < 2**15."""

_LARGEST = 127
_DAMPING = 0.01
"""Share of the mean second moment that is added to the diagonal, so that the matrix is invertible."""
_BLOCK = 128
"""Number of inputs whose errors are applied together; does not change the result."""
_SMALLEST = 1e-8


def pair_sums(weights: npt.NDArray[np.float32 | np.int8]) -> npt.NDArray[np.float64]:
    """Return the sum of the weights of one sign in each pair of inputs, the larger of the two signs' absolute sums.

    Args:
        weights: Shape (inputs, outputs). With an odd number of inputs, the last is paired with 0.

    Returns:
        Shape (pairs, outputs).
    """
    inputs, outputs = weights.shape
    pairs = np.zeros((-(-inputs // 2), 2, outputs))
    pairs.reshape(-1, outputs)[:inputs] = weights
    sums: npt.NDArray[np.float64] = np.maximum(pairs.clip(min=0).sum(axis=1), -pairs.clip(max=0).sum(axis=1))
    return sums


def round_to_nearest(weights: Floats, *, multiplied: bool = True) -> tuple[Integers, Floats]:
    """Round weights to the nearest integers, with one scale per output.

    Args:
        weights: Shape (inputs, outputs).
        multiplied: Whether the integers are multiplied by 8-bit integers, so that pairs must be limited; if not, the
            largest weight determines each scale.

    Returns:
        The integers, from -127 to 127, of the same shape, and the scales, of shape (outputs,).
    """
    scales = _scales(weights, multiplied=multiplied)
    integers = np.rint(weights / scales)
    if multiplied:
        second = integers[1::2]
        second[:] = _beside(integers[::2][: len(second)], second)
    return integers.astype(np.int8), scales


def round_gptq(weights: Floats, fed: Floats) -> tuple[Integers, Floats]:
    """Round weights with GPTQ.

    Args:
        weights: Shape (inputs, outputs).
        fed: The layer's input on calibration rows, shape (tokens, inputs), at least one token.

    Returns:
        As `round_to_nearest`, with limited pairs.
    """
    scales = _scales(weights, multiplied=True)
    toward = _shares(fed)
    left = weights.astype(np.float64)
    integers = np.zeros(weights.shape, dtype=np.int8)
    for start in range(0, len(left), _BLOCK):
        end = min(start + _BLOCK, len(left))
        errors = np.zeros((end - start, left.shape[1]))
        for row in range(start, end):
            rounded = np.clip(np.rint(left[row] / scales), -_LARGEST, _LARGEST)
            if row % 2:
                rounded = _beside(integers[row - 1], rounded)
            integers[row] = rounded
            errors[row - start] = error = (left[row] - rounded * scales) / toward[row, row]
            left[row + 1 : end] -= np.outer(toward[row, row + 1 : end], error)
        left[end:] -= toward[start:end, end:].T @ errors
    return integers, scales


def _scales(weights: Floats, *, multiplied: bool) -> Floats:
    scales: Floats = np.maximum(np.abs(weights).max(axis=0) / _LARGEST, _SMALLEST).astype(np.float32)
    return np.maximum(scales, (pair_sums(weights).max(axis=0) / MAX_PAIR_SUM).astype("f4")) if multiplied else scales


def _beside(first: npt.NDArray[Any], second: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Clip the second integers of pairs so that no pair exceeds `MAX_PAIR_SUM`, which rounding may exceed by 1."""
    first = first.astype(np.int64)
    clipped: npt.NDArray[Any] = np.clip(
        second, -MAX_PAIR_SUM - np.minimum(first, 0), MAX_PAIR_SUM - np.maximum(first, 0)
    )
    return clipped


def _shares(fed: Floats) -> npt.NDArray[np.float64]:
    """The upper Cholesky factor of the inverse of the inputs' second moments, shape (inputs, inputs)."""
    moments = (fed.T @ fed).astype(np.float64)
    moments += np.eye(len(moments)) * max(_DAMPING * float(np.diag(moments).mean()), _SMALLEST)
    factor: npt.NDArray[np.float64] = np.linalg.cholesky(np.linalg.inv(moments)).T
    return factor
