"""Export a checkpoint as a verified bundle: convert, quantize, measure, and write the graphs that agree."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from edgedistill_export.card import format_card
from edgedistill_export.checkpoint import Checkpoint, read_json_object
from edgedistill_export.convert.exporter import to_onnx
from edgedistill_export.counting import begin_phase
from edgedistill_export.errors import ExportFailed
from edgedistill_export.export_stages import (
    Converter,
    ExportStages,
    Rows,
    add_int8,
    add_novelty,
    add_tuned,
    convert_to_fp32,
    finite_logits,
    score_locked_rows,
)
from edgedistill_export.plan import ExportPlan, GraphScores, Judgement, LockedScores, ReviewChoice, ServedResults
from edgedistill_export.quantize.overflow import check_overflow, multiplies_integers
from edgedistill_export.quantize.recipes import DEFAULT, RECIPES, Recipe
from edgedistill_export.quantize.tuning import Tuning
from edgedistill_export.quantize.vocabulary import VocabularyCut, cut_vocabulary
from edgedistill_export.reference import build_reference
from edgedistill_export.temporary import temporary_folder
from edgedistill_export.verify.golden import (
    build_golden,
    choose_golden_rows,
    choose_written_rows,
    missing_labels,
    written_rows,
)
from edgedistill_export.verify.parity import ConversionStep, Logits, graph_logits, graph_novelty, measure_step
from edgedistill_serve.bundle.loading import Bundle, write_bundle
from edgedistill_serve.bundle.manifest import MODEL_FILES, Golden, Manifest, Precision, ReviewRule
from edgedistill_serve.bundle.reference import REFERENCE_FILE, Reference
from edgedistill_serve.errors import DataError
from edgedistill_serve.scoring.batching import find_invariant_batching
from edgedistill_serve.scoring.score import build_score
from edgedistill_serve.scoring.session import Session
from edgedistill_serve.task.contexts import shown_contexts
from edgedistill_serve.task.task import Task, Truncation, task_inputs, truncation_of

_DROPPED_KEYS = ("_name_or_path", "name_or_path", "tokenizer_file", "special_tokens_map_file", "auto_map")
"""Keys that contain a path of the training machine, or name code to download."""

_SIZES = ("hidden_size", "num_hidden_layers")
_SPECIAL_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


def model_folder_files(student: Checkpoint) -> dict[str, Path | bytes]:
    """Return config and tokenizer files by their name in the bundle.

    ``config.json`` has the labels, the problem type, and width and depth under the names that
    text-embeddings-inference requires, even if the model type uses other names.
    ``tokenizer.json`` is the checkpoint's without padding: programs pad their batches themselves, and one that ignores
    the attention mask would score the padding. If it truncates, it truncates to the student's longest sequence, as does
    ``model_max_length`` in ``tokenizer_config.json``, so that other programs truncate like the scorer.
    ``special_tokens_map.json``, which transformers 5 does not write, is built from it if missing. Keys of
    ``tokenizer_config.json`` that transformers 5 renamed get the names that all versions read
    (`_compatible_settings`).

    Raises:
        CheckpointError: One of the checkpoint's files is not a JSON object.
    """
    settings = _compatible_settings(read_json_object(student.folder / "tokenizer_config.json"))
    settings["model_max_length"] = student.encoder.max_tokens
    special_tokens_file = student.folder / "special_tokens_map.json"
    special_tokens = (
        read_json_object(special_tokens_file)
        if special_tokens_file.exists()
        else {name: settings[name] for name in _SPECIAL_TOKENS if settings.get(name)}
    )
    tokenizer = read_json_object(student.folder / "tokenizer.json") | {"padding": None}
    if tokenizer.get("truncation"):
        tokenizer["truncation"] = tokenizer["truncation"] | {"max_length": student.encoder.max_tokens}
    return {
        "config.json": _json({name: getattr(student.model.config, name) for name in _SIZES} | dict(student.config)),
        "tokenizer.json": _json(tokenizer),
        "tokenizer_config.json": _json(settings),
        "special_tokens_map.json": _json(special_tokens),
    }


def _truncation(student: Checkpoint, plan: ExportPlan) -> Truncation:
    """Return how the bundle reads what comes before the response."""
    apart = student.encoder.truncation == "references_apart"
    return "references_apart" if apart else truncation_of(plan.task)


def _compatible_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """Rename a tokenizer's settings as in transformers 4; transformers 5 and transformers.js read these names too."""
    named = dict(settings)
    if named.get("tokenizer_class") == "TokenizersBackend":
        named["tokenizer_class"] = "PreTrainedTokenizerFast"
        named.pop("backend", None)
    if isinstance(named.get("extra_special_tokens"), list):  # transformers 4 fails on a list
        named["additional_special_tokens"] = named.pop("extra_special_tokens")
    return named


