"""The golden rows, which the self-check scores when a bundle is loaded on another machine.

Golden rows are validation rows, and `golden.json` contains their texts verbatim. Share a bundle only with people who
may read these responses.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from edgedistill_serve.bundle.manifest import Golden, GoldenRow, Precision
from edgedistill_serve.task.label_decoding import LabelDecoder

MAX_ROWS = 32
"""A self-check with this number of rows takes well under a second with a small student."""

TOLERANCE: dict[Precision, float] = {"fp32": 0.001, "int8": 0.02}
"""The tolerance for probabilities on another processor.

Another processor sums floats in a different order, which changes probabilities by about 1e-6 in fp32; in int8 such a
difference can move an activation to the next of 256 integers, so the tolerance is wider. Saturating arithmetic exceeds
both by far.
"""


def build_golden(
    rows: Sequence[Mapping[str, str]], logits: Mapping[Precision, npt.NDArray[np.float32]], decoder: LabelDecoder
) -> Golden:
    """Choose golden rows, and the tolerance of the self-check.

    Args:
        rows: The inputs of the validation rows, at least one.
        logits: The logits of each row scored alone, by precision (fp32 is required), of shape (rows, labels) with at
            least two labels.
        decoder: Decodes the logits.

    Returns:
        At most `MAX_ROWS` rows with the logits of each graph as expected values, and the tolerances `TOLERANCE`.
    """

    def of(precision: Precision, row: int) -> tuple[float, ...]:
        return tuple(map(float, logits[precision][row]))

    others = [precision for precision in logits if precision != "fp32"]
    return Golden(
        rows=tuple(
            GoldenRow(dict(rows[row]), of("fp32", row), {precision: of(precision, row) for precision in others})
            for row in choose_golden_rows(logits["fp32"], decoder)
        ),
        tolerance={precision: TOLERANCE[precision] for precision in logits},
    )


def choose_golden_rows(logits: npt.NDArray[np.float32], decoder: LabelDecoder, most: int = MAX_ROWS) -> list[int]:
    """Choose rows for the self-check: half near the decision boundary, the others balanced over the labels.

    Rows near the boundary have the smallest `LabelDecoder.margins`; there a small error changes the label. The others
    are chosen round-robin over the predicted labels (for a multilabel task, sets of labels), largest margin first.

    Args:
        logits: Shape (rows, labels), at least two labels.
        decoder: Decodes the logits.
        most: Number of rows to choose.

    Returns:
        Row indices in ascending order; all rows if there are no more than ``most``.
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
