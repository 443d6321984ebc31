"""The sections beside agreement: training, cost, errors, and what the figures cannot show.

mixture_table()   training rows by source and label
summarize_trials()     the trials of the search
consistency()     how far the teacher's votes agree with one another
stage_costs()     time, answers, tokens and money per stage
disagreements()   test rows that the model codes otherwise than the human coders
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgedistill.evaluation.types import Evaluation
from edgedistill.report.formatting import interval, percent, pluralize, rows
from edgedistill.report.inputs import Journal, Material, ScoredRow, Table, TeacherVote
from edgedistill.report.rules import MIN_LABEL_ROWS
from edgedistill.teacher.spending import Spent
from edgedistill_serve.task.task import LABEL_SEPARATOR

_SHOWN = 20
_SETTINGS = ("learning_rate", "batch_size", "epochs", "seed")


@dataclass(frozen=True, slots=True)
class MixtureTable:
    """Training rows by source and label.

    Attributes:
        labels: What rows are counted by; a row of a multilabel task counts for each of its labels.
        rows: All of them.
        of_source: By source its rows.
        by_source: By source its rows per label.
        machine_labelled: Share of the rows whose label a language model gave, in [0, 1].
    """

    labels: Sequence[str]
    rows: int
    of_source: Mapping[str, int]
    by_source: Mapping[str, Sequence[int]]
    machine_labelled: float


@dataclass(frozen=True, slots=True)
class TrialSummary:
    """One trial of the search.

    Attributes:
        settings: Its settings by name, as `trials.csv` writes them.
        epochs: macro-F1 on the validation rows after each epoch.
        best_epoch: The epoch that was kept, counted from 1; 0 where the trial failed before its first.
        macro_f1: There; None where it failed.
        outcome: ``done``, or how it ended.
        chosen: Whether the student is this trial's.
    """

    settings: Mapping[str, str]
    epochs: Sequence[float]
    best_epoch: int
    macro_f1: float | None
    outcome: str
    chosen: bool


@dataclass(frozen=True, slots=True)
class Consistency:
    """How far the votes of one teacher, or of several, agree with one another on responses that nobody else coded.

    Attributes:
        rows: Responses with a label.
        mean: Mean share of the votes that equal the label.
        unanimous: Share of the responses whose votes are all equal.
        by_share: Responses by that share, the largest share first.
        by_label: By label its responses and their mean share.
    """

    rows: int
    mean: float
    unanimous: float
    by_share: Sequence[tuple[float, int]]
    by_label: Sequence[tuple[str, int, float]]


@dataclass(frozen=True, slots=True)
class StageCost:
    """What a stage took.

    Attributes:
        stage: Its name.
        seconds: Wall time of its last run.
        cost: Answers and tokens of its last run; None of a stage that asks nobody.
        spent: In all runs of the project; None where nothing was.
    """

    stage: str
    seconds: float
    cost: Mapping[str, Any] | None
    spent: Spent | None


def mixture_table(journal: Journal, labels: Sequence[str]) -> MixtureTable | None:
    """Return the training rows by source and label; None before they are drawn."""
    entry = journal.stages.get("mix", {})
    counts: Mapping[str, int] = entry.get("by_source_and_label", {})
    sources = dict.fromkeys(name.partition(" ")[0] for name in counts)
    by_source = {source: [counts.get(f"{source} {label}", 0) for label in labels] for source in sources}
    of_source: Mapping[str, int] = entry.get("by_source") or {name: sum(each) for name, each in by_source.items()}
    total = sum(of_source.values())
    if not total:
        return None
    return MixtureTable(labels, total, of_source, by_source, 1 - of_source.get("human", 0) / total)


def summarize_trials(trials: Table | None) -> tuple[TrialSummary, ...]:
    """Return the trials of a fine-tuned student, in the order in which they were made; none of a frozen one."""
    if trials is None or "epoch" not in trials.header:
        return ()
    lines: dict[tuple[str, ...], list[Mapping[str, str]]] = defaultdict(list)
    for row in trials:
        lines[tuple(row[name] for name in _SETTINGS)].append(row)
    found = [_trial(rows) for rows in lines.values()]
    best = max((each.macro_f1 for each in found if each.macro_f1 is not None), default=None)
    first = next((each for each in found if best is not None and each.macro_f1 == best), None)
    return tuple(_trial(rows, chosen=each is first) for rows, each in zip(lines.values(), found, strict=True))


def consistency(votes: Sequence[TeacherVote], *, multilabel: bool = False) -> Consistency | None:
    """Return how far the teacher's votes agree with one another; None without labels.

    Args:
        votes: What the teacher gave each response.
        multilabel: Whether that is all labels that hold; a response then counts for each of them.
    """
    if not votes:
        return None
    shares = [round(vote.consistency, 2) for vote in votes]
    of_label: dict[str, list[float]] = defaultdict(list)
    for vote in votes:
        for label in vote.label.split(LABEL_SEPARATOR) if multilabel else [vote.label]:
            of_label[label].append(vote.consistency)
    return Consistency(
        rows=len(votes),
        mean=sum(vote.consistency for vote in votes) / len(votes),
        unanimous=sum(vote.consistency >= 1 for vote in votes) / len(votes),
        by_share=sorted(Counter(shares).items(), reverse=True),
        by_label=[(label, len(each), sum(each) / len(each)) for label, each in of_label.items()],
    )


def stage_costs(journal: Journal) -> tuple[StageCost, ...]:
    """Return what each stage took, in the order in which they ran."""
    return tuple(
        StageCost(name, float(entry.get("seconds", 0.0)), entry.get("cost"), journal.spending.get(name))
        for name, entry in journal.stages.items()
        if name != "report"
    )


def disagreements(material: Material) -> tuple[ScoredRow, ...]:
    """Return every test row that the model codes otherwise than the human coders, the surest mistakes first."""
    wrong = [row for row in material.scores if row.student != row.human]
    return tuple(sorted(wrong, key=lambda row: -row.probability))


def listed_disagreements(material: Material, wrong: Sequence[ScoredRow]) -> Sequence[ScoredRow]:
    """Return those that the report lists: as many as texts are wanted, at least the first twenty."""
    return wrong[: max(_SHOWN, material.examples)]


def _trial(rows: Sequence[Mapping[str, str]], *, chosen: bool = False) -> TrialSummary:
    first = rows[0]
    best = next((row for row in rows if row["best"] == "1"), None)
    return TrialSummary(
        settings={name: first[name] for name in _SETTINGS},
        epochs=[float(row["validation_macro_f1"]) for row in rows if row["epoch"]],
        best_epoch=int(best["epoch"]) if best else 0,
        macro_f1=float(best["validation_macro_f1"]) if best else None,
        outcome=first["failure"] or first["outcome"],
        chosen=chosen,
    )


def caveats(material: Material) -> tuple[str, ...]:
    """Return what a reader must not conclude from the report, a sentence each."""
    return (*_of_the_rows(material.evaluation), *_of_the_student(material), *_of_studies(material))


def _of_the_rows(evaluation: Evaluation) -> Iterator[str]:
    student = evaluation.student
    yield (
        f"All figures come from {rows(evaluation.rows)}. As many others would give other "
        f"figures: κ lies between the ends of {interval(student.kappa) or 'its interval'} with 95\u202f% confidence, "
        "which says more than the single number."
    )
    yield (
        "They hold for responses like these: the same questions, instructions and kind of learners. Responses of "
        "another school, year, language or age may be coded worse; a sample coded by people would show it."
    )
    if student.groups is None:
        yield (
            "The intervals take every row for independent. Where one learner wrote several of the responses, they are "
            "too narrow (data.group_by names the column with the learners)."
        )
    elif student.groups == 1:
        yield "All rows come from one group, so that nothing shows how the model does on others: no interval is known."
    else:
        yield f"Rows come from {pluralize(student.groups, 'group')}, which the intervals take into account."
    texts = evaluation.test_texts_also_in_train_or_validation
    if texts:
        yield f"{texts} test rows repeat a text that the model learnt from or was chosen by; figures flatter by that."
    small = [name for name, found in student.per_label.items() if found.support < MIN_LABEL_ROWS]
    if small:
        yield f"Too few test rows to say anything of: {', '.join(small)} (fewer than {MIN_LABEL_ROWS})."
    yield (
        "The human codes count as right. Where a human coder erred and the model did not, the model is charged with "
        "the mistake; where both err alike, nobody is."
    )
    if not evaluation.subgroups:
        yield (
            "Whether the model serves all groups of learners alike was not examined (evaluation.subgroups names the "
            "columns)."
        )
    yield (
        "Validation rows chose the training's best epoch, the calibration and the review rule; test rows chose "
        "nothing. If figures of this report lead to another model, these test rows have chosen too."
    )


def _of_the_student(material: Material) -> Iterator[str]:
    table = mixture_table(material.journal, material.evaluation.counted)
    if table and table.machine_labelled:
        yield (
            f"{percent(table.machine_labelled)} of the training rows carry a label that a language model gave: what it "
            "systematically gets wrong, the student learns."
        )
    if material.evaluation.calibration.method == "none":
        yield "The model's probabilities are not calibrated: 0.9 does not mean right in nine of ten cases."
    yield "The model supports a person's judgement of a response; it is not meant to decide about a learner alone."


def _of_studies(material: Material) -> Iterator[str]:
    if leaks := {run.leak for run in material.study if run.leak}:
        yield f"Figures of the study follow a published protocol as it was published: {'; '.join(sorted(leaks))}."
