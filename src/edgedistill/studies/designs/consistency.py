"""Less consistent labels are left out: Borchers et al. 2025 (arXiv 2501.09126), experiment 3, over thresholds.

A filter also makes the training set smaller. Each filtered set therefore stands beside as many rows of the same draw
that were taken whatever their consistency. A text that a seed draws for its human code is none of its filtered rows.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from edgedistill.data import MixtureRow
from edgedistill.data.types import labels_in
from edgedistill.errors import ProjectFileError
from edgedistill.mixing import draw_ids, teacher_rows
from edgedistill.project import MixSection
from edgedistill.studies.designs.drawing import RowSources, plan_run
from edgedistill.studies.designs.ratio import with_blocks
from edgedistill.studies.inputs import TaskInputs, duplicate_key
from edgedistill.studies.study_file import ConsistencySection, RatioSection
from edgedistill.studies.types import Fact, RunPlan

UNFILTERED = "all labels"


@dataclass(frozen=True, slots=True)
class FilteredLabel:
    """How many rows of one kind a threshold removes.

    Attributes:
        task: The task's name.
        threshold: Rows below it are removed.
        by: `label` or `group`.
        name: Which one.
        rows: Rows before the filter.
        removed: Of these.
    """

    task: str
    threshold: float
    by: str
    name: str
    rows: int
    removed: int


def plan_consistency(
    inputs: TaskInputs, section: ConsistencySection, seeds: Sequence[int], *, blocks: RatioSection | None
) -> Iterator[RunPlan]:
    """Yield the plans of one task.

    Args:
        inputs: The task.
        section: What varies.
        seeds: One plan of each condition per seed.
        blocks: How filtered rows follow human ones, as published; None: all are mixed.

    Raises:
        ProjectFileError: Its synthetic rows do not say how consistent they are.
    """
    there = _rows_to_filter(inputs, section)
    for seed in seeds:
        first = _human(inputs, section.human, seed)
        offered = _apart(there, first.rows)
        wanted = len(offered) if section.rows == "all" else section.rows
        chosen = draw_ids((row.id for row in offered), wanted, seed)
        drawn = [row for row in offered if row.id in chosen]
        if len(drawn) < wanted:
            lacks = f"the training set lacks {wanted - len(drawn)} of the {wanted} {section.of} rows"
            first = replace(first, missing=first.missing or lacks)
        for plan in _of_thresholds(first, drawn, section, inputs):
            if blocks and not plan.missing:
                yield with_blocks(replace(plan, rows=first.rows), plan.rows, blocks, inputs.task.names, replay=False)
            else:
                yield replace(plan, rows=(*first.rows, *plan.rows))


def _of_thresholds(
    first: RunPlan, drawn: Sequence[MixtureRow], section: ConsistencySection, inputs: TaskInputs
) -> Iterator[RunPlan]:
    """Plans whose rows are those that pass each threshold, and as many others."""
    for threshold in sorted({0.0, *section.thresholds}):
        kept = [row for row in drawn if _consistency(row) >= threshold]
        condition = f"consistency from {threshold:g}" if threshold else UNFILTERED
        yield _plan(first, condition, kept, inputs, threshold=threshold, reference=UNFILTERED if threshold else "")
        if 0 < len(kept) < len(drawn):
            anyhow = draw_ids((row.id for row in drawn), len(kept), first.seed)
            others = [row for row in drawn if row.id in anyhow]
            yield _plan(
                first, f"as many as from {threshold:g}", others, inputs, threshold=threshold, reference=condition
            )


def _plan(
    first: RunPlan, condition: str, rows: Sequence[MixtureRow], inputs: TaskInputs, *, threshold: float, reference: str
) -> RunPlan:
    facts: dict[str, Fact] = {
        "min_consistency": threshold,
        "kept": len(rows),
        "kept_accuracy": _accuracy(rows, inputs),
    }
    missing = first.missing or ("" if rows or first.rows else "no row is as consistent as that")
    return replace(first, condition=condition, rows=tuple(rows), facts=facts, reference=reference, missing=missing)


def _human(inputs: TaskInputs, rows: int, seed: int) -> RunPlan:
    if not rows:
        return RunPlan(inputs.name, "", "fine-tuned", seed)
    return plan_run(inputs, "", seed, RowSources({"human": inputs.human}, MixSection(human=rows, teacher=0)), {})


def _apart(there: Sequence[MixtureRow], human: Sequence[MixtureRow]) -> list[MixtureRow]:
    """Without the texts that a student learns from human codes: it is shown no text under two labels."""
    ids, texts = {row.id for row in human}, {duplicate_key(row.inputs) for row in human}
    return [row for row in there if row.id not in ids and duplicate_key(row.inputs) not in texts]


def filtered_labels(inputs: TaskInputs, section: ConsistencySection) -> Iterator[FilteredLabel]:
    """Yield which labels, and which groups where there are any, each threshold removes, of all rows that there are."""
    there = _rows_to_filter(inputs, section)
    for threshold in sorted({0.0, *section.thresholds} - {0.0}):
        for by, names in (
            ("label", [labels_in(row.label, inputs.task) for row in there]),
            ("group", [(inputs.groups.get(row.id, ""),) for row in there]),
        ):
            rows = Counter(chain.from_iterable(names))
            below = (each for each, row in zip(names, there, strict=True) if _consistency(row) < threshold)
            gone = Counter(chain.from_iterable(below))
            for name in rows:
                if name:
                    yield FilteredLabel(inputs.name, threshold, by, name, rows[name], gone[name])


def _rows_to_filter(inputs: TaskInputs, section: ConsistencySection) -> Sequence[MixtureRow]:
    if section.of == "teacher":
        taught = next(iter(inputs.taught.values()))
        return teacher_rows(taught.responses, taught.labels)
    rows = [row for there in inputs.synthetic.values() for row in there]
    if not any("consistent" in row.lineage for row in rows):
        raise ProjectFileError(
            f"the synthetic rows of {inputs.name!r} do not say how the teacher codes them",
            where="consistency.of",
            hint="Give recorded rows a column regraded, which holds the label that the teacher gave.",
        )
    return rows


def _consistency(row: MixtureRow) -> float:
    """Share of votes for the label; of a synthetic row 1 where it was coded as intended, 0 elsewhere."""
    if row.source == "teacher":
        return float(row.lineage["consistency"])
    return float(row.lineage.get("consistent") == "true")


def _accuracy(rows: Sequence[MixtureRow], inputs: TaskInputs) -> float | None:
    """Share of the rows whose label is the human code, of those that have one."""
    coded = [row for row in rows if row.source == "teacher" and row.id in inputs.codes]
    return sum(row.label == inputs.codes[row.id] for row in coded) / len(coded) if coded else None
