"""The learning curve of a project: students trained on nested subsets of its human-coded train rows."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace

import numpy as np

from edgedistill.agreement.bootstrap import bootstrap_groups
from edgedistill.agreement.confusion import Values
from edgedistill.agreement.multilabel import encode_label_sets
from edgedistill.data.types import CodedResponse, MixtureRow, ValidationRows, code_shares
from edgedistill.decisions.learning_curve import (
    CURVE_CODES_FILE,
    LEARNING_CURVE_FILE,
    STUDENTS,
    LearningCurve,
    curve_data,
    learning_curve,
    nested_order,
    subset_sizes,
)
from edgedistill.errors import ArgumentError, RunError
from edgedistill.pipeline.run import Run
from edgedistill.student import backbone_folder, train_student
from edgedistill.student.frozen import Floats, FrozenHead, fit_heads, pooled_states, probabilities_of_logits
from edgedistill.student.label_thresholds import choose_label_decoder
from edgedistill.student.model import choose_max_tokens
from edgedistill.student.nano import train_nano_student
from edgedistill_export.checkpoint import Checkpoint
from edgedistill_export.temporary import temporary_folder
from edgedistill_serve.task.label_decoding import LabelDecoder

_Fit = Callable[[Sequence[CodedResponse], int], Sequence[str]]
"""From train rows and a seed to the student's codes of the validation rows."""


def measure_learning_curve(run: Run, *, student: str = "frozen", seeds: int = 5) -> LearningCurve:
    """Train students on nested subsets of the human-coded train rows, and write `learning_curve.json`.

    Validation rows measure them; test rows are not read. The penalty of a frozen student is selected on one half of the
    validation rows and its codes of the other half count, and the other way round, so that no row is selected on and
    counted.

    Args:
        run: The project and its folder; no stage has to be done.
        student: ``frozen``: a classifier on the frozen encoder, which takes seconds; ``fine-tuned``: the student of the
            project file with its first settings, whose epoch is selected on the rows that count.
        seeds: Subsets per size, at least 2.

    Raises:
        ArgumentError: An argument is not valid.
        TrainingFailed: The backbone cannot be loaded, or a training failed.
        RunError: The file cannot be written.
    """
    kind = next((each for each in STUDENTS if each == student), None)
    if seeds < 2 or kind is None:
        raise ArgumentError(f"student must be frozen or fine-tuned and seeds at least 2, not {student!r} and {seeds}")
    task, train, validation = run.task, run.records.splits.train.rows, run.validation
    fit = _frozen(run) if kind == "frozen" else _fine_tuned(run)
    sizes = subset_sizes(len(train), task)
    orders = [nested_order([row.label for row in train], task, seed) for seed in range(seeds)]
    codings: dict[int, list[Sequence[str]]] = {size: [] for size in sizes}
    done = 0
    for size in sizes:
        for seed, order in enumerate(orders):
            codings[size].append(fit([train[place] for place in order[:size]], seed))
            done += 1
            run.on_progress(f"learning curve: {kind} students", done, seeds * len(sizes))
    groups = bootstrap_groups([row.response.group for row in validation])
    curve = learning_curve(validation.labels, codings, task, student=kind, groups=groups)
    curve = replace(curve, data=curve_data(train, run.records.splits.validation))
    ids = [row.response.id for row in validation]
    by_row = {size: [dict(zip(ids, codes, strict=True)) for codes in each] for size, each in codings.items()}
    run.folder.write_json(CURVE_CODES_FILE, {"data": curve.data, "codings": by_row})
    run.folder.write_json(LEARNING_CURVE_FILE, asdict(curve))
    return curve


def _max_tokens(run: Run) -> int:
    try:
        return run.max_tokens
    except RunError:  # mix, which chooses it, is not done
        backbone = backbone_folder(run.project.student.backbone, run.project.folder)
        return choose_max_tokens(backbone, run.task, (row.inputs for row in run.records.splits.train.responses))


def _frozen(run: Run) -> _Fit:
    task, train, validation = run.task, run.records.splits.train, run.validation
    backbone = backbone_folder(run.project.student.backbone, run.project.folder)
    inputs = [response.inputs for response in (*train.responses, *validation.responses)]
    states = pooled_states(backbone, task, _max_tokens(run), inputs)
    place_of = {row.response.id: place for place, row in enumerate(train)}
    of_validation = {pooling: each[len(train) :] for pooling, each in states.items()}
    half = np.random.default_rng(0).permutation(len(validation)) % 2
    human = _targets(validation, run)

    def fit(rows: Sequence[CodedResponse], _: int) -> Sequence[str]:
        places = [place_of[row.response.id] for row in rows]
        of_train = {pooling: each[places] for pooling, each in states.items()}
        heads = fit_heads(of_train, [row.label for row in rows], of_validation, validation.labels, task)
        coded: list[str] = [""] * len(validation)
        logits = [head.logits(of_validation[head.pooling]) for head in heads]
        losses = np.array([_losses(each, human, run) for each in logits])  # (heads, rows)
        for part in (0, 1):
            best = int(losses[:, half != part].mean(axis=1).argmin())
            labels = _labels(heads[best], logits[best], run)
            for place in np.flatnonzero(half == part).tolist():
                coded[place] = labels[place]
        return coded

    return fit


def _targets(validation: ValidationRows, run: Run) -> Values:
    """Which labels each validation row has, (rows, labels)."""
    if run.task.kind == "multilabel":
        return encode_label_sets(validation.labels, run.task, "validation").astype(np.float64)
    places = [run.task.names.index(label) for label in validation.labels]
    return np.eye(len(run.task.names))[places]


def _losses(logits: Floats, human: Values, run: Run) -> Values:
    """The cross-entropy of each row, (rows,)."""
    shares = np.clip(probabilities_of_logits(logits, run.task).astype(np.float64), 1e-12, 1 - 1e-12)
    found = human * np.log(shares)
    if run.task.kind == "multilabel":
        found = found + (1 - human) * np.log(1 - shares)
    return np.asarray(-found.sum(axis=1), dtype=np.float64)


def _labels(head: FrozenHead, logits: Floats, run: Run) -> Sequence[str]:
    return LabelDecoder(run.task, 1.0, head.thresholds).labels(logits)


def _fine_tuned(run: Run) -> _Fit:
    task, validation = run.task, run.validation
    backbone = backbone_folder(run.project.student.backbone, run.project.folder)
    section = run.project.student.model_copy(update={"max_tokens": _max_tokens(run)})

    def fit(rows: Sequence[CodedResponse], seed: int) -> Sequence[str]:
        mixture = [
            MixtureRow(row.response.id, row.response.inputs, row.label, "human", code_shares(row.label, task))
            for row in rows
        ]
        with temporary_folder("curve") as work:
            folder = work / "student"
            with_seed = section.model_copy(update={"seeds": (seed,)})
            if section.kind == "nano":
                train_nano_student(mixture, validation, task, with_seed, backbone, folder, work / "start")
            else:
                train_student(mixture, validation, task, with_seed, backbone, folder)
            student = Checkpoint.load(folder, task, section.token_limit)
            logits = student.logits([dict(response.inputs) for response in validation.responses])
            return choose_label_decoder(student, validation).labels(logits)

    return fit
