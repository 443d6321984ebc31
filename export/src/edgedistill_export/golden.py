"""The golden rows: what the self-check scores when a bundle is loaded on another machine.

Golden rows are validation rows, and `golden.json` carries their texts word for word. Whoever gets the bundle can read
them: a bundle is to be shared no further than those responses may be.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from edgedistill_serve.manifest import Golden, GoldenRow, Precision

MOST_ROWS = 32
"""A self-check of so many rows takes well under a second with a small student."""

SLACK: dict[Precision, float] = {"fp32": 0.001, "int8": 0.02}
"""How much further from the fp32 probabilities than here a row may be on another processor.

Another processor adds floats in another order, about 1e-6 in a probability in fp32; in int8 such a difference can move
an activation to the next of 256 steps, so the slack is wider. Arithmetic that saturates is far outside both.
"""


def golden(
    rows: Sequence[Mapping[str, str]],
    logits: npt.NDArray[np.float32],
    measured: Mapping[Precision, npt.NDArray[np.float64]],
) -> Golden:
    """Choose golden rows, and the tolerance of the self-check.

    Args:
        rows: The inputs of the validation rows, at least one.
        logits: Their fp32 logits, of shape (rows, labels), labels at least two.
        measured: Per precision of the bundle, the largest probability difference from fp32 of each row on this
            machine, of shape (rows,).

    Returns:
        The rows, at most `MOST_ROWS`. The tolerance of a precision is the largest measured difference among
        them plus `SLACK`, at most 1.
    """
    chosen = choose(logits)
    return Golden(
        rows=tuple(GoldenRow(inputs=dict(rows[i]), logits=tuple(map(float, logits[i]))) for i in chosen),
        tolerance={
            precision: min(1.0, float(differences[chosen].max()) + SLACK[precision])
            for precision, differences in measured.items()
        },
    )


def choose(logits: npt.NDArray[np.float32], most: int = MOST_ROWS) -> list[int]:
    """Choose rows to check: half of them near the decision boundary, the others spread over the labels.

    Near the boundary means the smallest margin between the two best logits, where a small error changes the label.
    The others are taken in turns, one of each label that the model gives, the surest first.

    Args:
        logits: Of shape (rows, labels), labels at least two.
        most: How many to choose.

    Returns:
        Row indices, ascending; all rows where there are no more than ``most``.
    """
    if len(logits) <= most:
        return list(range(len(logits)))
    best_two = np.sort(logits, axis=1)[:, -2:]
    margin = best_two[:, 1] - best_two[:, 0]
    near = np.argsort(margin, kind="stable")[: most // 2]
    rest = np.setdiff1d(np.arange(len(logits)), near)
    label = logits.argmax(axis=1)
    turn = np.empty(len(logits), dtype=np.int64)
    for name in np.unique(label[rest]):
        of_label = rest[label[rest] == name]
        turn[of_label[np.argsort(-margin[of_label], kind="stable")]] = np.arange(len(of_label))
    spread = rest[np.lexsort((rest, turn[rest]))][: most - len(near)]
    return sorted(int(i) for i in (*near, *spread))
