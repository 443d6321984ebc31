"""Shares of synthetic rows: Borchers et al. 2025 (arXiv 2501.09126), experiment 1.

mixed        one student per mixture, with a constant number of human rows
sequential   continued training of the human-only student on one block of synthetic rows after another. As published,
             each block is seen once and alone; corrected, an equal number of human rows is replayed with each block
             to prevent forgetting.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import cycle, islice

from edgedistill.data import MixtureRow
from edgedistill.project import MixSection
from edgedistill.studies.designs.drawing import RowSources, plan_run
from edgedistill.studies.inputs import TaskInputs
from edgedistill.studies.study_file import RatioSection
from edgedistill.studies.types import Block, RunPlan


def plan_ratio(inputs: TaskInputs, section: RatioSection, seeds: Sequence[int], *, replay: bool) -> Iterator[RunPlan]:
    """Yield the plans of one task.

    Args:
        inputs: The task.
        section: The settings of the study.
        seeds: One plan of each condition per seed.
        replay: Whether human rows are replayed with each block of a sequential student.
    """
    for seed in seeds:
        for human in section.human:
            sources = RowSources({"human": inputs.human}, MixSection(human=human, teacher=0))
            alone = plan_run(inputs, f"human {human}", seed, sources, {"wanted": human, "share": 0.0})
            if "mixed" in section.schedules:
                yield alone
                yield from _mixed(inputs, section, alone)
            if "sequential" in section.schedules:
                for writer, synthetic in inputs.synthetic.items():
                    facts = {**alone.facts, "writer": writer, "schedule": "sequential"}
                    first = replace(alone, condition=f"human {human}, {writer} in blocks", facts=facts)
                    yield add_blocks(first, synthetic, section, inputs.task.names, replay=replay)


def _mixed(inputs: TaskInputs, section: RatioSection, alone: RunPlan) -> Iterator[RunPlan]:
    human = alone.facts["wanted"]
    for writer, synthetic in inputs.synthetic.items():
        for share in sorted(set(section.shares) - {0.0}):
            yield plan_run(
                inputs,
                f"{alone.condition}, {100 * share:g}% {writer}",
                alone.seed,
                RowSources(
                    {"human": inputs.human, "synthetic": synthetic},
                    MixSection.model_validate({"human": human, "teacher": 0, "synthetic_share": share}),
                ),
                {"wanted": human, "share": share, "writer": writer, "schedule": "mixed"},
                reference=alone.condition,
            )


def add_blocks(
    plan: RunPlan, synthetic: Sequence[MixtureRow], section: RatioSection, labels: Sequence[str], *, replay: bool
) -> RunPlan:
    """Add continued training on blocks of synthetic rows, with equal numbers of each label.

    Args:
        plan: The plan of the first training.
        synthetic: The available synthetic rows.
        section: The size of a block, and the total number of rows.
        labels: The task's labels.
        replay: Whether an equal number of the plan's own rows is replayed with each block, in turn.
    """
    if plan.missing:
        return plan
    drawn = _in_turn(synthetic, labels, plan.seed)[: section.up_to]
    if len(drawn) < section.up_to:
        missing = f"the blocks require {section.up_to} synthetic rows balanced by label, but there are {len(drawn)}"
        return replace(plan, missing=missing)
    own = cycle(plan.rows)
    blocks = []
    for start in range(0, len(drawn), section.block):
        new = drawn[start : start + section.block]
        blocks.append(Block(new, tuple(islice(own, len(new))) if replay else ()))
    return replace(plan, blocks=tuple(blocks))


def _in_turn(rows: Sequence[MixtureRow], labels: Sequence[str], seed: int) -> tuple[MixtureRow, ...]:
    """Shuffled rows, alternating between the labels until one label has no rows left."""
    shuffled = random.Random(seed).sample(list(rows), len(rows))  # noqa: S311 - a draw of rows, not a secret
    of_label = [[row for row in shuffled if row.label == label] for label in labels]
    return tuple(row for turn in zip(*of_label, strict=False) for row in turn)
