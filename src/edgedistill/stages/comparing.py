"""Codings of the test rows beside one another: paired, against the human ceiling, in subgroups."""

from collections.abc import Mapping
from typing import Any

from edgedistill.agreement import ceiling, compare, subgroups
from edgedistill.agreement.label_sets import SetStatistic, figure_of, macro_of
from edgedistill.agreement.statistics import Counts, Statistic, macro, precisions, recalls
from edgedistill.stages.run import Run
from edgedistill_serve.task import Task

HUMAN_TRAINED = "human-trained student"
"""The coding, where there is one, of a student that learnt human codes alone."""


def comparisons(
    human: Mapping[str, str],
    codings: Mapping[str, Mapping[str, str]],
    task: Task,
    groups: Mapping[str, str] | None,
) -> list[dict[str, Any]]:
    """Compare the student with every other coding, on the rows that the other coded.

    Args:
        human: The human code by row's id.
        codings: By name; ``student`` is one of them.
        task: Its labels.
        groups: By row's id what it belongs to; whole groups are then resampled.
    """
    found = []
    for name in (name for name in codings if name != "student"):
        if rows := [row for row in human if row in codings[name]]:
            wanted, other, student = ([of[row] for row in rows] for of in (human, codings[name], codings["student"]))
            compared = compare(wanted, other, student, task, groups=_of(rows, groups))
            found.append({"first": name, "second": "student", **compared.as_dict()})
    return found


def shifts(
    human: Mapping[str, str],
    codings: Mapping[str, Mapping[str, str]],
    task: Task,
    groups: Mapping[str, str] | None,
    positive: str | None,
) -> list[dict[str, Any]]:
    """Say how precision and recall of student and teachers differ from those of a human-trained student.

    Students of an LLM's labels tend to find more of what is looked for and to be wrong about it more often (Pangakis &
    Wolken 2024).

    Args:
        human: The human code by row's id.
        codings: By name; without ``human-trained student`` there is nothing to compare with.
        task: Its labels.
        groups: By row's id what it belongs to.
        positive: The label whose precision and recall are compared; None: the means over labels.
    """
    if HUMAN_TRAINED not in codings:
        return []
    place = None if positive is None else task.names.index(positive)
    statistics: Any = _of_sets(place) if task.kind == "multilabel" else _precision_and_recall(place)
    found = []
    for name in (name for name in codings if name == "student" or name.startswith("teacher")):
        rows = [row for row in human if row in codings[name] and row in codings[HUMAN_TRAINED]]
        if not rows:
            continue
        wanted, other, own = ([of[row] for row in rows] for of in (human, codings[HUMAN_TRAINED], codings[name]))
        compared = compare(wanted, other, own, task, groups=_of(rows, groups), statistics=statistics)
        told = {"coding": name, "against": HUMAN_TRAINED, "rows": compared.rows, "average": positive or "macro"}
        found.append({**told, **{key: compared.as_dict()["differences"][key] for key in statistics}})
    return found


def human_ceiling(run: Run, student: Mapping[str, str], groups: Mapping[str, str] | None) -> dict[str, Any] | None:
    """Compare the coders of `evaluation.coders` with one another, and the student with each; None without coders.

    With one column the other coder is the column ``label``.
    """
    section, test = run.project.evaluation, run.records.splits.test
    if not section.coders:
        return None
    codings = {name: {row.response.id: row.codes[name] for row in test if name in row.codes} for name in section.coders}
    if len(codings) == 1:
        codings = {"label": {row.response.id: row.label for row in test}, **codings}
    task = run.project.task.task
    return ceiling(codings, task, student=student, groups=groups, positive=section.positive).as_dict()


def subgroup_tables(
    run: Run,
    human: Mapping[str, str],
    codings: Mapping[str, Mapping[str, str]],
    groups: Mapping[str, str] | None,
) -> list[dict[str, Any]]:
    """Compare every coding with the human codes in each group of the columns of `evaluation.subgroups`."""
    section, task = run.project.evaluation, run.project.task.task
    traits = {row.response.id: row.traits for row in run.records.splits.test}
    tables = []
    for column in section.subgroups:
        for name, coding in codings.items():
            if not (rows := [row for row in human if row in coding]):
                continue
            values = [traits[row][column] for row in rows]
            found = subgroups(
                [human[row] for row in rows],
                [coding[row] for row in rows],
                values,
                task,
                smallest=section.smallest_subgroup,
                groups=_of(rows, groups),
            )
            tables.append(
                {
                    "column": column,
                    "coding": name,
                    "smallest": section.smallest_subgroup,
                    "rows_without": values.count(""),
                    "groups": [each.as_dict() for each in found],
                }
            )
    return tables


def _precision_and_recall(positive: int | None) -> dict[str, Statistic]:
    def of(figures: Statistic) -> Statistic:
        def statistic(confusions: Counts) -> Any:
            found = figures(confusions)
            return macro(found, confusions) if positive is None else found[:, positive]

        return statistic

    return {"precision": of(precisions), "recall": of(recalls)}


def _of_sets(positive: int | None) -> dict[str, SetStatistic]:
    def of(figures: Statistic) -> SetStatistic:
        return macro_of(figures) if positive is None else figure_of(figures, positive)

    return {"precision": of(precisions), "recall": of(recalls)}


def _of(rows: list[str], groups: Mapping[str, str] | None) -> list[str] | None:
    return [groups[row] for row in rows] if groups else None