def _json(content: Mapping[str, Any]) -> bytes:
    carried = {key: value for key, value in content.items() if key not in _DROPPED_KEYS}
    return (json.dumps(carried, indent=2, ensure_ascii=False) + "\n").encode()


_TOOLS = ("edgedistill-export", "onnx", "onnxruntime", "onnxscript", "optimum-onnx", "torch", "transformers")
_BATCHED_ROWS = 256
"""Number of validation rows that are also scored in batches."""


@dataclass(frozen=True, slots=True)
class ExportResult:
    """The result of an export.

    Attributes:
        bundle: The written bundle, loaded again.
        served: The precision that is served.
        steps: The measured steps: PyTorch to ONNX fp32, and ONNX fp32 to int8 if requested, accepted or not.
        bytes: Size of the graph that is served.
        notes: Notes for the user, such as why int8 is not served.
        vocabulary: The vocabulary reduction, None for the full vocabulary.
        tuning: The compared recipes if the plan's precision is ``auto``, else None.
        locked: The results of the plan's ``compare`` on the locked rows.
        agreement: The result of the plan's ``measure`` for the served graph; None without it.
        locked_scores: The logits of the locked rows; None if they were not scored.
        review: The result of the plan's ``choose_review``; None without it.
        judgement: The result of the plan's ``judge``; None without it.
    """

    bundle: Bundle
    served: Precision
    steps: tuple[ConversionStep, ...]
    bytes: int
    notes: tuple[str, ...]
    vocabulary: VocabularyCut | None = None
    tuning: Tuning | None = None
    locked: tuple[dict[str, Any], ...] = ()
    agreement: Mapping[str, Any] | None = None
    locked_scores: LockedScores | None = field(default=None, repr=False)
    review: ReviewChoice | None = None
    judgement: Judgement | None = None


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
    """Export a checkpoint as a bundle and verify that it agrees with the checkpoint.

    If an int8 graph changes the label of more than ``plan.max_flip_rate`` of the rows, fp32 is served. If int8 is
    served, the bundle also contains fp32 for processors on which int8 fails its self-check, unless
    ``plan.fp32_beside`` is false or the int8 graph, as that of a nano student, multiplies no integers. An existing
    bundle in ``folder`` is replaced at the end, and remains complete if the export fails.

    Args:
        checkpoint: A Hugging Face checkpoint folder.
        folder: The output folder.
        plan: The settings of the export.
        rows: The inputs of the validation rows, at least one. If ``plan.golden`` is
            ``validation``, up to 32 are written to ``golden.json`` verbatim; by default none is.
        convert: Writes the fp32 graph.
        quantize: Writes the int8 graph if ``plan.precision`` is ``int8``.
        recipes: The recipes to compare if it is ``auto``.

    Raises:
        CheckpointError: The folder is not a valid checkpoint for this task.
        DataError: A row lacks an input of the task, or a multilabel task lacks a threshold for a label.
        ExportFailed: ``rows`` is empty, or the ONNX graph does not agree with the checkpoint.
        BundleError: The bundle cannot be written to ``folder``.
    """
    inputs = [_inputs(row, plan.task, number) for number, row in enumerate(rows, start=1)]
    if not inputs:
        raise ExportFailed(
            "the export cannot be verified without validation rows", hint="Add rows to the validation split."
        )
    student = Checkpoint.load(checkpoint, plan.task, plan.max_tokens)
    reference = finite_logits(student, inputs)
    with temporary_folder("export") as work:
        served, cut, notes = _with_vocabulary(student, reference, plan, inputs, work)
        expected = reference if served is student else finite_logits(served, inputs)
        measured = convert_to_fp32(served, expected, work / "model.onnx", plan.label_decoder, inputs, convert)
        if plan.precision == "int8":
            measured = add_int8(measured, work / "model_quantized.onnx", served, plan, inputs, quantize)
        elif plan.precision == "auto":
            measured = add_tuned(measured, work, served, plan, inputs, recipes)
        measured = replace(measured, notes=(*notes, *measured.notes))
        if measured.served == "int8" and not multiplies_integers(measured.graphs["int8"][0]):
            plan = replace(plan, fp32_beside=False)
        measured = add_novelty(measured, work, served, plan, inputs)
        measured = score_locked_rows(student, served, plan, measured)
        begin_phase("the bundle is written and checked")
        review = _review(served, plan, inputs, measured)
        rule = review.rule if review else msgspec.structs.replace(plan.review, max_novelty=measured.max_novelty)
        judgement = plan.judge(_results(measured, rule, review)) if plan.judge else None
        bundle = _write(served, folder, plan, inputs, measured, cut, rule, review, judgement)
    precision = bundle.manifest.precision
    size = bundle.manifest.files[MODEL_FILES[precision]].bytes
    return ExportResult(
        bundle,
        precision,
        measured.steps,
        size,
        measured.notes,
        cut,
        measured.tuning,
        measured.locked,
        measured.agreement,
        measured.locked_scores,
        review,
        judgement,
    )


