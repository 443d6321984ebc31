"""The golden rows: what the self-check scores when a bundle is loaded on another machine.

Golden rows are validation rows, and `golden.json` carries their texts word for word. Whoever gets the bundle can read
them: a bundle is to be shared no further than those responses may be.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from edgedistill_serve.bundle.manifest import Golden, GoldenRow, Precision
from edgedistill_serve.task.label_decoding import LabelDecoder

MOST_ROWS = 32
"""A self-check of so many rows takes well under a second with a small student."""

SLACK: dict[Precision, float] = {"fp32": 0.001, "int8": 0.02}
"""How far from its graph's own probabilities here a row may be on another processor.

Another processor adds floats in another order, about 1e-6 in a probability in fp32; in int8 such a difference can move
an activation to the next of 256 steps, so the slack is wider. Arithmetic that saturates is far outside both.
"""


def build_golden(
    rows: Sequence[Mapping[str, str]], logits: Mapping[Precision, npt.NDArray[np.float32]], decoder: LabelDecoder
) -> Golden:
    """Choose golden rows, and the tolerance of the self-check.

    Args:
        rows: The inputs of the validation rows, at least one.
        logits: Per precision of the bundle, fp32 among them, what its graph gave here, each row alone, of shape (rows,
            labels), labels at least two.
        decoder: How they are read.

    Returns:
        The rows, at most `MOST_ROWS`. Each graph is held to what it gave here, with the tolerance `SLACK`.
    """

    def of(precision: Precision, row: int) -> tuple[float, ...]:
        return tuple(map(float, logits[precision][row]))

    others = [precision for precision in logits if precision != "fp32"]
    return Golden(
        rows=tuple(
            GoldenRow(dict(rows[row]), of("fp32", row), {precision: of(precision, row) for precision in others})
            for row in choose_golden_rows(logits["fp32"], decoder)
        ),
        tolerance={precision: SLACK[precision] for precision in logits},
    )


def choose_golden_rows(logits: npt.NDArray[np.float32], decoder: LabelDecoder, most: int = MOST_ROWS) -> list[int]:
    """Choose rows to check: half of them near the decision boundary, the others spread over the labels.

    Near the boundary means the smallest `LabelDecoder.margins`, where a small error changes the label. The others are
    taken in turns, one of each label that the model gives (of a multilabel task, each set of labels), the surest first.

    Args:
        logits: Of shape (rows, labels), labels at least two.
        decoder: How they are read.
        most: How many to choose.

    Returns:
        Row indices, ascending; all rows where there are no more than ``most``.
    """
    if len(logits) <= most:
        return list(range(len(logits)))
    margin = decoder.margins(logits)
    near = np.argsort(margin, kind="stable")[: most // 2]
    rest = np.setdiff1d(np.arange(len(logits)), near)
    _, label = np.unique(decoder.label_mask(logits), axis=0, return_inverse=True)
    turn = np.empty(len(logits), dtype=np.int64)
    for name in np.unique(label[rest]):
        of_label = rest[label[rest] == name]
        turn[of_label[np.argsort(-margin[of_label], kind="stable")]] = np.arange(len(of_label))
    spread = rest[np.lexsort((rest, turn[rest]))][: most - len(near)]
    return sorted(int(i) for i in (*near, *spread))
