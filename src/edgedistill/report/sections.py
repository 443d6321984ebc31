"""The tables on training, cost, consistency and misclassified responses, and the limitations.

mixture_table()       training rows by source and label
summarize_trials()    the trials of the hyperparameter search
consistency()         agreement among the teacher's votes
stage_costs()         time, answers, tokens and cost of each stage
disagreements()       test rows whose model code differs from the human code
reported_estimates()  the estimates to report, each beside the naive one
caveats()             what the figures do not show
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from edgedistill.estimates.results import HUMAN_ONLY, NAIVE, EstimateTable, MethodEstimate
from edgedistill.evaluation.types import Evaluation
from edgedistill.report.formatting import interval, percent, pluralize, rows
from edgedistill.report.inputs import ReportInputs, RunLog, ScoredRow, Table, TeacherVote
from edgedistill.report.rules import MIN_LABEL_ROWS
from edgedistill.teacher.spending import StageSpending
from edgedistill_serve.task.task import LABEL_SEPARATOR

_LISTED = 20
LISTED_TRIALS = 12
"""Number of trials that the report lists."""
_SETTINGS = ("learning_rate", "batch_size", "epochs", "seed")


@dataclass(frozen=True, slots=True)
class MixtureTable:
    """Training rows by source and label.

    Attributes:
        labels: The columns; a row of a multilabel task counts once for each of its labels.
        rows: All training rows.
        rows_per_source: Rows per source.
        counts: Rows per source and label.
        machine_labelled: Share of the rows labelled by a language model, in [0, 1].
    """

    labels: Sequence[str]
    rows: int
    rows_per_source: Mapping[str, int]
    counts: Mapping[str, Sequence[int]]
    machine_labelled: float


@dataclass(frozen=True, slots=True)
class TrialSummary:
    """One trial of the search.

    Attributes:
        number: Its number in the order in which the trials ran, from 1.
        settings: Its settings by name, as `trials.csv` writes them.
        epochs: macro-F1 on the validation rows after each epoch.
        best_epoch: The selected epoch, counted from 1; 0 if the trial failed before its first.
        macro_f1: On the validation rows after that epoch; None if the trial failed or it is not a number.
        outcome: ``done``, or why it ended.
        selected: Whether the student comes from this trial.
    """

    number: int
    settings: Mapping[str, str]
    epochs: Sequence[float]
    best_epoch: int
    macro_f1: float | None
    outcome: str
    selected: bool = False


@dataclass(frozen=True, slots=True)
class Consistency:
    """Agreement among the votes of one or several teachers on the responses coded for training.

    Attributes:
        rows: Responses with a label.
        mean: Mean share of the votes for the assigned label.
        unanimous: Share of the responses whose votes are all equal.
        by_share: Number of responses per share, the largest share first.
        by_label: Label, number of its responses, and their mean share.
    """

    rows: int
    mean: float
    unanimous: float
    by_share: Sequence[tuple[float, int]]
    by_label: Sequence[tuple[str, int, float]]


@dataclass(frozen=True, slots=True)
class StageCost:
    """Time and cost of a stage.

    Attributes:
        stage: Its name.
        seconds: Wall time of its last run.
        cost: Answers and tokens of its last run; None for a stage without requests.
        spent: In all runs of the project; None if nothing was spent.
    """

    stage: str
    seconds: float
    cost: Mapping[str, Any] | None
    spent: StageSpending | None


def mixture_table(run_log: RunLog, labels: Sequence[str]) -> MixtureTable | None:
    """Return the training rows by source and label; None before the stage `mix`."""
    entry = run_log.stages.get("mix", {})
    counts: Mapping[str, int] = entry.get("by_source_and_label", {})
    sources = dict.fromkeys(name.partition(" ")[0] for name in counts)
    table = {source: [counts.get(f"{source} {label}", 0) for label in labels] for source in sources}
    per_source: Mapping[str, int] = entry.get("by_source") or {name: sum(each) for name, each in table.items()}
    total = sum(per_source.values())
    if not total:
        return None
    return MixtureTable(labels, total, per_source, table, 1 - per_source.get("human", 0) / total)


def summarize_trials(trials: Table | None, run_log: RunLog) -> tuple[TrialSummary, ...]:
    """Return the trials of a fine-tuned student in the order in which they ran; none for a frozen encoder.

    The selected trial is the one that `run.json` names: of trials with equal macro-F1 the file does not show which.
    """
    if trials is None or "epoch" not in trials.header:
        return ()
    lines: dict[tuple[str, ...], list[Mapping[str, str]]] = defaultdict(list)
    for row in trials:
        lines[tuple(row[name] for name in _SETTINGS)].append(row)
    best = run_log.stages.get("train", {}).get("best") or {}
    found = [_trial(number, rows) for number, rows in enumerate(lines.values(), start=1)]
    return tuple(replace(trial, selected=_is_selected(trial, best)) for trial in found)


def best_trials(trials: Sequence[TrialSummary]) -> Sequence[TrialSummary]:
    """Return the trials with the highest macro-F1, at most `LISTED_TRIALS`, the selected one first among equals."""
    ordered = sorted(
        trials, key=lambda trial: (trial.macro_f1 is None, -(trial.macro_f1 or 0), not trial.selected, trial.number)
    )
    return ordered[:LISTED_TRIALS]


def _is_selected(trial: TrialSummary, best: Mapping[str, Any]) -> bool:
    if trial.macro_f1 is None:
        return False
    try:
        return all(float(trial.settings[name]) == float(best[name]) for name in _SETTINGS)
    except (KeyError, TypeError, ValueError):
        return False


def consistency(votes: Sequence[TeacherVote], *, multilabel: bool = False) -> Consistency | None:
    """Return the agreement among the teacher's votes; None without votes.

    Args:
        votes: Label and consistency of each response.
        multilabel: Whether a label joins several; a response then counts for each of them.
    """
    if not votes:
        return None
    shares = [round(vote.consistency, 2) for vote in votes]
    per_label: dict[str, list[float]] = defaultdict(list)
    for vote in votes:
        for label in vote.label.split(LABEL_SEPARATOR) if multilabel else [vote.label]:
            per_label[label].append(vote.consistency)
    return Consistency(
        rows=len(votes),
        mean=sum(vote.consistency for vote in votes) / len(votes),
        unanimous=sum(vote.consistency >= 1 for vote in votes) / len(votes),
        by_share=sorted(Counter(shares).items(), reverse=True),
        by_label=[(label, len(each), sum(each) / len(each)) for label, each in per_label.items()],
    )


def stage_costs(run_log: RunLog) -> tuple[StageCost, ...]:
    """Return time and cost of each stage, in the order in which they ran."""
    return tuple(
        StageCost(name, float(entry.get("seconds", 0.0)), entry.get("cost"), run_log.spending.get(name))
        for name, entry in run_log.stages.items()
        if name != "report"
    )


def reported_estimates(table: EstimateTable) -> tuple[tuple[MethodEstimate, MethodEstimate | None], ...]:
    """Return the estimate to report of each estimand and group, and the naive one.

    It is that of the table's method, or from human codes alone where that has none.
    """
    found: dict[tuple[str, str], dict[str, MethodEstimate]] = {}
    for each in table.estimates:
        found.setdefault((each.estimand, each.group), {})[each.method] = each
    reported = []
    for methods in found.values():
        lines = [methods[name] for name in (table.primary, HUMAN_ONLY) if name in methods]
        if lines:
            best = next((line for line in lines if line.value is not None), lines[-1])
            reported.append((best, methods.get(NAIVE)))
    return tuple(reported)


def disagreements(inputs: ReportInputs) -> tuple[ScoredRow, ...]:
    """Return every test row whose model code differs from the human code, the most confident first."""
    misclassified = [row for row in inputs.scores if row.student != row.human]
    return tuple(sorted(misclassified, key=lambda row: -row.probability))


def listed_disagreements(inputs: ReportInputs, misclassified: Sequence[ScoredRow]) -> Sequence[ScoredRow]:
    """Return the rows that the report lists: the first twenty, or as many as examples are requested if that is more."""
    return misclassified[: max(_LISTED, inputs.examples)]


def _trial(number: int, rows: Sequence[Mapping[str, str]]) -> TrialSummary:
    first = rows[0]
    best = next((row for row in rows if row["best"] == "1"), None)
    macro_f1 = float(best["validation_macro_f1"]) if best else None
    return TrialSummary(
        number=number,
        settings={name: first[name] for name in _SETTINGS},
        epochs=[float(row["validation_macro_f1"]) for row in rows if row["epoch"]],
        best_epoch=int(best["epoch"]) if best else 0,
        macro_f1=macro_f1 if macro_f1 is not None and math.isfinite(macro_f1) else None,
        outcome=first["failure"] or first["outcome"],
    )


def caveats(inputs: ReportInputs) -> tuple[str, ...]:
    """Return the limitations of the figures, a sentence or two each."""
    return (*_data_caveats(inputs.evaluation), *_model_caveats(inputs), *_study_caveats(inputs))


def _data_caveats(evaluation: Evaluation) -> Iterator[str]:
    student = evaluation.student
    kappa = f", {interval(student.kappa)}," if student.kappa else ""
    yield (
        f"All figures are based on {rows(evaluation.rows)}. Another sample of this size would give different figures: "
        f"the 95\u202f% confidence interval of κ{kappa} says more than the single value."
    )
    questions = "questions of the same kind" if evaluation.held_out else "the same questions"
    yield (
        f"The figures apply to responses like these: {questions}, instructions and type of learners. Agreement "
        "may be lower in another school, year, language or age group; a human-coded sample would show this."
    )
    if student.groups is None:
        yield (
            "The intervals assume independent rows. If one learner wrote several of the responses, they are too narrow "
            "(set data.group_by to the column that identifies learners)."
        )
    elif student.groups == 1:
        yield "All rows come from one group, so nothing is known about other groups and no interval can be estimated."
    else:
        yield f"Rows come from {pluralize(student.groups, 'group')}; the intervals account for this clustering."
    texts = evaluation.test_texts_also_in_train_or_validation
    if texts:
        yield (
            f"{pluralize(texts, 'test row')} with a text that also occurs in training or validation rows make figures "
            "optimistic."
        )
    small = [name for name, label in student.per_label.items() if label.support < MIN_LABEL_ROWS]
    if small:
        yield f"Too few test rows for conclusions about: {', '.join(small)} (fewer than {MIN_LABEL_ROWS})."
    yield (
        "The human codes are treated as correct. If a human coder is wrong and the model is right, this counts as an "
        "error of the model; if both make the same error, it is not detected."
    )
    if not evaluation.subgroups:
        yield (
            "Whether the model works equally well for all groups of learners was not examined (set "
            "evaluation.subgroups to the columns to compare)."
        )
    yield (
        "Whatever was chosen (settings and epochs of training, calibration, review rule) was chosen on validation "
        "rows; nothing was chosen on test rows. If these results lead to another model, its evaluation on the same "
        "test rows is optimistic."
    )


def _model_caveats(inputs: ReportInputs) -> Iterator[str]:
    table = mixture_table(inputs.run_log, inputs.evaluation.counted)
    if table and table.machine_labelled:
        yield (
            f"{percent(table.machine_labelled)} of the training rows were labelled by a language model; the student "
            "learns its systematic errors."
        )
    if inputs.evaluation.calibration.method == "none":
        yield "The model's probabilities are not calibrated: 0.9 does not mean correct in nine of ten cases."
    yield (
        "The model supports a person's judgement of a response; it must not be the sole basis for a decision about a "
        "learner."
    )


def _study_caveats(inputs: ReportInputs) -> Iterator[str]:
    if leaks := {run.leak for run in inputs.study if run.leak}:
        yield f"The study reproduces a published protocol, including its leaks: {'; '.join(sorted(leaks))}."