def _results(measured: ExportStages, rule: ReviewRule, choice: ReviewChoice | None) -> ServedResults:
    return ServedResults(
        measured.served,
        measured.steps,
        measured.locked,
        measured.agreement,
        measured.locked_scores,
        rule,
        choice,
    )


def _review(student: Checkpoint, plan: ExportPlan, rows: Rows, measured: ExportStages) -> ReviewChoice | None:
    """Choose the decision rule on the scores of the graphs that will be in the bundle, the served one first."""
    if plan.choose_review is None:
        return None
    served = measured.served
    precisions = [served, *(each for each in measured.graphs if each != served and plan.fp32_beside)]
    limited = measured.max_novelty is not None
    scores = {
        precision: GraphScores(logits, graph_novelty(file, student.encoder, rows) if limited else None)
        for precision in precisions
        for file, logits in [measured.graphs[precision]]
    }
    return plan.choose_review(scores, tuple(student.encoder.encode(rows)), measured.max_novelty)


def _with_vocabulary(
    student: Checkpoint, reference: Logits, plan: ExportPlan, rows: Rows, work: Path
) -> tuple[Checkpoint, VocabularyCut | None, tuple[str, ...]]:
    """Reduce the vocabulary if the plan requests it and unseen rows keep their labels; also return notes."""
    if plan.vocabulary == "full":
        return student, None, ()
    seen = [_inputs(row, plan.task, number) for number, row in enumerate(plan.seen, start=1)]
    seen_authors = plan.seen_authors or [None] * len(seen)

    def measure(name: str, cut: Checkpoint) -> ConversionStep:
        return measure_step(("PyTorch", name), reference, cut.logits(rows), plan.label_decoder)

    # A cut without the validation rows shows its effect on new texts.
    without, _ = cut_vocabulary(student, seen, work / "without", common=plan.common, authors=seen_authors)
    unseen = measure("vocabulary cut for other rows", without)
    flips = f"changes the label of {unseen.flips} of {unseen.rows} validation rows if their texts are not used for it"
    if not unseen.flip_rate <= plan.max_flip_rate:
        allowed = f"export.max_flip_rate allows {plan.max_flip_rate:.2%}"
        return student, None, (f"The vocabulary is not reduced: a reduction {flips} ({allowed}).",)
    authors = [*(plan.authors or [None] * len(rows)), *seen_authors]
    cut, kept = cut_vocabulary(student, [*rows, *seen], work / "student", common=plan.common, authors=authors)
    step = measure("vocabulary cut", cut)
    if not step.flip_rate <= plan.max_flip_rate:
        return student, None, (f"The vocabulary is not reduced: a reduction flips {step.flips} of {step.rows} labels.",)
    return cut, kept, (f"The vocabulary reduction {flips}, and of {step.flips} if they are.",)


def _inputs(row: Mapping[str, str], task: Task, number: int) -> dict[str, str]:
    try:
        return task_inputs(row, task)
    except DataError as error:
        raise DataError(error.what, where=f"validation row {number}", hint=error.hint) from None


def _version(tool: str) -> str | None:
    try:
        return version(tool)
    except PackageNotFoundError:  # optimum-onnx is optional
        return None


def _batch_invariant(student: Checkpoint, plan: ExportPlan, rows: Rows, graph: Path) -> bool:
    """Whether the scores of the validation rows are the same alone and in batches."""
    encoded = student.encoder.encode(rows[:_BATCHED_ROWS])
    return find_invariant_batching(Session(graph, overflow_free=True), encoded, plan.max_tokens) is not None


