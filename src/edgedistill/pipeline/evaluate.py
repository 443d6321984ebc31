"""Evaluation: student, teachers and baselines against the human codes of the locked test rows."""

import csv
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from edgedistill.agreement import InterCoderAgreement, inter_coder_agreement
from edgedistill.data import Population, read_population
from edgedistill.data.reading import held_out
from edgedistill.data.twins import SplitTwins
from edgedistill.data.types import MixtureRow
from edgedistill.decisions import Circumstances, Scores, TestScores, ValidationScores
from edgedistill.errors import RunError
from edgedistill.evaluation.build import (
    HUMAN_TRAINED,
    ChosenSettings,
    Labels,
    build_evaluation,
    choose,
    population_prevalence,
    test_scores,
    validation_scores,
)
from edgedistill.evaluation.files import to_plain
from edgedistill.evaluation.questions import KnownQuestions
from edgedistill.pipeline.folder import ASSISTANT, FROZEN, MIXTURE, OVERLAP, SHRUNK, SIZES, STUDENT, RunFolder
from edgedistill.pipeline.gate import groups_by_id
from edgedistill.pipeline.mix import novelty_rows, read_mixture
from edgedistill.pipeline.run import Run
from edgedistill.sizes import SIZES_FILE, size_coding, size_folder, size_name
from edgedistill.student import backbone_folder
from edgedistill.student.assistant import Assistants
from edgedistill.student.data import InputSummary
from edgedistill.student.frozen import predict_frozen
from edgedistill.student.label_thresholds import Student, choose_label_decoder
from edgedistill.student.overlap import has_references, predict_overlap
from edgedistill.teacher import Labelling, combine_labellings
from edgedistill_export.checkpoint import Checkpoint
from edgedistill_serve.task.contexts import context_hash, has_context
from edgedistill_serve.task.task import task_inputs


def evaluate(run: Run) -> dict[str, Any]:
    """Choose temperature and thresholds on validation rows, score the test rows, and write `evaluation.json`.

    Student, teachers and baselines are compared with the human codes of the same rows. The teacher's agreement leaves
    out the test rows that it did not code. Several teachers are compared one by one, too, and with one another.
    `test_scores.csv` has a line per test row, without its text.

    Returns:
        Cost and notes for `run.json`.
    """
    splits, section = run.records.splits, run.project.evaluation
    population = project_population(run)
    measured = measure(run)
    student, chosen, validation, test = measured.student, measured.chosen, measured.validation, measured.test
    labellings, joint = measured.labellings, measured.joint
    evaluation = build_evaluation(
        splits,
        section,
        chosen,
        validation,
        test,
        measured.codings,
        teacher_set_aside=joint.set_aside if joint else (),
        between=_between(run, labellings),
        prevalence=population_prevalence(population, student, test) if population else None,
        twins=_twins(run, student, validation, test),
        known=known_questions(run),
    )
    run.folder.write_json("evaluation.json", to_plain(evaluation))
    teacher = {row.id: row.label for row in joint.labels} if joint else {}
    run.folder.write_csv("test_scores.csv", _lines(test, chosen, teacher))
    inputs = {"validation": InputSummary.of(validation.encoded), "test": InputSummary.of(test.encoded)}
    return {
        **({"cost": asdict(joint.usage)} if joint else {}),
        "inputs": {name: asdict(summary) for name, summary in inputs.items()},
        "notes": [
            *chosen.notes,
            *(note for name, summary in inputs.items() for note in summary.notes(name, run.max_tokens)),
        ],
    }


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """What an evaluation is computed from.

    Attributes:
        student: The student in PyTorch.
        chosen: What the validation rows chose.
        validation: Its scores of the validation rows, with the chosen thresholds.
        test: Its scores of the test rows, likewise.
        labellings: By teacher, its labels of the test rows.
        joint: The labels of all teachers together; None without a teacher.
        codings: The codings of the test rows by teachers and other classifiers.
    """

    student: Checkpoint
    chosen: ChosenSettings
    validation: ValidationScores
    test: TestScores
    labellings: Mapping[str, Labelling]
    joint: Labelling | None
    codings: Mapping[str, Labels]


def measure(run: Run) -> Measured:
    """Score validation and test rows, choose what validation rows choose, and code the test rows."""
    splits = run.records.splits
    student = Checkpoint.load(run.exported_student, run.task, run.max_tokens)
    training = novelty_rows(run)
    with run.counting("evaluate: the student reads known texts", len(training) + len(run.validation)):
        validation, novelty = validation_scores(
            student, run.validation, training, run.project.review, held_out=held_out(run.project)
        )
    chosen = choose(validation, run.project.evaluation, run.project.review, circumstances(run), training)
    with run.counting("evaluate: the student scores test rows", len(splits.test)):
        test = chosen.apply(test_scores(student, splits.test, novelty))
    labellings, joint = _teachers(run)
    with run.counting("evaluate: baselines score test rows", len(splits.test)):
        baselines = _baselines(run)
    codings = {**_teacher_codings(labellings, joint), **baselines}
    return Measured(student, chosen, chosen.apply(validation), test, labellings, joint, codings)


