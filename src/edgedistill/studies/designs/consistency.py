"""Thresholds of label consistency: Borchers et al. 2025 (arXiv 2501.09126), experiment 3.

A filter also makes the training set smaller. Each filtered set is therefore compared with a random subset of the same
size, drawn from the same rows without regard to consistency. A text sampled with its human code is not also a filtered
row of the same seed.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from edgedistill.data import MixtureRow
from edgedistill.data.twins import same_row
from edgedistill.data.types import labels_in
from edgedistill.errors import ProjectFileError
from edgedistill.mixing import draw_ids, teacher_rows
from edgedistill.project import MixSection
from edgedistill.studies.designs.drawing import RowSources, plan_run
from edgedistill.studies.designs.ratio import add_blocks
from edgedistill.studies.inputs import TaskInputs
from edgedistill.studies.study_file import ConsistencySection, RatioSection
from edgedistill.studies.types import Fact, RunPlan

UNFILTERED = "all labels"
RANDOM_SUBSET = "random subset"


@dataclass(frozen=True, slots=True)
class FilterCount:
    """The number of rows of one label or group that a threshold removes.

    Attributes:
        task: Name of the task.
        threshold: Rows below it are removed.
        by: `label` or `group`.
        name: Name of the label or group.
        rows: Rows before the filter.
        removed: Rows removed.
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
        section: The settings of the study.
        seeds: One plan of each condition per seed.
        blocks: Blocks of filtered rows, as published; None: all rows are mixed.

    Raises:
        ProjectFileError: The consistency of the synthetic rows is unknown.
    """
    available = _rows_to_filter(inputs, section)
    for seed in seeds:
        first = _human(inputs, section.human, seed)
        offered = _without_duplicates(available, first.rows)
        size = len(offered) if section.rows == "all" else section.rows
        sampled_ids = draw_ids((row.id for row in offered), size, seed)
        drawn = [row for row in offered if row.id in sampled_ids]
        if len(drawn) < size:
            missing = f"the training set lacks {size - len(drawn)} of the {size} {section.of} rows"
            first = replace(first, missing=first.missing or missing)
        for plan in _threshold_plans(first, drawn, section, inputs):
            if blocks and not plan.missing:
                yield add_blocks(replace(plan, rows=first.rows), plan.rows, blocks, inputs.task.names, replay=False)
            else:
                yield replace(plan, rows=(*first.rows, *plan.rows))


def _threshold_plans(
    first: RunPlan, drawn: Sequence[MixtureRow], section: ConsistencySection, inputs: TaskInputs
) -> Iterator[RunPlan]:
    """Plans with the rows that pass each threshold, and with random subsets of the same size."""
    for threshold in sorted({0.0, *section.thresholds}):
        kept = [row for row in drawn if _consistency(row) >= threshold]
        condition = f"consistency from {threshold:g}" if threshold else UNFILTERED
        yield _plan(first, condition, kept, inputs, threshold=threshold, reference=UNFILTERED if threshold else "")
        if 0 < len(kept) < len(drawn):
            random_ids = draw_ids((row.id for row in drawn), len(kept), first.seed)
            subset = [row for row in drawn if row.id in random_ids]
            name = f"{RANDOM_SUBSET}, size of {condition}"
            yield _plan(first, name, subset, inputs, threshold=threshold, reference=condition)


def _plan(
    first: RunPlan, condition: str, rows: Sequence[MixtureRow], inputs: TaskInputs, *, threshold: float, reference: str
) -> RunPlan:
    facts: dict[str, Fact] = {
        "min_consistency": threshold,
        "kept": len(rows),
        "kept_accuracy": _accuracy(rows, inputs),
    }
    missing = first.missing or ("" if rows or first.rows else "no row reaches this consistency")
    return replace(first, condition=condition, rows=tuple(rows), facts=facts, reference=reference, missing=missing)


def _human(inputs: TaskInputs, rows: int, seed: int) -> RunPlan:
    if not rows:
        return RunPlan(inputs.name, "", "fine-tuned", seed)
    return plan_run(inputs, "", seed, RowSources({"human": inputs.human}, MixSection(human=rows, teacher=0)), {})


def _without_duplicates(rows: Sequence[MixtureRow], human: Sequence[MixtureRow]) -> list[MixtureRow]:
    """The rows whose texts are not among the human rows, so that no text has two labels in one training set."""
    ids, texts = {row.id for row in human}, {same_row(row.inputs) for row in human}
    return [row for row in rows if row.id not in ids and same_row(row.inputs) not in texts]


def count_filtered(inputs: TaskInputs, section: ConsistencySection) -> Iterator[FilterCount]:
    """Yield how many rows of each label and group each threshold removes, of all available rows."""
    available = _rows_to_filter(inputs, section)
    for threshold in sorted({0.0, *section.thresholds} - {0.0}):
        for by, names in (
            ("label", [labels_in(row.label, inputs.task) for row in available]),
            ("group", [(inputs.groups.get(row.id, ""),) for row in available]),
        ):
            rows = Counter(chain.from_iterable(names))
            below = (each for each, row in zip(names, available, strict=True) if _consistency(row) < threshold)
            removed = Counter(chain.from_iterable(below))
            for name in rows:
                if name:
                    yield FilterCount(inputs.name, threshold, by, name, rows[name], removed[name])


def _rows_to_filter(inputs: TaskInputs, section: ConsistencySection) -> Sequence[MixtureRow]:
    if section.of == "teacher":
        teacher = next(iter(inputs.teacher_labels.values()))
        return teacher_rows(teacher.responses, teacher.labels)
    rows = [row for written in inputs.synthetic.values() for row in written]
    if not any("consistent" in row.lineage for row in rows):
        raise ProjectFileError(
            f"the synthetic rows of {inputs.name!r} have no label of a second coding by the teacher",
            where="consistency.of",
            hint="Add a column regraded with this label to the recorded rows.",
        )
    return rows


def _consistency(row: MixtureRow) -> float:
    """Share of votes for the label; for a synthetic row 1 if the teacher gave the intended label, otherwise 0."""
    if row.source == "teacher":
        return float(row.lineage["consistency"])
    return float(row.lineage.get("consistent") == "true")


def _accuracy(rows: Sequence[MixtureRow], inputs: TaskInputs) -> float | None:
    """Share of rows whose label equals the human code, among rows with a human code."""
    coded = [row for row in rows if row.source == "teacher" and row.id in inputs.codes]
    return sum(row.label == inputs.codes[row.id] for row in coded) / len(coded) if coded else None
