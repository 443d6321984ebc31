"""The stages of an export: PyTorch, ONNX fp32, int8; each is measured against the previous one."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from edgedistill_export.checkpoint import Checkpoint
from edgedistill_export.counting import begin_phase
from edgedistill_export.errors import ExportFailed
from edgedistill_export.novelty import (
    NoveltyModel,
    cannot_measure,
    choose_limit,
    expected_alarms,
    fit_novelty,
    least_rows,
    read_vectors,
    too_few_rows,
    write_with_novelty,
)
from edgedistill_export.plan import ExportPlan, LockedScores
from edgedistill_export.quantize.overflow import check_overflow
from edgedistill_export.quantize.recipes import RECIPES, Recipe
from edgedistill_export.quantize.tuning import Tuning, TuningData, tune
from edgedistill_export.verify.parity import (
    ConversionStep,
    Logits,
    check_conversion,
    graph_logits,
    graph_novelty,
    measure_step,
)
from edgedistill_serve.bundle.manifest import REVIEW_ALL, NoveltyFit, Precision, ReviewRule
from edgedistill_serve.errors import BundleError, ScoringFailed
from edgedistill_serve.scoring.encoding import Encoded
from edgedistill_serve.scoring.session import Session
from edgedistill_serve.task.label_decoding import LabelDecoder
from edgedistill_serve.task.task import task_inputs

Converter: TypeAlias = Callable[[Checkpoint, Path], None]
"""Writes a student as an fp32 ONNX graph with its weights in the same file."""

Rows: TypeAlias = Sequence[Mapping[str, str]]
"""The task's inputs of each row."""


@dataclass(frozen=True, slots=True)
class ExportStages:
    """The graphs that agree with the student, and the measurements.

    Attributes:
        graphs: By precision, the file and its logits for the validation rows.
        steps: The steps measured on validation rows.
        notes: Notes for the user.
        tuning: The compared recipes, None without tuning.
        recipe: Name of the int8 graph's recipe; empty without an int8 graph or for a custom recipe.
        locked: The comparison of the stages on locked rows.
        agreement: The agreement of the served graph with the human codes of the locked rows; None if it was not
            measured.
        locked_scores: The logits of the locked rows; None if they were not scored.
        novelty: How the novelty of the graphs was fitted; None if they compute none.
        max_novelty: The largest novelty that is accepted; None for no limit.
    """

    graphs: dict[Precision, tuple[Path, Logits]]
    steps: tuple[ConversionStep, ...]
    notes: tuple[str, ...] = ()
    tuning: Tuning | None = None
    recipe: str = ""
    locked: tuple[dict[str, Any], ...] = ()
    agreement: Mapping[str, Any] | None = None
    locked_scores: LockedScores | None = None
    novelty: NoveltyFit | None = None
    max_novelty: float | None = None

    @property
    def served(self) -> Precision:
        """The precision to serve: int8 if there is an int8 graph."""
        return "int8" if "int8" in self.graphs else "fp32"


def finite_logits(student: Checkpoint, rows: Rows) -> Logits:
    """Score rows with the student in PyTorch.

    Raises:
        ExportFailed: A logit is not finite.
    """
    logits = student.logits(rows)
    if not np.isfinite(logits).all():
        raise ExportFailed(
            "the student's logits are not finite",
            where=str(student.folder),
            hint="The training diverged; train again with a lower learning rate.",
        )
    return logits


def convert_to_fp32(
    served: Checkpoint, reference: Logits, file: Path, decoder: LabelDecoder, rows: Rows, convert: Converter
) -> ExportStages:
    """Convert to ONNX fp32 and compare with the evaluated student; this includes the effect of a reduced vocabulary.

    Raises:
        ExportFailed: The graph cannot score, or does not agree with the student.
    """
    begin_phase("the student is converted to ONNX")
    convert(served, file)
    begin_phase("the fp32 graph scores validation rows", len(rows))
    try:
        fp32 = graph_logits(file, served.encoder, rows)
    except (BundleError, ScoringFailed) as error:
        raise ExportFailed(f"the ONNX fp32 graph fails ({error})", hint="Choose another backbone.") from error
    step = measure_step(("PyTorch", "ONNX fp32"), reference, fp32, decoder)
    check_conversion(step)
    return ExportStages({"fp32": (file, fp32)}, (step,))