def circumstances(run: Run) -> Circumstances:
    """Return what a promise about other responses depends on besides scores: what else the validation rows chose."""
    rows = [task_inputs(row.inputs, run.task) for row in read_mixture(run.folder, run.task.inputs)]
    trained = frozenset(map(context_hash, rows)) if has_context(run.task) else frozenset[str]()
    return Circumstances(
        compared=compared_students(run),
        trained_contexts=trained,
        held_out=held_out(run.project),
    )


def known_questions(run: Run) -> KnownQuestions:
    """Return the questions that the student was trained on."""
    mixture = read_mixture(run.folder, run.task.inputs)
    ids = {row.id for row in mixture}
    responses = (*run.records.splits.train.responses, *run.records.unlabelled)
    trained = {response.question for response in responses if response.id in ids}
    if run.project.data.question_by is None and has_context(run.task):  # synthetic rows have no row of their own
        trained |= {context_hash(task_inputs(row.inputs, run.task)) for row in mixture}
    return KnownQuestions(frozenset(trained - {""}), held_out(run.project))


def compared_students(run: Run) -> int:
    """Return the number of students that the validation rows compared: every epoch of every trial, or every head.

    The validation rows also choose an epoch of each assistant, and with each choice the student would be another. A
    corrected student counts as two, because they fit its constants, and so does each corrected one that it learnt from
    (docs/decisions/0073-label-shares-of-human-codes.md).
    """
    entry = run.folder.read_json("run.json")["stages"]["train"]
    assistant = entry.get("assistant", {})
    trials, choices = entry["trials"], math.prod(map(int, assistant.get("compared", ())))
    choices *= math.prod(2 for each in assistant.get("prior_correction", ()) if each["shift"])
    choices *= (1, 2, 4)[min(2, sum(bool(each["shift"]) for each in entry.get("prior_correction", ())))]
    with (run.folder / "trials.csv").open(encoding="utf-8", newline="") as file:
        epochs = sum(bool(line["epoch"]) for line in csv.DictReader(file))
    return max(int(trials), epochs, 1) * choices


def _twins(run: Run, student: Checkpoint, validation: ValidationScores, test: TestScores) -> SplitTwins:
    """Add to the rows that are the same as others those whose tokens are: the student cannot tell them apart either."""
    twins = run.records.splits.twins
    mixture = read_mixture(run.folder, run.task.inputs)
    learned = student.encoder.encode([task_inputs(row.inputs, run.task) for row in mixture])
    of_train = {row.ids for row in learned}
    of_both = of_train | {row.ids for row in validation.encoded}

    def same(known: tuple[str, ...], scores: Scores, others: set[tuple[int, ...]]) -> tuple[str, ...]:
        pairs = zip(scores.ids, scores.encoded, strict=True)
        return tuple(dict.fromkeys((*known, *(row for row, encoded in pairs if encoded.ids in others))))

    found = replace(
        twins,
        test_same=same(twins.test_same, test, of_both),
        validation_same=same(twins.validation_same, validation, of_train),
    )
    return replace(
        found,
        test_near=tuple(row for row in twins.test_near if row not in found.test_same),
        validation_near=tuple(row for row in twins.validation_near if row not in found.validation_same),
    )


def project_population(run: Run) -> Population | None:
    """Read the responses of `evaluation.population`; None if no file is named."""
    file = run.project.evaluation.population
    return None if file is None else read_population(run.project, file, run.records.splits)


def _teachers(run: Run) -> tuple[dict[str, Labelling], Labelling | None]:
    """Have the teachers code the test rows: each alone, and all together."""
    if not run.project.panel:
        return {}, None
    responses = run.records.splits.test.responses
    labellings = run.code_with_each(run.used, responses, "evaluate: {} codes test rows")
    return labellings, combine_labellings(responses, labellings, run.weights, run.task)


def _teacher_codings(labellings: Mapping[str, Labelling], joint: Labelling | None) -> dict[str, Labels]:
    named = {"teacher": joint} if joint else {}
    if len(labellings) > 1:
        named |= {f"teacher {name}": labelling for name, labelling in labellings.items()}
    return {name: {row.id: row.label for row in labelling.labels} for name, labelling in named.items()}


def _between(run: Run, labellings: Mapping[str, Labelling]) -> InterCoderAgreement | None:
    if len(labellings) < 2:
        return None
    codings = {name: {row.id: row.label for row in labelling.labels} for name, labelling in labellings.items()}
    return inter_coder_agreement(codings, run.task, groups=groups_by_id(run.records.splits.test.responses))


