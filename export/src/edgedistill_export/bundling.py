"""From a checkpoint to a verified bundle: convert, quantize, measure, and write only what agrees."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec

from edgedistill_export.card import format_card
from edgedistill_export.checkpoint import Checkpoint
from edgedistill_export.convert.exporter import to_onnx
from edgedistill_export.errors import CheckpointError, ExportFailed
from edgedistill_export.export_stages import (
    Converter,
    ExportStages,
    Rows,
    add_int8,
    add_tuned,
    convert_to_fp32,
    finite_logits,
    score_locked_rows,
)
from edgedistill_export.plan import ExportPlan
from edgedistill_export.quantize.overflow import check_overflow
from edgedistill_export.quantize.recipes import DEFAULT, RECIPES, Recipe
from edgedistill_export.quantize.tuning import Tuning
from edgedistill_export.quantize.vocabulary import VocabularyCut, cut_vocabulary
from edgedistill_export.verify.golden import build_golden
from edgedistill_export.verify.parity import ConversionStep, Logits, measure_step
from edgedistill_serve.bundle.loading import Bundle, write_bundle
from edgedistill_serve.bundle.manifest import MODEL_FILES, Manifest, Precision
from edgedistill_serve.errors import DataError
from edgedistill_serve.scoring.batching import find_invariant_batching
from edgedistill_serve.scoring.session import Session
from edgedistill_serve.task.task import Task, task_inputs

_NOT_CARRIED = ("_name_or_path", "name_or_path", "tokenizer_file", "special_tokens_map_file", "auto_map")
"""Keys that name a path of the machine that trained, or code to be fetched."""

_SIZES = ("hidden_size", "num_hidden_layers")
_MARKS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


def model_folder_files(student: Checkpoint) -> dict[str, Path | bytes]:
    """Return config and tokenizer files by their name in the bundle.

    ``config.json`` names the labels, the problem type, and width and depth under the names that
    text-embeddings-inference asks for, also where the kind of model has names of its own for them.
    ``tokenizer.json`` is the checkpoint's without its padding: readers that pad do so by what they batch, and a reader
    that forgot the mask would score the padding. Where it cuts, it cuts at the student's longest sequence, which
    ``tokenizer_config.json`` gives as ``model_max_length``: other readers cut where the scorer does.
    ``special_tokens_map.json``, which transformers 5 no longer writes, is made from it where it is missing. What
    transformers 5 calls otherwise in ``tokenizer_config.json`` has the names there that all versions read
    (`_read_by_all`).

    Raises:
        CheckpointError: One of the checkpoint's files is no JSON object.
    """
    settings = _read_by_all(_read(student.folder / "tokenizer_config.json"))
    settings["model_max_length"] = student.encoder.max_tokens
    marks_file = student.folder / "special_tokens_map.json"
    marks = (
        _read(marks_file) if marks_file.exists() else {name: settings[name] for name in _MARKS if settings.get(name)}
    )
    tokenizer = _read(student.folder / "tokenizer.json") | {"padding": None}
    if tokenizer.get("truncation"):
        tokenizer["truncation"] = tokenizer["truncation"] | {"max_length": student.encoder.max_tokens}
    return {
        "config.json": _json({name: getattr(student.model.config, name) for name in _SIZES} | dict(student.config)),
        "tokenizer.json": _json(tokenizer),
        "tokenizer_config.json": _json(settings),
        "special_tokens_map.json": _json(marks),
    }


def _read_by_all(settings: dict[str, Any]) -> dict[str, Any]:
    """A tokenizer's settings as transformers 4 names them: transformers 5 and transformers.js read those too."""
    named = dict(settings)
    if named.get("tokenizer_class") == "TokenizersBackend":
        named["tokenizer_class"] = "PreTrainedTokenizerFast"
        named.pop("backend", None)
    if isinstance(named.get("extra_special_tokens"), list):  # transformers 4 wants them by name here, or fails
        named["additional_special_tokens"] = named.pop("extra_special_tokens")
    return named