def _golden(
    student: Checkpoint, plan: ExportPlan, rows: Rows, measured: ExportStages
) -> tuple[Golden, tuple[str, ...]]:
    """Return the golden rows, and a note if they do not have every label."""
    decoder = plan.label_decoder
    if plan.golden == "validation":
        logits = {precision: logits for precision, (_, logits) in measured.graphs.items()}
        chosen = choose_golden_rows(logits["fp32"], decoder)
        return build_golden(rows, logits, chosen, _novelty(student, rows, measured)), ()

    authors = [*(plan.authors or [None] * len(rows)), *(plan.seen_authors or [None] * len(plan.seen))]
    tokenizer = (student.folder / "tokenizer.json").read_bytes()
    candidates, required = written_rows(plan.task, student.encoder, tokenizer, [*rows, *plan.seen], authors)
    fp32 = graph_logits(measured.graphs["fp32"][0], student.encoder, candidates)
    tokens = [row.ids for row in student.encoder.encode(candidates)]
    chosen = choose_written_rows(fp32, tokens, decoder, required)
    golden_rows = [candidates[row] for row in chosen]
    logits = {
        precision: fp32[chosen] if precision == "fp32" else graph_logits(file, student.encoder, golden_rows)
        for precision, (file, _) in measured.graphs.items()
    }
    missing = missing_labels(fp32[chosen], decoder)
    note = f"No row of the self-check gets {', '.join(missing)}: no text that was written for it does."
    golden = build_golden(golden_rows, logits, range(len(chosen)), _novelty(student, golden_rows, measured))
    return golden, (note,) if missing else ()


def _novelty(student: Checkpoint, rows: Rows, measured: ExportStages) -> dict[Precision, npt.NDArray[np.float64]]:
    """Return the novelty of rows by each graph; empty if the graphs compute none."""
    found = {precision: graph_novelty(file, student.encoder, rows) for precision, (file, _) in measured.graphs.items()}
    return {precision: novelty for precision, novelty in found.items() if novelty is not None}


def _reference(
    student: Checkpoint, plan: ExportPlan, rows: Rows, measured: ExportStages, draft: Manifest
) -> Reference | None:
    """Return how the served graph scores the validation rows, in counts."""
    file, logits = measured.graphs[measured.served]
    decoder = draft.label_decoder
    novelty = graph_novelty(file, student.encoder, rows) if measured.novelty else None
    scores = [
        build_score(
            decoder.probabilities(logits[place]),
            encoded,
            plan.task,
            draft.review,
            thresholds=decoder.thresholds,
            novelty=None if novelty is None else float(novelty[place]),
        )
        for place, encoded in enumerate(student.encoder.encode(rows))
    ]
    return build_reference(scores, rows, plan.authors, plan.task, measured.served)


def _write(
    student: Checkpoint,
    folder: Path,
    plan: ExportPlan,
    rows: Rows,
    measured: ExportStages,
    cut: VocabularyCut | None,
    rule: ReviewRule,
    review: ReviewChoice | None,
    judgement: Judgement | None,
) -> Bundle:
    checked, golden_notes = _golden(student, plan, rows, measured)
    measured = replace(measured, notes=(*measured.notes, *golden_notes))
    exporting = {
        "steps": [asdict(step) for step in measured.steps],
        "notes": list(measured.notes),
        "golden_rows": plan.golden,
        "steps_on_test_rows": list(measured.locked),
        "versions": {tool: found for tool in _TOOLS if (found := _version(tool))},
    } | ({"vocabulary": asdict(cut)} if cut else {})
    metrics = dict(plan.metrics)
    if measured.agreement is not None:
        metrics["student"], exporting["measured_graph"] = dict(measured.agreement), measured.served
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
        review=rule,
        guarantee=review.guarantee if review else None,
        verdict=judgement.verdict if judgement else None,
        novelty=measured.novelty,
        truncation=_truncation(student, plan),
        contexts=shown_contexts(rows, plan.task, held_out=plan.held_out),
        metrics=metrics,
        provenance={**plan.provenance, "export": exporting},
    )
    graphs = {
        precision: file
        for precision, (file, _) in measured.graphs.items()
        if precision == measured.served or plan.fp32_beside
    }
    sizes = {precision: file.stat().st_size for precision, file in graphs.items()}
    readme = format_card(draft, checked, measured.steps, sizes, measured.notes, cut, measured.tuning)
    reference = _reference(student, plan, rows, measured, draft)
    files = model_folder_files(student) | {MODEL_FILES[precision]: file for precision, file in graphs.items()}
    if reference is not None:
        files |= {REFERENCE_FILE: msgspec.json.format(msgspec.json.encode(reference))}
    return write_bundle(
        folder,
        draft,
        files | {"golden.json": msgspec.json.format(msgspec.json.encode(checked)), "README.md": readme.encode()},
    )
