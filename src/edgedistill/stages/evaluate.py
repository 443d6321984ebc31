"""Evaluation: student, teachers and baselines against the human codes of the locked test rows, side by side."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, TypeAlias

from edgedistill.agreement import agreement, probability_figures
from edgedistill.review import TestScores
from edgedistill.stages.baselines import baselines
from edgedistill.stages.calibrate import Chosen, choose, told_calibration, told_review, told_thresholds
from edgedistill.stages.chain import STUDENT, chain
from edgedistill.stages.comparing import comparisons, human_ceiling, shifts, subgroup_tables
from edgedistill.stages.gate import between
from edgedistill.stages.population import population_of, told_prevalence
from edgedistill.stages.run import Run
from edgedistill.stages.scored import test_scores, validation_scores
from edgedistill.stages.shrink import exported_student
from edgedistill.teacher import Labelling, joint_labelling
from edgedistill_export.checkpoint import Checkpoint

SCHEMA_VERSION = 1
"""Of `evaluation.json`; docs/evaluation.md says what its keys mean."""

Codings: TypeAlias = Mapping[str, Mapping[str, str]]
"""By name, a label per test row's id; a coding may lack rows."""


def evaluate(run: Run) -> dict[str, Any]:
    """Choose temperature and thresholds on validation rows, score the test rows, and write `evaluation.json`.

    Student, teachers and baselines are compared with the human codes of the same rows. Test rows that the teacher left
    uncoded are counted in `teacher_set_aside`; its agreement is over the others. Several teachers are compared each by
    itself too, and with one another in `between`. `test_scores.csv` has a line per test row, without its text.

    Returns:
        Cost and notes for `run.json`.
    """
    splits, section = run.records.splits, run.project.evaluation
    population = population_of(run)
    student = Checkpoint.load(exported_student(run), run.project.task.task, run.project.student.max_tokens)
    unread = validation_scores(student, splits.validation)
    chosen = choose(unread, section, run.project.review)
    run.advance("evaluate: the student scores test rows", 0, len(splits.test))
    validation, test = chosen.applied(unread), chosen.applied(test_scores(student, splits.test))
    labellings, together, of_teachers = _teachers(run)
    codings = {"student": dict(zip(test.ids, test.labels, strict=True)), **of_teachers, **baselines(run)}
    agreements = {name: _against_humans(test, coding, section.positive) for name, coding in codings.items() if coding}
    groups = dict(zip(test.ids, test.groups, strict=True)) if test.groups else None
    human = dict(zip(test.ids, test.codes, strict=True))
    result: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "kind": test.task.kind,
        "labels": list(test.task.names),
        "positive": section.positive,
        "rows": len(test),
        "predefined_split": splits.predefined,
        "test_texts_also_in_train_or_validation": splits.repeated_texts,
        "test_groups_also_in_train_or_validation": splits.repeated_groups,
    }
    if together:
        result["teacher_set_aside"] = [asdict(row) for row in together.set_aside]
    if len(labellings) > 1:
        result["between"] = between(run, labellings)
    steps = {"teacher": codings["teacher"], STUDENT: codings["student"]} if codings.get("teacher") else {}
    result |= {
        "agreement": agreements,
        "probabilities": _probabilities(test, chosen),
        "calibration": told_calibration(chosen, validation, test),
        "thresholds": told_thresholds(chosen, test.task.names),
        "review": told_review(chosen, validation, test, section.positive),
        "chain": chain(human, steps, test.task, groups),
        "comparisons": comparisons(human, codings, test.task, groups),
        "shifts": shifts(human, codings, test.task, groups, section.positive),
        "ceiling": human_ceiling(run, codings["student"], groups),
        "subgroups": subgroup_tables(run, human, codings, groups),
        "prevalence": told_prevalence(population, student, test),
    }
    run.folder.write_json("evaluation.json", result)
    run.folder.write_csv("test_scores.csv", _lines(test, chosen, codings.get("teacher", {})))
    return {**({"cost": asdict(together.usage)} if together else {}), "notes": chosen.notes}


def _teachers(run: Run) -> tuple[dict[str, Labelling], Labelling | None, Codings]:
    """Have the teachers code the test rows: each by itself, all together, and their labels by column."""
    if not run.project.panel:
        return {}, None, {}
    responses = run.records.splits.test.responses
    labellings = run.ask_each(run.used, responses, "evaluate: {} codes test rows")
    together = joint_labelling(responses, labellings, run.weights, run.project.task.task)
    columns = {"teacher": together}
    if len(labellings) > 1:
        columns |= {f"teacher {name}": labelling for name, labelling in labellings.items()}
    codings = {name: {row.id: row.label for row in labelling.labels} for name, labelling in columns.items()}
    return labellings, together, codings


def _against_humans(test: TestScores, coding: Mapping[str, str], positive: str | None) -> dict[str, Any]:
    places = [place for place, row in enumerate(test.ids) if row in coding]
    return agreement(
        [test.codes[place] for place in places],
        [coding[test.ids[place]] for place in places],
        test.task,
        groups=test.groups_of(places),
        positive=positive,
    ).as_dict()


def _probabilities(test: TestScores, chosen: Chosen) -> dict[str, Any]:
    probabilities = test.probabilities(chosen.temperature)
    groups = test.groups_of(range(len(test)))
    return probability_figures(test.codes, probabilities, test.task, groups=groups).as_dict()


def _lines(test: TestScores, chosen: Chosen, teacher: Mapping[str, str]) -> list[list[object]]:
    """The lines of `test_scores.csv`; of a multilabel task with the certainty, which is no label's probability."""
    names = test.task.names
    certainty = ["certainty"] if test.task.kind == "multilabel" else []
    shares = [f"p:{name}" for name in names]
    lines: list[list[object]] = [["id", "human", "student", *shares, *certainty, "decision", "reason", "teacher"]]
    for row, human, score in zip(
        test.ids, test.codes, test.judged(chosen.temperature, chosen.review.rule), strict=True
    ):
        figures = [*(score.probabilities[name] for name in names), *([score.probability] if certainty else [])]
        said = [score.label, *(f"{figure:.6f}" for figure in figures), score.decision, score.reason or ""]
        lines.append([row, human, *said, teacher.get(row, "")])
    return lines
