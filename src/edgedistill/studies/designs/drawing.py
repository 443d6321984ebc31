"""One plan, with rows sampled like the mixture of a project."""

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
    """Training rows to sample from.

    Attributes:
        offered: The rows of each source.
        mix: How many rows of each source are sampled; its seed is replaced by that of the run.
    """

    offered: Mapping[Source, Sequence[MixtureRow]]
    mix: MixSection = field(default_factory=MixSection)


def plan_run(
    inputs: TaskInputs,
    condition: str,
    seed: int,
    sources: RowSources,
    facts: Mapping[str, Fact],
    *,
    learner: Learner = "fine-tuned",
    reference: str = "",
) -> RunPlan:
    """Return the plan of one run; if there are too few rows, `missing` of the plan gives the number."""
    try:
        rows = draw_mixture(sources.offered, inputs.task, sources.mix.model_copy(update={"seed": seed}))
    except ProjectFileError as error:
        return RunPlan(inputs.name, condition, learner, seed, facts=facts, reference=reference, missing=error.what)
    return RunPlan(inputs.name, condition, learner, seed, rows, facts=facts, reference=reference)
