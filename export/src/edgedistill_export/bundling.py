"""From a checkpoint to a verified bundle: convert, quantize, measure, and write only what agrees."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, TypeAlias

import msgspec
import numpy as np

from edgedistill_export.card import card
from edgedistill_export.checkpoint import Checkpoint
from edgedistill_export.conversion import to_onnx
from edgedistill_export.errors import ExportFailed
from edgedistill_export.golden import golden
from edgedistill_export.model_folder import model_folder_files
from edgedistill_export.parity import Hop, Logits, check_conversion, differences, graph_logits, hop
from edgedistill_export.quantization import Recipe, dynamic_int8
from edgedistill_export.vocabulary import COMMON, VocabularyCut, cut_vocabulary
from edgedistill_serve.bundle import Bundle, write_bundle
from edgedistill_serve.errors import BundleError, DataError, ScoringFailed
from edgedistill_serve.manifest import MODEL_FILES, Manifest, Precision, ReviewRule
from edgedistill_serve.task import Task, inputs_of

Converter: TypeAlias = Callable[[Checkpoint, Path], None]
"""Writes a student as an fp32 ONNX graph, weights inside."""

_Rows: TypeAlias = Sequence[Mapping[str, str]]

_TOOLS = ("edgedistill-export", "onnx", "onnxruntime", "optimum", "optimum-onnx", "torch", "transformers")


@dataclass(frozen=True, slots=True)
class ExportPlan:
    """What shall be exported, and what the bundle shall say of it.

    Attributes:
        name: The project's name.
        task: What is scored.
        max_tokens: Longest sequence that the student reads, special tokens counted.
        precision: The precision to serve where it agrees with fp32.
        max_flip_rate: Share of the validation rows, in [0, 1], whose label int8 may change and still be served.
        temperature: Divides the logits before softmax; 1.0 where nothing was calibrated.
        review: Which scores go to a person.
        vocabulary: Whether pieces that no seen text needs are cut from the vocabulary.
        seen: The inputs of every other row whose texts may be seen, for a cut: rows of the test split are not among
            them, for they stand for the texts that are still to come, which no cut can know.
        common: How many generally frequent pieces a cut keeps whatever the texts hold; 0 or more.
        metrics: By coder (``student``, ``teacher``), its agreement with the human codes of the test rows.
        provenance: Teacher, mixture, seeds, data fingerprints; ``license`` is the model card's. The export adds its own
            under ``export``.
    """

    name: str
    task: Task
    max_tokens: int
    precision: Precision
    max_flip_rate: float
    temperature: float = 1.0
    review: ReviewRule = ReviewRule()  # noqa: RUF009  frozen
    vocabulary: Literal["full", "cut"] = "full"
    seen: Sequence[Mapping[str, str]] = ()
    common: int = COMMON
    metrics: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Exported:
    """A bundle that is in its place.

    Attributes:
        bundle: The bundle, read back.
        served: The precision that is served.
        chain: What was measured: PyTorch to ONNX fp32, and ONNX fp32 to int8 where that was wanted, accepted or not.
        bytes: Size of the graph that is served.
        notes: What the user must know, such as why int8 is not served.
        vocabulary: What a cut of the vocabulary left, None where it is full.
    """

    bundle: Bundle
    served: Precision
    chain: tuple[Hop, ...]
    bytes: int
    notes: tuple[str, ...]
    vocabulary: VocabularyCut | None = None


@dataclass(frozen=True, slots=True)
class _Measured:
    """The graphs that agree, by precision with their logits, and what was measured on the way."""

    graphs: dict[Precision, tuple[Path, Logits]]
    chain: tuple[Hop, ...]
    notes: tuple[str, ...] = ()


def export_bundle(
    checkpoint: Path,
    folder: Path,
    plan: ExportPlan,
    rows: Sequence[Mapping[str, str]],
    *,
    convert: Converter = to_onnx,
    quantize: Recipe = dynamic_int8,
) -> Exported:
    """Export a checkpoint as a bundle that is known to agree with it.

    An int8 graph that changes the label of more than ``plan.max_flip_rate`` of the rows is left out and fp32 is
    served; where int8 is served, fp32 lies beside it for processors on which int8 fails its self-check. A bundle that
    lies in ``folder`` is replaced at the very end, and stays whole when anything fails.

    Args:
        checkpoint: A Hugging Face checkpoint folder.
        folder: Where the bundle shall lie.
        plan: What shall be exported.
        rows: The inputs of the validation rows, at least one. Some are written into ``golden.json`` word for word.
        convert: How the fp32 graph is made.
        quantize: How the int8 graph is made.

    Raises:
        CheckpointError: The folder is no usable checkpoint of this task.
        DataError: A row lacks one of the task's inputs.
        ExportFailed: There is no row to check with, or the ONNX graph is not the student.
        BundleError: The bundle cannot be written into ``folder``.
    """
    inputs = [_inputs(row, plan.task, number) for number, row in enumerate(rows, start=1)]
    if not inputs:
        raise ExportFailed(
            "there is no validation row to check the export with", mend="Give the validation split some rows."
        )
    student = Checkpoint.load(checkpoint, plan.task, plan.max_tokens)
    reference = _finite_logits(student, inputs)
    with TemporaryDirectory(prefix="edgedistill-export-") as work:
        served, cut, notes = _with_vocabulary(student, reference, plan, inputs, Path(work))
        measured = _converted(served, reference, Path(work) / "model.onnx", plan.temperature, inputs, convert)
        if plan.precision == "int8":
            measured = _quantized(measured, Path(work) / "model_quantized.onnx", served, plan, inputs, quantize)
        measured = replace(measured, notes=(*notes, *measured.notes))
        bundle = _write(served, folder, plan, inputs, measured, cut)
    precision = bundle.manifest.precision
    size = bundle.manifest.files[MODEL_FILES[precision]].bytes
    return Exported(bundle, precision, measured.chain, size, measured.notes, cut)


def _with_vocabulary(
    student: Checkpoint, reference: Logits, plan: ExportPlan, rows: _Rows, work: Path
) -> tuple[Checkpoint, VocabularyCut | None, tuple[str, ...]]:
    """Cut the vocabulary where the plan says so and unseen rows keep their labels; what the user must know of it."""
    if plan.vocabulary == "full":
        return student, None, ()
    seen = [_inputs(row, plan.task, number) for number, row in enumerate(plan.seen, start=1)]
    # Rows that the cut was made for cannot change. Cut for the other texts alone, they stand for those to come.
    without, _ = cut_vocabulary(student, seen, work / "without", common=plan.common)
    unseen = hop(("PyTorch", "vocabulary cut for other rows"), reference, without.logits(rows), plan.temperature)
    told = f"changes the label of {unseen.flips} of {unseen.rows} validation rows when it is made without them"
    if unseen.flip_rate > plan.max_flip_rate:
        allowed = f"export.max_flip_rate allows {plan.max_flip_rate:.2%}"
        return student, None, (f"Cutting the vocabulary {told} ({allowed}), so it is left full.",)
    cut, kept = cut_vocabulary(student, [*rows, *seen], work / "student", common=plan.common)
    return cut, kept, (f"The cut of the vocabulary {told}.",)


def _inputs(row: Mapping[str, str], task: Task, number: int) -> dict[str, str]:
    try:
        return inputs_of(row, task)
    except DataError as error:
        raise DataError(error.what, where=f"validation row {number}", mend=error.mend) from None


def _finite_logits(student: Checkpoint, rows: _Rows) -> Logits:
    logits = student.logits(rows)
    if not np.isfinite(logits).all():
        raise ExportFailed(
            "the student gives scores that are no numbers",
            where=str(student.folder),
            mend="Its training diverged; train again with a lower learning rate.",
        )
    return logits


def _converted(
    served: Checkpoint, reference: Logits, file: Path, temperature: float, rows: _Rows, convert: Converter
) -> _Measured:
    """Compare the graph with the student that was evaluated, so that a cut vocabulary is a part of what is measured."""
    convert(served, file)
    try:
        fp32 = graph_logits(file, served.encoder, rows)
    except (BundleError, ScoringFailed) as error:
        raise ExportFailed(f"the ONNX fp32 graph cannot score ({error})", mend="Choose another backbone.") from error
    step = hop(("PyTorch", "ONNX fp32"), reference, fp32, temperature)
    check_conversion(step)
    return _Measured({"fp32": (file, fp32)}, (step,))


def _quantized(
    converted: _Measured, file: Path, student: Checkpoint, plan: ExportPlan, rows: _Rows, quantize: Recipe
) -> _Measured:
    """Add the int8 graph where it agrees with the fp32 one, else a note that says why not."""
    fp32_file, fp32 = converted.graphs["fp32"]
    try:
        quantize(fp32_file, file)
        int8 = graph_logits(file, student.encoder, rows)
    except (BundleError, ExportFailed, ScoringFailed) as error:
        return replace(converted, notes=(f"There is no int8 graph that works, so fp32 is served: {error}",))
    step = hop(("ONNX fp32", "int8"), fp32, int8, plan.temperature)
    measured = replace(converted, chain=(*converted.chain, step))
    if step.flip_rate > plan.max_flip_rate:
        return replace(measured, notes=(_refusal(step, plan.max_flip_rate),))
    return replace(measured, graphs={**converted.graphs, "int8": (file, int8)})


def _refusal(quantized: Hop, allowed: float) -> str:
    return (
        f"int8 changes the label of {quantized.flips} of {quantized.rows} validation rows "
        f"({quantized.flip_rate:.2%}; export.max_flip_rate allows {allowed:.2%}), so fp32 is served."
    )


def _write(
    student: Checkpoint,
    folder: Path,
    plan: ExportPlan,
    rows: _Rows,
    measured: _Measured,
    cut: VocabularyCut | None,
) -> Bundle:
    reference = measured.graphs["fp32"][1]
    checked = golden(
        rows,
        reference,
        {
            precision: differences(reference, logits, plan.temperature)
            for precision, (_, logits) in measured.graphs.items()
        },
    )
    exporting = {
        "chain": [asdict(step) for step in measured.chain],
        "notes": list(measured.notes),
        "versions": {tool: version(tool) for tool in _TOOLS},
    } | ({"vocabulary": asdict(cut)} if cut else {})
    draft = Manifest(
        name=plan.name,
        version="",
        task=plan.task,
        max_tokens=plan.max_tokens,
        precision="int8" if "int8" in measured.graphs else "fp32",
        files={},
        temperature=plan.temperature,
        review=plan.review,
        metrics=dict(plan.metrics),
        provenance={**plan.provenance, "export": exporting},
    )
    graphs = {precision: file for precision, (file, _) in measured.graphs.items()}
    sizes = {precision: file.stat().st_size for precision, file in graphs.items()}
    readme = card(draft, checked, measured.chain, sizes, measured.notes, cut)
    files = model_folder_files(student) | {MODEL_FILES[precision]: file for precision, file in graphs.items()}
    return write_bundle(
        folder,
        draft,
        files | {"golden.json": msgspec.json.format(msgspec.json.encode(checked)), "README.md": readme.encode()},
    )
