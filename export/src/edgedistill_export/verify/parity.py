"""Agreement of one form of the student with the next: PyTorch, ONNX fp32, int8."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from edgedistill_export.errors import ExportFailed
from edgedistill_serve.scoring.encoding import Encoder
from edgedistill_serve.scoring.scorer import available_cores
from edgedistill_serve.scoring.session import Session
from edgedistill_serve.task.label_decoding import LabelDecoder

Logits: TypeAlias = npt.NDArray[np.float32]
"""Of shape (rows, labels), not calibrated."""

CONVERSION_TOLERANCE = 1e-4
"""The largest difference of a probability between PyTorch and ONNX fp32 that counts as the same model.

The same sums in another order differ by about 1e-6; a wrong mask, a lost segment id or a changed label order differs by
far more.
"""


@dataclass(frozen=True, slots=True)
class ConversionStep:
    """How far one form of the student agrees with the form before it, each row scored alone.

    Attributes:
        before: The form that is the reference, such as ``PyTorch``.
        after: The form that was made from it.
        rows: Validation rows scored, at least 1.
        flips: Rows whose label differs; of a multilabel task, rows of which any label differs.
        flip_rate: ``flips / rows``, in [0, 1].
        max_probability_difference: Largest absolute difference of any label's probability in any row, in [0, 1].
    """

    before: str
    after: str
    rows: int
    flips: int
    flip_rate: float
    max_probability_difference: float


def graph_logits(graph: Path, encoder: Encoder, rows: Sequence[Mapping[str, str]]) -> Logits:
    """Score rows with a checked ONNX graph as the scorer does, each row alone, as many at a time as there are cores.

    Raises:
        BundleError: The graph cannot be loaded.
        ScoringFailed: The graph failed on a row, or a logit is not finite.
    """
    session = Session(graph, overflow_free=True)
    with ThreadPoolExecutor(available_cores()) as callers:
        scored = list(callers.map(session.logits, encoder.encode(rows)))
    return np.array(scored, dtype=np.float32)


def probabilities(logits: Logits, decoder: LabelDecoder) -> npt.NDArray[np.float64]:
    """Return the probabilities that the scorer would give, of shape (rows, labels)."""
    return np.array([decoder.probabilities(row.astype(np.float64)) for row in logits])


def probability_differences(before: Logits, after: Logits, decoder: LabelDecoder) -> npt.NDArray[np.float64]:
    """Return each row's largest absolute difference of a probability, of shape (rows,)."""
    changes = np.abs(probabilities(before, decoder) - probabilities(after, decoder))
    largest: npt.NDArray[np.float64] = changes.max(axis=1)
    return largest


def flipped(before: Logits, after: Logits, decoder: LabelDecoder) -> npt.NDArray[np.bool_]:
    """Return whether each row's label differs, of shape (rows,)."""
    differ: npt.NDArray[np.bool_] = (decoder.label_mask(before) != decoder.label_mask(after)).any(axis=1)
    return differ


def measure_step(names: tuple[str, str], before: Logits, after: Logits, decoder: LabelDecoder) -> ConversionStep:
    """Compare two forms of the student on the same rows, at least one.

    Args:
        names: What the two forms are called.
        before: Finite logits of the reference.
        after: Finite logits of the form that was made from it.
        decoder: How both are read.
    """
    flips = int(flipped(before, after, decoder).sum())
    largest = float(probability_differences(before, after, decoder).max())
    return ConversionStep(*names, len(before), flips, flips / len(before), largest)


def check_conversion(converted: ConversionStep) -> None:
    """Refuse an fp32 graph that is not the student that was evaluated.

    Where no probability differs by more than `CONVERSION_TOLERANCE`, a label can only flip between two labels whose
    probabilities are within twice that of each other, or whose own probability is within that of its threshold: a tie.
    So the difference alone is checked.

    Raises:
        ExportFailed: A probability differs by more.
    """
    if converted.max_probability_difference > CONVERSION_TOLERANCE:
        raise ExportFailed(
            f"{converted.after} is not the model that {converted.before} is: probabilities differ by up to "
            f"{converted.max_probability_difference:.2g} (allowed {CONVERSION_TOLERANCE:g}), "
            f"{converted.flips} of {converted.rows} rows change their label",
            hint="No bundle was written. Choose another backbone, or report this with the backbone's name.",
        )