def add_int8(
    converted: ExportStages, file: Path, student: Checkpoint, plan: ExportPlan, rows: Rows, quantize: Recipe
) -> ExportStages:
    """Add the int8 graph if no product overflows and it agrees with fp32, else a note with the reason."""
    fp32_file, fp32 = converted.graphs["fp32"]
    try:
        begin_phase("the graph is quantized")
        quantize(fp32_file, file, student.encoder.encode(rows))
        check_overflow(file)
        begin_phase("the int8 graph scores validation rows", len(rows))
        int8 = graph_logits(file, student.encoder, rows)
    except (BundleError, ExportFailed, ScoringFailed) as error:
        return replace(converted, notes=(f"The int8 graph failed, so fp32 is served: {error}",))
    step = measure_step(("ONNX fp32", "int8"), fp32, int8, plan.label_decoder)
    measured = replace(converted, steps=(*converted.steps, step))
    if not step.flip_rate <= plan.max_flip_rate:
        return replace(measured, notes=(_rejection_note(step, plan.max_flip_rate),))
    recipe = next((name for name, known in RECIPES.items() if known is quantize), "")
    return replace(measured, graphs={**converted.graphs, "int8": (file, int8)}, recipe=recipe)


def add_tuned(
    converted: ExportStages,
    work: Path,
    student: Checkpoint,
    plan: ExportPlan,
    rows: Rows,
    recipes: Mapping[str, Recipe],
) -> ExportStages:
    """Add the graph of the recipe that tuning chose."""
    begin_phase("recipes of int8 are compared")
    (work / "recipes").mkdir()
    encoded = student.encoder.encode(rows)
    data = TuningData(encoded, plan.label_decoder, plan.max_flip_rate, plan.codes, plan.groups)
    fp32_file, fp32 = converted.graphs["fp32"]
    tuning = tune(fp32_file, recipes, work / "recipes", data)
    measured = replace(converted, tuning=tuning, notes=(tuning.note,))
    if tuning.chosen == "fp32":
        return measured
    file = work / "recipes" / f"{tuning.chosen}.onnx"
    int8 = graph_logits(file, student.encoder, rows)
    step = measure_step(("ONNX fp32", "int8"), fp32, int8, plan.label_decoder)
    graphs: dict[Precision, tuple[Path, Logits]] = {**converted.graphs, "int8": (file, int8)}
    return replace(measured, steps=(*converted.steps, step), graphs=graphs, recipe=tuning.chosen)