def _read(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"it cannot be read ({error})", where=str(file)) from error
    if not isinstance(content, dict):
        raise CheckpointError("it is no JSON object", where=str(file))
    return content


def _json(content: Mapping[str, Any]) -> bytes:
    carried = {key: value for key, value in content.items() if key not in _NOT_CARRIED}
    return (json.dumps(carried, indent=2, ensure_ascii=False) + "\n").encode()


_TOOLS = ("edgedistill-export", "onnx", "onnxruntime", "onnxscript", "optimum-onnx", "torch", "transformers")
_IN_BATCHES = 256
"""Validation rows that are scored in batches too."""


@dataclass(frozen=True, slots=True)
class ExportResult:
    """A bundle that is in its place.

    Attributes:
        bundle: The bundle, read back.
        served: The precision that is served.
        steps: What was measured: PyTorch to ONNX fp32, and ONNX fp32 to int8 where that was wanted, accepted or not.
        bytes: Size of the graph that is served.
        notes: What the user must know, such as why int8 is not served.
        vocabulary: What a cut of the vocabulary left, None where it is full.
        tuning: What was tried where the plan says ``auto``, else None.
        locked: What the plan's ``compare`` said of the locked rows.
    """

    bundle: Bundle
    served: Precision
    steps: tuple[ConversionStep, ...]
    bytes: int
    notes: tuple[str, ...]
    vocabulary: VocabularyCut | None = None
    tuning: Tuning | None = None
    locked: tuple[dict[str, Any], ...] = ()


def export_bundle(
    checkpoint: Path,
    folder: Path,
    plan: ExportPlan,
    rows: Sequence[Mapping[str, str]],
    *,
    convert: Converter = to_onnx,
    quantize: Recipe = DEFAULT,
    recipes: Mapping[str, Recipe] = RECIPES,
) -> ExportResult:
    """Export a checkpoint as a bundle that is known to agree with it.

    An int8 graph that changes the label of more than ``plan.max_flip_rate`` of the rows is left out and fp32 is
    served; where int8 is served, fp32 lies beside it for processors on which int8 fails its self-check, unless the
    plan leaves it out. A bundle that lies in ``folder`` is replaced at the very end, and stays whole when anything
    fails.

    Args:
        checkpoint: A Hugging Face checkpoint folder.
        folder: Where the bundle shall lie.
        plan: What shall be exported.
        rows: The inputs of the validation rows, at least one. Some are written into ``golden.json`` word for word.
        convert: How the fp32 graph is made.
        quantize: How the int8 graph is made, where the plan says ``int8``.
        recipes: What is tried where it says ``auto``.

    Raises:
        CheckpointError: The folder is no usable checkpoint of this task.
        DataError: A row lacks one of the task's inputs, or a label of a multilabel task its threshold.
        ExportFailed: There is no row to check with, or the ONNX graph is not the student.
        BundleError: The bundle cannot be written into ``folder``.
    """
    inputs = [_inputs(row, plan.task, number) for number, row in enumerate(rows, start=1)]
    if not inputs:
        raise ExportFailed(
            "there is no validation row to check the export with", hint="Give the validation split some rows."
        )
    student = Checkpoint.load(checkpoint, plan.task, plan.max_tokens)
    reference = finite_logits(student, inputs)
    with TemporaryDirectory(prefix="edgedistill-export-") as work:
        served, cut, notes = _with_vocabulary(student, reference, plan, inputs, Path(work))
        measured = convert_to_fp32(served, reference, Path(work) / "model.onnx", plan.label_decoder, inputs, convert)
        if plan.precision == "int8":
            measured = add_int8(measured, Path(work) / "model_quantized.onnx", served, plan, inputs, quantize)
        elif plan.precision == "auto":
            measured = add_tuned(measured, Path(work), served, plan, inputs, recipes)
        measured = replace(measured, notes=(*notes, *measured.notes))
        measured = replace(measured, locked=score_locked_rows(student, served, plan, measured))
        bundle = _write(served, folder, plan, inputs, measured, cut)
    precision = bundle.manifest.precision
    size = bundle.manifest.files[MODEL_FILES[precision]].bytes
    return ExportResult(bundle, precision, measured.steps, size, measured.notes, cut, measured.tuning, measured.locked)


