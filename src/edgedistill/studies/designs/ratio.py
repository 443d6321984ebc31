"""Human rows beside synthetic ones: Borchers et al. 2025 (arXiv 2501.09126), experiment 1.

mixed        one student per mixture, the human rows staying as many
sequential   the student of the human rows goes on with block after block of synthetic ones. As published a block is
             seen once and alone; corrected, as many human rows stand beside it, so that they are not forgotten.
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
        section: What varies.
        seeds: One plan of each condition per seed.
        replay: Whether a sequential student is shown human rows beside each block.
    """
    for seed in seeds:
        for human in section.human:
            draw = RowSources({"human": inputs.human}, MixSection(human=human, teacher=0))
            alone = plan_run(inputs, f"human {human}", seed, draw, {"wanted": human, "share": 0.0})
            if "mixed" in section.schedules:
                yield alone
                yield from _mixed(inputs, section, alone)
            if "sequential" in section.schedules:
                for writer, synthetic in inputs.synthetic.items():
                    facts = {**alone.facts, "writer": writer, "schedule": "sequential"}
                    first = replace(alone, condition=f"human {human}, {writer} in blocks", facts=facts)
                    yield with_blocks(first, synthetic, section, inputs.task.names, replay=replay)


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


def with_blocks(
    plan: RunPlan, synthetic: Sequence[MixtureRow], section: RatioSection, labels: Sequence[str], *, replay: bool
) -> RunPlan:
    """Let a plan's student go on with synthetic rows, as many of each label, block by block.

    Args:
        plan: What it learns from first.
        synthetic: The rows that there are.
        section: How large a block is, and how many rows it is shown in the end.
        labels: The task's labels.
        replay: Whether each block brings as many of the plan's own rows, in turn.
    """
    if plan.missing:
        return plan
    drawn = _in_turn(synthetic, labels, plan.seed)[: section.up_to]
    if len(drawn) < section.up_to:
        lacks = f"the blocks want {section.up_to} synthetic rows, as many of each label, and there are {len(drawn)}"
        return replace(plan, missing=lacks)
    own = cycle(plan.rows)
    blocks = []
    for start in range(0, len(drawn), section.block):
        new = drawn[start : start + section.block]
        blocks.append(Block(new, tuple(islice(own, len(new))) if replay else ()))
    return replace(plan, blocks=tuple(blocks))


def _in_turn(rows: Sequence[MixtureRow], labels: Sequence[str], seed: int) -> tuple[MixtureRow, ...]:
    """Rows in an order that the seed decides, the labels taking turns until one has none left."""
    shuffled = random.Random(seed).sample(list(rows), len(rows))  # noqa: S311 - a draw of rows, not a secret
    of_label = [[row for row in shuffled if row.label == label] for label in labels]
    return tuple(row for turn in zip(*of_label, strict=False) for row in turn)