def add_novelty(measured: ExportStages, work: Path, student: Checkpoint, plan: ExportPlan, rows: Rows) -> ExportStages:
    """Let each graph compute the novelty of a text, and choose its limit on the validation rows.

    Every graph gets the distribution of its own vectors, so that one limit fits all. Of graphs without a vector no
    novelty is known, and a note says so. With too few training texts none is known either, and the limit is
    `REVIEW_ALL`, so that every response goes to a person.

    Args:
        measured: The graphs as converted and quantized.
        work: Where the new graphs are written.
        student: The student of these graphs.
        plan: The training texts, and the share of false alarms.
        rows: The validation rows.
    """
    training = student.encoder.encode([task_inputs(row, plan.task) for row in plan.novelty_rows])
    readable = [row for row in student.encoder.encode(rows) if is_readable(row, plan.review)]
    begin_phase("the graphs read known texts", len(measured.graphs) * (len(training) + len(readable)))
    models: dict[Precision, NoveltyModel | None] = {}
    for precision, (file, _) in measured.graphs.items():
        vectors = read_vectors(file, [*training, *readable]) if training else None
        split = len(training)
        models[precision] = None if vectors is None else fit_novelty(vectors[:split], vectors[split:])
    fitted = all(models.values())
    graphs: dict[Precision, tuple[Path, Logits]] = {}
    for precision, (file, logits) in measured.graphs.items():
        graphs[precision] = (work / f"{precision}-with-novelty.onnx", logits)
        write_with_novelty(file, graphs[precision][0], models[precision] if fitted else None)
    model = models[measured.served]
    if not fitted or model is None:
        few = cannot_measure(plan.novelty_rows, len(readable))
        closed = bool(few) and plan.false_alarms is not None
        why = few or "the graph gives no vector of a text that training texts differ in"
        note = f"Novelty is not measured: {why}{', so that every response goes to a person' if closed else ''}."
        notes = (*measured.notes, *([note] if plan.novelty_rows else []))
        return replace(measured, graphs=graphs, notes=notes, max_novelty=REVIEW_ALL if closed else None)
    found = Session(graphs[measured.served][0], overflow_free=True)
    novelty = np.array([float(np.asarray(found.run([row]).novelty)[0]) for row in readable])
    limit = None if plan.false_alarms is None else choose_limit(novelty, plan.false_alarms)
    notes = measured.notes
    alarms = None if plan.false_alarms is None else expected_alarms(len(readable), plan.false_alarms)
    if plan.false_alarms is not None and len(readable) < least_rows(plan.false_alarms):
        notes = (*notes, too_few_rows(len(readable), plan.false_alarms))
    fit = NoveltyFit(
        training_rows=model.texts,
        directions=len(model.variances),
        validation_rows=len(readable),
        false_alarms=None if limit is None else alarms,
        flagged=0 if limit is None else int((novelty > limit).sum()),
    )
    return replace(measured, graphs=graphs, novelty=fit, max_novelty=limit, notes=notes)


def is_readable(row: Encoded, review: ReviewRule) -> bool:
    """Whether a row goes to no person for what can be read of it."""
    return not (row.blank or row.truncated or row.unknown_share > review.max_unknown_share)


def score_locked_rows(
    student: Checkpoint, served: Checkpoint, plan: ExportPlan, measured: ExportStages
) -> ExportStages:
    """Score the locked rows at every stage, after all choices have been made, and add what the plan computes from it.

    Raises:
        ExportFailed: The fp32 graph does not agree with the student on them.
    """
    if not plan.locked or (plan.compare is None and plan.measure is None):
        return measured
    rows = [task_inputs(row, plan.task) for row in plan.locked]
    reads = 1 + len(measured.graphs) + (measured.novelty is not None)
    begin_phase("student and graphs score test rows", reads * len(rows))
    names: dict[Precision, str] = {"fp32": "ONNX fp32", "int8": "int8"}
    forms = {"PyTorch": finite_logits(student, rows)}
    for precision, (file, _) in measured.graphs.items():
        forms[names[precision]] = graph_logits(file, served.encoder, rows)
    if student is served:  # a reduced vocabulary may change the tokens, which the comparison reports
        check_conversion(
            measure_step(("PyTorch", "ONNX fp32"), forms["PyTorch"], forms["ONNX fp32"], plan.label_decoder)
        )
    labels = {form: plan.label_decoder.labels(logits) for form, logits in forms.items()}
    return replace(
        measured,
        locked=tuple(plan.compare(labels)) if plan.compare else (),
        agreement=plan.measure(labels[names[measured.served]]) if plan.measure else None,
        locked_scores=LockedScores(
            forms["PyTorch"],
            forms[names[measured.served]],
            tuple(served.encoder.encode(rows)),
            graph_novelty(measured.graphs[measured.served][0], served.encoder, rows) if measured.novelty else None,
        ),
    )


def _rejection_note(quantized: ConversionStep, allowed: float) -> str:
    note = (
        f"int8 changes the label of {quantized.flips} of {quantized.rows} validation rows "
        f"({quantized.flip_rate:.2%}; export.max_flip_rate allows {allowed:.2%}), so fp32 is served."
    )
    if quantized.flips == 1 and 0 < allowed * quantized.rows < 1:
        note += (
            f" With fewer than {ceil(1 / allowed)} validation rows a single change is too many: code more rows, or set "
            f"export.max_flip_rate to {ceil(100 / quantized.rows) / 100:g} for a file of about a quarter of the size."
        )
    return note
