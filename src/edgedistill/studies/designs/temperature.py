"""Synthetic rows generated at several temperatures: Borchers et al. 2025 (arXiv 2501.09126), experiment 2.

The diversity of the sampled rows is reported with the scores.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from edgedistill.data import MixtureRow
from edgedistill.errors import ProjectFileError
from edgedistill.generation import diversity
from edgedistill.project import MixSection
from edgedistill.studies.designs.drawing import RowSources, plan_run
from edgedistill.studies.designs.ratio import add_blocks
from edgedistill.studies.inputs import TaskInputs
from edgedistill.studies.study_file import RatioSection, TemperatureSection
from edgedistill.studies.types import Fact, RunPlan


def plan_temperature(
    inputs: TaskInputs, section: TemperatureSection, seeds: Sequence[int], *, blocks: RatioSection | None
) -> Iterator[RunPlan]:
    """Yield the plans of one task.

    Args:
        inputs: The task.
        section: The settings of the study.
        seeds: One plan of each condition per seed.
        blocks: Blocks of synthetic rows, as published; None: human and synthetic rows are mixed.

    Raises:
        ProjectFileError: No synthetic row has one of the temperatures.
    """
    by_temperature = _by_temperature(inputs, section)
    for seed in seeds:
        alone = plan_run(
            inputs,
            f"human {section.human}",
            seed,
            RowSources({"human": inputs.human}, MixSection(human=section.human, teacher=0)),
            {"wanted": section.human},
        )
        yield alone
        for (writer, temperature), rows in by_temperature.items():
            facts: dict[str, Fact] = {"wanted": section.human, "writer": writer, "temperature": temperature}
            name = f"{alone.condition}, {writer} at {temperature:g}"
            if blocks:
                first = replace(alone, condition=name, facts=facts)
                yield _with_diversity(add_blocks(first, rows, blocks, inputs.task.names, replay=False))
                continue
            mix = MixSection(human=section.human, teacher=0, synthetic_share=section.share)
            sources = RowSources({"human": inputs.human, "synthetic": rows}, mix)
            yield _with_diversity(plan_run(inputs, name, seed, sources, facts, reference=alone.condition))


def _by_temperature(inputs: TaskInputs, section: TemperatureSection) -> dict[tuple[str, float], list[MixtureRow]]:
    found: dict[tuple[str, float], list[MixtureRow]] = {}
    for writer, rows in inputs.synthetic.items():
        for row in rows:
            if "temperature" in row.lineage:
                found.setdefault((writer, float(row.lineage["temperature"])), []).append(row)
    selected = {key: rows for key, rows in sorted(found.items()) if key[1] in (section.temperatures or (key[1],))}
    if not selected:
        available = ", ".join(f"{temperature:g}" for _, temperature in found) or "none"
        raise ProjectFileError(
            f"the task {inputs.name!r} has no synthetic rows of these temperatures; it has {available}",
            where="temperature.temperatures",
            hint="Give recorded rows a column temperature, or list temperatures for the project's teacher.",
        )
    return selected


def _with_diversity(plan: RunPlan) -> RunPlan:
    """The plan with the diversity of its synthetic texts."""
    rows = (*plan.rows, *(row for block in plan.blocks for row in block.new))
    found = diversity([row.inputs["response"] for row in rows if row.source == "synthetic"])
    facts = {"distinct_1": found.distinct_1, "distinct_2": found.distinct_2, "self_bleu": found.self_bleu}
    return replace(plan, facts={**plan.facts, **facts})