def _baselines(run: Run) -> dict[str, Labels]:
    """Code the test rows with the other classifiers of the project.

    Returns:
        Codings by name: ``frozen encoder``; for a task with reference answers ``overlap baseline``; ``assistant``, if
        there is one; if there are two students the other one, ``shrunk student`` or ``fine-tuned student``; with
        several sizes those that were not picked, such as ``student of 3 layers``; and
        ``human-trained student``, if one is named.

    Raises:
        RunError: The folder of the human-trained student does not hold one that may be compared.
        CheckpointError: It is a student of another task.
    """
    task, student, test = run.task, run.project.student, run.records.splits.test
    rows = [dict(response.inputs) for response in test.responses]
    codings: dict[str, tuple[str, ...]] = {}
    if student.kind != "frozen":
        backbone = backbone_folder(student.backbone, run.project.folder)
        codings["frozen encoder"] = predict_frozen(run.folder / FROZEN, backbone, task, rows).labels
    if has_references(task):
        backbone = backbone_folder(student.backbone, run.project.folder)
        codings["overlap baseline"] = predict_overlap(run.folder / OVERLAP, backbone, task, rows).labels
    others: dict[str, Student] = {}
    if student.assistant:
        others["assistant"] = Assistants.load(run.folder / ASSISTANT, task, run.max_tokens)
    if student.shrink:
        other, name = (STUDENT, "fine-tuned student") if student.shrink.export else (SHRUNK, "shrunk student")
        others[name] = Checkpoint.load(run.folder / other, task, run.max_tokens)
    others |= _other_sizes(run)
    if (human_trained := _human_trained(run)) is not None:
        others[HUMAN_TRAINED] = human_trained
    for name, checkpoint in others.items():
        decoder = choose_label_decoder(checkpoint, run.validation)
        codings[name] = decoder.labels(checkpoint.logits(rows))
    ids = [response.id for response in test.responses]
    return {name: dict(zip(ids, labels, strict=True)) for name, labels in codings.items()}


def _other_sizes(run: Run) -> dict[str, Checkpoint]:
    """Load the students of the sizes that were not picked, by the names of their codings."""
    sizes = run.project.student.sizes
    if not sizes:
        return {}
    picked = run.folder.read_json(SIZES_FILE)["picked_folder"]
    return {
        size_coding(size_name(size)): Checkpoint.load(run.folder / SIZES / size_folder(size), run.task, run.max_tokens)
        for size in sizes
        if size_folder(size) != picked
    }


def _human_trained(run: Run) -> Checkpoint | None:
    """Load the student in the run folder that `evaluation.human_trained` names; None if none is named.

    Raises:
        RunError: The folder does not hold a finished run, or that student was trained on other rows than human-coded
            train rows of this project.
        CheckpointError: It is a student of another task.
    """
    named = run.project.evaluation.human_trained
    if named is None:
        return None
    folder = RunFolder(run.project.folder / named)
    try:
        mixture = read_mixture(folder, run.task.inputs)
    except RunError:
        raise RunError(
            "is missing, or belongs to a project with another task",
            where=str(folder / MIXTURE),
            hint="Let evaluation.human_trained name the run folder of a project with the same task and human rows.",
        ) from None
    _require_human_rows(mixture, str(folder / MIXTURE), run)
    return Checkpoint.load(folder / STUDENT, run.task, run.max_tokens)


def _require_human_rows(mixture: tuple[MixtureRow, ...], where: str, run: Run) -> None:
    if others := Counter(row.source for row in mixture if row.source != "human"):
        counts = ", ".join(f"{count} {source}" for source, count in sorted(others.items()))
        raise RunError(
            f"the student was trained on other rows than human-coded ones, too ({counts})",
            where=where,
            hint="Train it with `mix: {human: all, teacher: 0}`.",
        )
    train = {row.response.id: row.response.inputs for row in run.records.splits.train}
    if unknown := [row.id for row in mixture if train.get(row.id) != row.inputs]:
        raise RunError(
            f"the student was trained on {len(unknown)} rows that are not train rows of this project, such as "
            f"{unknown[0]}",
            where=where,
            hint="Train it on the same human file with the same split, so that it has seen no test row.",
        )


def _lines(test: TestScores, chosen: ChosenSettings, teacher: Labels) -> list[list[object]]:
    """Return the lines of `test_scores.csv`; for a multilabel task with the certainty of the least certain label."""
    names = test.task.names
    certainty = ["certainty"] if test.task.kind == "multilabel" else []
    shares = [f"p:{name}" for name in names]
    lines: list[list[object]] = [["id", "human", "student", *shares, *certainty, "decision", "reason", "teacher"]]
    for row, human, score in zip(
        test.ids, test.codes, test.apply_rule(chosen.temperature, chosen.review.rule), strict=True
    ):
        figures = [*(score.probabilities[name] for name in names), *([score.probability] if certainty else [])]
        cells = [score.label, *(f"{figure:.6f}" for figure in figures), score.decision, score.reason or ""]
        lines.append([row, human, *cells, teacher.get(row, "")])
    return lines
