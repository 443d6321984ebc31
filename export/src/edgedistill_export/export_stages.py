"""The forms of a student on its way to a bundle: PyTorch, ONNX fp32, int8; each measured against the one before."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from edgedistill_export.checkpoint import Checkpoint
from edgedistill_export.errors import ExportFailed
from edgedistill_export.plan import ExportPlan
from edgedistill_export.quantize.overflow import check_overflow
from edgedistill_export.quantize.recipes import RECIPES, Recipe
from edgedistill_export.quantize.tuning import Tuning, TuningData, tune
from edgedistill_export.verify.parity import ConversionStep, Logits, check_conversion, graph_logits, measure_step
from edgedistill_serve.bundle.manifest import Precision
from edgedistill_serve.errors import BundleError, ScoringFailed
from edgedistill_serve.task.label_decoding import LabelDecoder
from edgedistill_serve.task.task import task_inputs

Converter: TypeAlias = Callable[[Checkpoint, Path], None]
"""Writes a student as an fp32 ONNX graph, weights inside."""

Rows: TypeAlias = Sequence[Mapping[str, str]]
"""The task's inputs of each row."""


@dataclass(frozen=True, slots=True)
class ExportStages:
    """The graphs that agree with the student, and what was measured on the way.

    Attributes:
        graphs: By precision, the file and its logits of the validation rows.
        steps: The steps on validation rows.
        notes: What the user must know.
        tuning: What was tried, where the plan said so.
        recipe: Of the int8 graph, by name; empty where there is none or it is a recipe of the caller's.
        locked: What was said of the locked rows.
    """

    graphs: dict[Precision, tuple[Path, Logits]]
    steps: tuple[ConversionStep, ...]
    notes: tuple[str, ...] = ()
    tuning: Tuning | None = None
    recipe: str = ""
    locked: tuple[dict[str, Any], ...] = ()

    @property
    def served(self) -> Precision:
        """The precision to serve: int8 where there is a graph of it."""
        return "int8" if "int8" in self.graphs else "fp32"


def finite_logits(student: Checkpoint, rows: Rows) -> Logits:
    """Score rows with the student in PyTorch.

    Raises:
        ExportFailed: A score is no number.
    """
    logits = student.logits(rows)
    if not np.isfinite(logits).all():
        raise ExportFailed(
            "the student gives scores that are no numbers",
            where=str(student.folder),
            hint="Its training diverged; train again with a lower learning rate.",
        )
    return logits


def convert_to_fp32(
    served: Checkpoint, reference: Logits, file: Path, decoder: LabelDecoder, rows: Rows, convert: Converter
) -> ExportStages:
    """Convert, and compare with the student that was evaluated, so that a cut vocabulary is a part of what is measured.

    Raises:
        ExportFailed: The graph cannot score, or is not the student.
    """
    convert(served, file)
    try:
        fp32 = graph_logits(file, served.encoder, rows)
    except (BundleError, ScoringFailed) as error:
        raise ExportFailed(f"the ONNX fp32 graph cannot score ({error})", hint="Choose another backbone.") from error
    step = measure_step(("PyTorch", "ONNX fp32"), reference, fp32, decoder)
    check_conversion(step)
    return ExportStages({"fp32": (file, fp32)}, (step,))


def add_int8(
    converted: ExportStages, file: Path, student: Checkpoint, plan: ExportPlan, rows: Rows, quantize: Recipe
) -> ExportStages:
    """Add the int8 graph where no product overflows and it agrees with the fp32 one, else a note that says why not."""
    fp32_file, fp32 = converted.graphs["fp32"]
    try:
        quantize(fp32_file, file, student.encoder.encode(rows))
        check_overflow(file)
        int8 = graph_logits(file, student.encoder, rows)
    except (BundleError, ExportFailed, ScoringFailed) as error:
        return replace(converted, notes=(f"There is no int8 graph that works, so fp32 is served: {error}",))
    step = measure_step(("ONNX fp32", "int8"), fp32, int8, plan.label_decoder)
    measured = replace(converted, steps=(*converted.steps, step))
    if step.flip_rate > plan.max_flip_rate:
        return replace(measured, notes=(_refusal(step, plan.max_flip_rate),))
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


def score_locked_rows(
    student: Checkpoint, served: Checkpoint, plan: ExportPlan, measured: ExportStages
) -> tuple[dict[str, Any], ...]:
    """Score the locked rows with every form, now that nothing is left to choose.

    Raises:
        ExportFailed: The fp32 graph is not the student on them.
    """
    if not plan.locked or plan.compare is None:
        return ()
    rows = [task_inputs(row, plan.task) for row in plan.locked]
    names: dict[Precision, str] = {"fp32": "ONNX fp32", "int8": "int8"}
    forms = {"PyTorch": finite_logits(student, rows)}
    for precision, (file, _) in measured.graphs.items():
        forms[names[precision]] = graph_logits(file, served.encoder, rows)
    if student is served:  # a cut vocabulary may read texts in other pieces, which the comparison tells
        check_conversion(
            measure_step(("PyTorch", "ONNX fp32"), forms["PyTorch"], forms["ONNX fp32"], plan.label_decoder)
        )
    return _compared(forms, plan)


def _compared(forms: Mapping[str, Logits], plan: ExportPlan) -> tuple[dict[str, Any], ...]:
    labels = {form: plan.label_decoder.labels(logits) for form, logits in forms.items()}
    return tuple(plan.compare(labels)) if plan.compare else ()


def _refusal(quantized: ConversionStep, allowed: float) -> str:
    return (
        f"int8 changes the label of {quantized.flips} of {quantized.rows} validation rows "
        f"({quantized.flip_rate:.2%}; export.max_flip_rate allows {allowed:.2%}), so fp32 is served."
    )
