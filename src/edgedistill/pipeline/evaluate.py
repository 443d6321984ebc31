"""Evaluation: student, teachers and baselines against the human codes of the locked test rows."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeAlias, TypeVar

import msgspec
import numpy as np

from edgedistill.agreement import agreement, compare, human_agreement, probability_metrics, subgroups
from edgedistill.agreement.bootstrap import bootstrap_groups
from edgedistill.agreement.confusion import Counts, Statistic, macro, precisions, recalls
from edgedistill.agreement.multilabel import LabelSetStatistic, label_statistic, macro_statistic
from edgedistill.data.types import CodedResponse, TestRows, ValidationRows
from edgedistill.decisions import (
    AtMostToPeople,
    Calibration,
    ChosenRule,
    KeepKappa,
    ReviewAim,
    Scores,
    TestScores,
    ValidationScores,
    choose_rule,
    fit_temperature,
    risk_coverage,
    rule_outcome,
)
from edgedistill.pipeline.compress import exported_student
from edgedistill.pipeline.fidelity import PYTORCH_STEP, chain
from edgedistill.pipeline.folder import FROZEN, SHRUNK, STUDENT
from edgedistill.pipeline.gate import between
from edgedistill.pipeline.human_trained import human_trained
from edgedistill.pipeline.population import population_of, told_prevalence
from edgedistill.pipeline.run import Run
from edgedistill.project.schema import EvaluationSection, ReviewSection
from edgedistill.student import backbone_folder
from edgedistill.student.frozen import frozen_baseline
from edgedistill.student.label_thresholds import Thresholds, choose_thresholds, readout_of
from edgedistill.teacher import Labelling, joint_labelling
from edgedistill_export.checkpoint import Checkpoint
from edgedistill_serve.task.task import Task, inputs_of

S = TypeVar("S", bound=Scores)


def validation_scores(student: Checkpoint, rows: ValidationRows) -> ValidationScores:
    """Score the validation rows with the student in PyTorch, each alone."""
    return _scores(ValidationScores, student, rows)


def test_scores(student: Checkpoint, rows: TestRows) -> TestScores:
    """Score the test rows with the student in PyTorch, each alone."""
    return _scores(TestScores, student, rows)


test_scores.__test__ = False  # type: ignore[attr-defined]  # pytest: this is no test


def _scores(kind: type[S], student: Checkpoint, rows: Iterable[CodedResponse]) -> S:
    coded = list(rows)
    inputs: list[dict[str, Any]] = [inputs_of(row.response.inputs, student.task) for row in coded]
    groups = bootstrap_groups([row.response.group for row in coded])
    return kind(
        task=student.task,
        ids=tuple(row.response.id for row in coded),
        codes=tuple(row.label for row in coded),
        logits=student.logits(inputs).astype(np.float64),
        encoded=tuple(student.encoder.encode(inputs)),
        groups=tuple(groups) if groups else None,
    )


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
    return human_agreement(codings, task, student=student, groups=groups, positive=section.positive).as_dict()


def subgroup_tables(
    run: Run,
    human: Mapping[str, str],
    codings: Mapping[str, Mapping[str, str]],
    groups: Mapping[str, str] | None,
) -> list[dict[str, Any]]:
    """Compare every coding with the human codes in each group of the columns of `evaluation.subgroups`."""
    section, task = run.project.evaluation, run.project.task.task
    traits = {row.response.id: row.subgroups for row in run.records.splits.test}
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


def _of_sets(positive: int | None) -> dict[str, LabelSetStatistic]:
    def of(figures: Statistic) -> LabelSetStatistic:
        return macro_statistic(figures) if positive is None else label_statistic(figures, positive)

    return {"precision": of(precisions), "recall": of(recalls)}


def _of(rows: list[str], groups: Mapping[str, str] | None) -> list[str] | None:
    return [groups[row] for row in rows] if groups else None


@dataclass(frozen=True, slots=True)
class Chosen:
    """What the validation rows chose; thresholds of labels where the task is multilabel."""

    calibration: Calibration
    thresholds: Thresholds | None
    review: ChosenRule

    @property
    def temperature(self) -> float:
        """What the logits are divided by."""
        return self.calibration.temperature

    @property
    def notes(self) -> list[str]:
        """What a reader must know."""
        return [*self.calibration.notes, *(self.thresholds.notes if self.thresholds else ()), *self.review.notes]

    def applied(self, scores: S) -> S:
        """Return scores whose labels are given by the thresholds."""
        return _with_thresholds(scores, self.thresholds, self.temperature)


def choose(scores: ValidationScores, evaluation: EvaluationSection, review: ReviewSection | None) -> Chosen:
    """Fit the temperature and choose the thresholds, as the project file says."""
    calibration = fit_temperature(scores) if evaluation.calibrate else Calibration()
    temperature = calibration.temperature
    thresholds = None
    if scores.task.kind == "multilabel":
        thresholds = choose_thresholds(scores.probabilities(temperature), scores.codes, scores.task)
    rule = choose_rule(_with_thresholds(scores, thresholds, temperature), temperature, _aim(review))
    return Chosen(calibration, thresholds, rule)


def told_thresholds(chosen: Chosen, labels: tuple[str, ...]) -> dict[str, Any] | None:
    """Say from which probability each label holds, for `evaluation.json`; None where a response has one label."""
    found = chosen.thresholds
    if found is None:
        return None
    return {
        "values": dict(zip(labels, found.values, strict=True)),
        "f1_on_validation": dict(zip(labels, found.f1, strict=True)),
        "notes": list(found.notes),
    }


def told_calibration(chosen: Chosen, validation: ValidationScores, test: TestScores) -> dict[str, Any]:
    """Say what calibration changes, for `evaluation.json`."""
    return {
        **asdict(chosen.calibration),
        "notes": list(chosen.calibration.notes),
        "validation": _before_and_after(validation, chosen.temperature),
        "test": _before_and_after(test, chosen.temperature),
    }


def told_review(chosen: Chosen, validation: ValidationScores, test: TestScores, positive: str | None) -> dict[str, Any]:
    """Say what the rule is and what it does, for `evaluation.json`."""
    choice, temperature = chosen.review, chosen.temperature
    sides: dict[str, Scores] = {"validation": validation, "test": test}
    return {
        "aim": choice.aim and asdict(choice.aim),
        "met": choice.met,
        "rule": msgspec.to_builtins(choice.rule),
        "least_chance": choice.least_chance,
        "label_shifts": dict(choice.label_shifts),
        "notes": list(choice.notes),
        **{
            name: rule_outcome(scores, temperature, choice.rule, positive=positive).as_dict()
            for name, scores in sides.items()
        },
        "risk_coverage": {
            name: risk_coverage(scores, temperature, choice.label_shifts).as_dict() for name, scores in sides.items()
        },
    }


def _with_thresholds(scores: S, thresholds: Thresholds | None, temperature: float) -> S:
    return replace(scores, thresholds=thresholds.values, threshold_temperature=temperature) if thresholds else scores


def _aim(section: ReviewSection | None) -> ReviewAim | None:
    if section is None:
        return None
    if section.at_least is not None:
        return KeepKappa(section.at_least)
    return AtMostToPeople(section.share or 0.0)


def _before_and_after(scores: Scores, temperature: float) -> dict[str, Any]:
    return {"before": _trust(scores, 1.0), "after": _trust(scores, temperature)}


def _trust(scores: Scores, temperature: float) -> dict[str, Any]:
    groups = scores.groups_at(range(len(scores)))
    found = probability_metrics(scores.codes, scores.probabilities(temperature), scores.task, groups=groups).as_dict()
    return {name: found[name] for name in ("log_loss", "brier", "ece")}


def baselines(run: Run) -> dict[str, dict[str, str]]:
    """Code the test rows with what `train` wrote beside the student.

    Returns:
        By the coding's name a label per row's id: ``frozen encoder``; where there are two students the other one,
        ``shrunk student`` or ``fine-tuned student``; and ``human-trained student``, where one is named.

    Raises:
        RunError: The human-trained student is none, or is not there.
        CheckpointError: It is one of another task.
    """
    task, student, test = run.project.task.task, run.project.student, run.records.splits.test
    rows = [dict(response.inputs) for response in test.responses]
    codings: dict[str, tuple[str, ...]] = {}
    if student.kind != "frozen":
        backbone = backbone_folder(student.backbone, run.project.folder)
        codings["frozen encoder"] = frozen_baseline(run.folder / FROZEN, backbone, task, rows).labels
    if student.shrink:
        other, name = (STUDENT, "fine-tuned student") if student.shrink.export else (SHRUNK, "shrunk student")
        checkpoint = Checkpoint.load(run.folder / other, task, student.max_tokens)
        codings[name] = readout_of(checkpoint, run.records.splits.validation).labels(checkpoint.logits(rows))
    if (taught := human_trained(run)) is not None:
        readout = readout_of(taught, run.records.splits.validation)
        codings[HUMAN_TRAINED] = readout.labels(taught.logits(rows))
    ids = [response.id for response in test.responses]
    return {name: dict(zip(ids, labels, strict=True)) for name, labels in codings.items()}


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
    steps = {"teacher": codings["teacher"], PYTORCH_STEP: codings["student"]} if codings.get("teacher") else {}
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
        groups=test.groups_at(places),
        positive=positive,
    ).as_dict()


def _probabilities(test: TestScores, chosen: Chosen) -> dict[str, Any]:
    probabilities = test.probabilities(chosen.temperature)
    groups = test.groups_at(range(len(test)))
    return probability_metrics(test.codes, probabilities, test.task, groups=groups).as_dict()


def _lines(test: TestScores, chosen: Chosen, teacher: Mapping[str, str]) -> list[list[object]]:
    """The lines of `test_scores.csv`; of a multilabel task with the certainty, which is no label's probability."""
    names = test.task.names
    certainty = ["certainty"] if test.task.kind == "multilabel" else []
    shares = [f"p:{name}" for name in names]
    lines: list[list[object]] = [["id", "human", "student", *shares, *certainty, "decision", "reason", "teacher"]]
    for row, human, score in zip(
        test.ids, test.codes, test.apply_rule(chosen.temperature, chosen.review.rule), strict=True
    ):
        figures = [*(score.probabilities[name] for name in names), *([score.probability] if certainty else [])]
        said = [score.label, *(f"{figure:.6f}" for figure in figures), score.decision, score.reason or ""]
        lines.append([row, human, *said, teacher.get(row, "")])
    return lines
