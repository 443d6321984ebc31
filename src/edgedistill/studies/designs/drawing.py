"""One plan: its rows drawn as a project's mixture is, or what is missing for them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from edgedistill.data import MixtureRow
from edgedistill.data.types import Source
from edgedistill.errors import ProjectFileError
from edgedistill.mixing import draw_mixture
from edgedistill.project import MixSection
from edgedistill.studies.inputs import Material
from edgedistill.studies.types import Fact, Learner, Plan


@dataclass(frozen=True, slots=True)
class Draw:
    """Rows to learn from.

    Attributes:
        offered: What each source has.
        mix: How many of each are drawn; its seed is the run's.
    """

    offered: Mapping[Source, Sequence[MixtureRow]]
    mix: MixSection = field(default_factory=MixSection)


def plan_of(
    material: Material,
    condition: str,
    seed: int,
    draw: Draw,
    facts: Mapping[str, Fact],
    *,
    learner: Learner = "fine-tuned",
    reference: str = "",
) -> Plan:
    """Return the plan of one run; where rows are missing for it, the plan says which."""
    try:
        rows = draw_mixture(draw.offered, material.task, draw.mix.model_copy(update={"seed": seed}))
    except ProjectFileError as error:
        return Plan(material.name, condition, learner, seed, facts=facts, reference=reference, missing=error.what)
    return Plan(material.name, condition, learner, seed, rows, facts=facts, reference=reference)