def _with_vocabulary(
    student: Checkpoint, reference: Logits, plan: ExportPlan, rows: Rows, work: Path
) -> tuple[Checkpoint, VocabularyCut | None, tuple[str, ...]]:
    """Cut the vocabulary where the plan says so and unseen rows keep their labels; what the user must know of it."""
    if plan.vocabulary == "full":
        return student, None, ()
    seen = [_inputs(row, plan.task, number) for number, row in enumerate(plan.seen, start=1)]
    # Rows that the cut was made for cannot change. Cut for the other texts alone, they stand for those to come.
    without, _ = cut_vocabulary(student, seen, work / "without", common=plan.common)
    unseen = measure_step(
        ("PyTorch", "vocabulary cut for other rows"), reference, without.logits(rows), plan.label_decoder
    )
    told = f"changes the label of {unseen.flips} of {unseen.rows} validation rows when it is made without them"
    if unseen.flip_rate > plan.max_flip_rate:
        allowed = f"export.max_flip_rate allows {plan.max_flip_rate:.2%}"
        return student, None, (f"Cutting the vocabulary {told} ({allowed}), so it is left full.",)
    cut, kept = cut_vocabulary(student, [*rows, *seen], work / "student", common=plan.common)
    return cut, kept, (f"The cut of the vocabulary {told}.",)


def _inputs(row: Mapping[str, str], task: Task, number: int) -> dict[str, str]:
    try:
        return task_inputs(row, task)
    except DataError as error:
        raise DataError(error.what, where=f"validation row {number}", hint=error.hint) from None


def _version(tool: str) -> str | None:
    try:
        return version(tool)
    except PackageNotFoundError:  # optimum-onnx need not be there
        return None


def _batch_invariant(student: Checkpoint, plan: ExportPlan, rows: Rows, graph: Path) -> bool:
    """Whether no row's score is moved by the others in its batch, as far as the validation rows can tell."""
    encoded = student.encoder.encode(rows[:_IN_BATCHES])
    return find_invariant_batching(Session(graph, overflow_free=True), encoded, plan.max_tokens) is not None


def _write(
    student: Checkpoint,
    folder: Path,
    plan: ExportPlan,
    rows: Rows,
    measured: ExportStages,
    cut: VocabularyCut | None,
) -> Bundle:
    checked = build_golden(
        rows, {precision: logits for precision, (_, logits) in measured.graphs.items()}, plan.label_decoder
    )
    exporting = {
        "steps": [asdict(step) for step in measured.steps],
        "notes": list(measured.notes),
        "steps_on_test_rows": list(measured.locked),
        "versions": {tool: found for tool in _TOOLS if (found := _version(tool))},
    } | ({"vocabulary": asdict(cut)} if cut else {})
    for file, _ in measured.graphs.values():
        check_overflow(file)
    draft = Manifest(
        name=plan.name,
        version="",
        task=plan.task,
        max_tokens=plan.max_tokens,
        precision=measured.served,
        recipe=measured.recipe,
        batch_invariant=_batch_invariant(student, plan, rows, measured.graphs[measured.served][0]),
        int8_overflow_free=True,
        files={},
        temperature=plan.temperature,
        thresholds=dict(plan.thresholds),
        review=plan.review,
        metrics=dict(plan.metrics),
        provenance={**plan.provenance, "export": exporting},
    )
    graphs = {
        precision: file
        for precision, (file, _) in measured.graphs.items()
        if precision == measured.served or plan.fp32_beside
    }
    sizes = {precision: file.stat().st_size for precision, file in graphs.items()}
    readme = format_card(draft, checked, measured.steps, sizes, measured.notes, cut, measured.tuning)
    files = model_folder_files(student) | {MODEL_FILES[precision]: file for precision, file in graphs.items()}
    return write_bundle(
        folder,
        draft,
        files | {"golden.json": msgspec.json.format(msgspec.json.encode(checked)), "README.md": readme.encode()},
    )
