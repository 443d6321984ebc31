"""The self-check at load: does this CPU give the scores that the bundle was checked with?"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgedistill_serve.bundle.manifest import Golden, Precision
from edgedistill_serve.task.label_decoding import LabelDecoder


@dataclass(frozen=True, slots=True)
class SelfCheck:
    """What the golden responses scored here.

    Attributes:
        precision: Of the graph that was checked.
        rows: How many responses were scored.
        difference: The largest difference of a probability from the golden one, in [0, 1].
        tolerance: The largest difference that is accepted.
    """

    precision: Precision
    rows: int
    difference: float
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether the graph may be used on this CPU."""
        return self.difference <= self.tolerance


def self_check(
    logits_of: Callable[[Mapping[str, str]], NDArray[np.float64]],
    golden: Golden,
    precision: Precision,
    decoder: LabelDecoder,
) -> SelfCheck:
    """Score the golden responses and compare.

    Args:
        logits_of: From the inputs of a response to its logits, shape (labels,).
        golden: Responses with the logits that each graph gave where the bundle was made.
        precision: Of the graph behind ``logits_of``; chooses the expected logits and the tolerance.
        decoder: How both logits are read.

    Raises:
        ScoringFailed: A response cannot be scored.
    """
    difference = 0.0
    for row in golden.rows:
        wanted = decoder.probabilities(np.array(row.expected(precision), dtype=np.float64))
        found = decoder.probabilities(logits_of(row.inputs))
        same_labels = found.shape == wanted.shape
        difference = max(difference, float(np.abs(found - wanted).max()) if same_labels else 1.0)
    return SelfCheck(precision, len(golden.rows), difference, golden.tolerance[precision])
