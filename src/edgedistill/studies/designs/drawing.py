"""One plan: its rows drawn as a project's mixture is, or what is missing for them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from edgedistill.data import MixtureRow
from edgedistill.data.types import Source
from edgedistill.errors import ProjectFileError
from edgedistill.mixing import draw_mixture
from edgedistill.project import MixSection
from edgedistill.studies.inputs import TaskInputs
from edgedistill.studies.types import Fact, Learner, RunPlan


@dataclass(frozen=True, slots=True)
class RowSources:
    """Rows to learn from.

    Attributes:
        offered: What each source has.
        mix: How many of each are drawn; its seed is the run's.
    """

    offered: Mapping[Source, Sequence[MixtureRow]]
    mix: MixSection = field(default_factory=MixSection)


def plan_run(
    inputs: TaskInputs,
    condition: str,
    seed: int,
    draw: RowSources,
    facts: Mapping[str, Fact],
    *,
    learner: Learner = "fine-tuned",
    reference: str = "",
) -> RunPlan:
    """Return the plan of one run; where rows are missing for it, the plan says which."""
    try:
        rows = draw_mixture(draw.offered, inputs.task, draw.mix.model_copy(update={"seed": seed}))
    except ProjectFileError as error:
        return RunPlan(inputs.name, condition, learner, seed, facts=facts, reference=reference, missing=error.what)
    return RunPlan(inputs.name, condition, learner, seed, rows, facts=facts, reference=reference)
