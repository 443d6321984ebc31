"""Agreement of consecutive stages of the export: PyTorch, ONNX fp32, int8."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from edgedistill_export.counting import counted
from edgedistill_export.errors import ExportFailed
from edgedistill_serve.cores import available_cores
from edgedistill_serve.scoring.encoding import Encoder
from edgedistill_serve.scoring.session import Session
from edgedistill_serve.task.label_decoding import LabelDecoder

Logits: TypeAlias = npt.NDArray[np.float32]
"""Of shape (rows, labels), not calibrated."""

CONVERSION_TOLERANCE = 1e-4
"""The largest allowed difference of a probability between PyTorch and ONNX fp32.

A different order of summation changes probabilities by about 1e-6; a wrong mask, missing segment ids or a changed label
order changes them far more.
"""


@dataclass(frozen=True, slots=True)
class ConversionStep:
    """The agreement of an export stage with the previous one, each row scored alone.

    Attributes:
        before: The reference stage, such as ``PyTorch``.
        after: The stage that is compared with it.
        rows: Number of validation rows, at least 1.
        flips: Rows whose label differs; for a multilabel task, rows with any different label.
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
    """Score rows with a checked ONNX graph as the scorer does, each row alone, one row per core at a time.

    Raises:
        BundleError: The graph cannot be loaded.
        ScoringFailed: The graph failed on a row, or a logit is not finite.
    """
    session = Session(graph, overflow_free=True)
    with ThreadPoolExecutor(available_cores()) as callers:
        scored = list(counted(callers.map(session.logits, encoder.encode(rows))))
    return np.array(scored, dtype=np.float32)


def graph_novelty(graph: Path, encoder: Encoder, rows: Sequence[Mapping[str, str]]) -> npt.NDArray[np.float64] | None:
    """Return the novelty of rows, each alone, shape (rows,); None if the graph computes none."""
    session = Session(graph, overflow_free=True)
    with ThreadPoolExecutor(available_cores()) as callers:
        scored = [found.novelty for found in counted(callers.map(lambda row: session.run([row]), encoder.encode(rows)))]
    given = [novelty for novelty in scored if novelty is not None]
    return np.concatenate(given) if given else None


def probabilities(logits: Logits, decoder: LabelDecoder) -> npt.NDArray[np.float64]:
    """Return probabilities as the scorer computes them, of shape (rows, labels)."""
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
    """Compare two stages of the export on the same rows, at least one.

    Args:
        names: Names of the two stages.
        before: Finite logits of the reference, of shape (rows, labels).
        after: Finite logits of the other stage, of the same shape.
        decoder: Decodes the logits of both.
    """
    flips = int(flipped(before, after, decoder).sum())
    largest = float(probability_differences(before, after, decoder).max())
    return ConversionStep(*names, len(before), flips, flips / len(before), largest)


def check_conversion(converted: ConversionStep) -> None:
    """Check that the fp32 graph agrees with the evaluated student.

    If no probability differs by more than `CONVERSION_TOLERANCE`, a label can only flip in a near tie: between two
    labels whose probabilities differ by at most twice that, or at a threshold. So only the difference is checked.

    Raises:
        ExportFailed: A probability differs by more.
    """
    if not converted.max_probability_difference <= CONVERSION_TOLERANCE:
        raise ExportFailed(
            f"{converted.after} does not agree with {converted.before}: probabilities differ by up to "
            f"{converted.max_probability_difference:.2g} (allowed {CONVERSION_TOLERANCE:g}), and "
            f"{converted.flips} of {converted.rows} rows change their label",
            hint="No bundle was written. Choose another backbone, or report a bug with the backbone's name.",
        )
