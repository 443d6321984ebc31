"""How much one condition is above another, on what both have."""

from collections.abc import Sequence
from dataclasses import dataclass

from edgedistill.agreement import Estimate
from edgedistill.studies.material import Material
from edgedistill.studies.resampling import coded_rows, figures_of, over_seeds
from edgedistill.studies.types import Line


@dataclass(frozen=True, slots=True)
class Gain:
    """The difference of two conditions, paired by seed and by test row.

    Attributes:
        macro_f1, f1: Difference of the means over the seeds that both have, on the rows that both code, with a 95 %
            interval over these seeds and rows; None where undefined.
        seeds: How many seeds both have, and how many either has.
        rows: How many test rows both code, and how many there are.
    """

    macro_f1: Estimate | None
    f1: Estimate | None
    seeds: tuple[int, int]
    rows: tuple[int, int]

    @property
    def part(self) -> str:
        """What it stands on where that is not all: ``2 of 3 seeds, 14 of 20 rows``; else empty."""
        counts = {"seeds": self.seeds, "rows": self.rows}
        return ", ".join(f"{both} of {there} {what}" for what, (both, there) in counts.items() if both < there)


def gain_over(lines: Sequence[Line], others: Sequence[Line], material: Material) -> Gain:
    """Return how much a condition is above another one.

    Args:
        lines: The condition's students on one set of test rows, at least one.
        others: Those of the other condition on the same rows, at least one.
        material: Their task.
    """
    ours, theirs = _by_seed(lines, others), _by_seed(others, lines)
    shared = sorted(ours.keys() & theirs.keys())
    seeds = (len(shared), len(ours.keys() | theirs.keys()))
    pairs = [ours[seed] for seed in shared], [theirs[seed] for seed in shared]
    counted = coded_rows([*pairs[0], *pairs[1]] or lines)
    rows = (int(counted.sum()), len(counted))
    if not shared or not rows[0]:
        return Gain(None, None, seeds, rows)
    above, below = (figures_of(each, counted, material) for each in pairs)
    return Gain(over_seeds(above["macro_f1"] - below["macro_f1"]), over_seeds(above["f1"] - below["f1"]), seeds, rows)


def _by_seed(lines: Sequence[Line], others: Sequence[Line]) -> dict[int, Line]:
    """Lines by seed; the teacher itself has no seed and stands beside each of the others'."""
    if lines[0].plan.learner == "teacher":
        return {other.plan.seed: lines[0] for other in others}
    return {line.plan.seed: line for line in lines}
