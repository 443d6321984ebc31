"""The model card: the bundle's purpose, its agreement with human coders, and its limits."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from edgedistill_export.quantize.recipes import DESCRIPTIONS
from edgedistill_export.quantize.tuning import Tuning
from edgedistill_export.quantize.vocabulary import VocabularyCut
from edgedistill_export.verify.parity import ConversionStep
from edgedistill_serve.bundle.guarantee import describe_guarantee
from edgedistill_serve.bundle.manifest import (
    MODEL_FILES,
    Golden,
    Manifest,
    Precision,
    describe_letters,
    describe_novelty,
)
from edgedistill_serve.bundle.verdict import describe_verdict
from edgedistill_serve.task.contexts import describe_contexts
from edgedistill_serve.task.label_decoding import sigmoid
from edgedistill_serve.task.task import Kind

_PRECISION_NAMES: dict[Precision, str] = {"int8": "8-bit integers (int8)", "fp32": "32-bit floats (fp32)"}


def format_card(
    draft: Manifest,
    golden: Golden,
    steps: Sequence[ConversionStep],
    sizes: Mapping[Precision, int],
    notes: Sequence[str],
    cut: VocabularyCut | None = None,
    tuning: Tuning | None = None,
) -> str:
    """Write the model card as Markdown with the YAML front matter that the Hugging Face Hub reads.

    Args:
        draft: The bundle's manifest; its ``metrics`` map a coder such as ``student`` or ``teacher`` to its agreement
            with the human codes of the test rows, as in ``evaluation.json``. The card's licence is
            ``provenance["license"]``, or ``other`` if that is missing.
        golden: The golden rows; the card reports only their number.
        steps: The measured conversion steps, including that of a rejected int8 graph.
        sizes: Bytes of each graph in the bundle.
        notes: Notes on this export, such as why the int8 graph was rejected.
        cut: The vocabulary reduction, None for the full vocabulary.
        tuning: The compared recipes, None without tuning.

    Returns:
        The card's text.
    """
    parts = (
        _front_matter(draft),
        _purpose(draft),
        _verdict(draft),
        _labels(draft),
        _agreement(draft),
        _export(draft, steps, sizes, notes),
        *([_tuning(tuning, draft.task.kind)] if tuning else []),
        *([_vocabulary(cut)] if cut else []),
        _limits(draft, golden),
        _use(draft),
        _provenance(draft.provenance),
    )
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def _front_matter(draft: Manifest) -> Iterator[str]:
    yield "---"
    yield f"license: {json.dumps(str(draft.provenance.get('license', 'other')))}"
    yield "library_name: transformers.js"
    yield "pipeline_tag: text-classification"
    yield "tags:"
    yield from (f"- {tag}" for tag in ("onnx", draft.precision, "educational-assessment", "edgedistill"))
    yield "---"


def _purpose(draft: Manifest) -> Iterator[str]:
    kind, count = draft.task.kind, len(draft.task.labels)
    which = {
        "nominal": f"one of {count} codes",
        "ordinal": f"one of {count} codes, from low to high",
        "multilabel": f"any number of {count} codes, or none",
    }
    yield f"# {_cell(draft.name)}"
    yield ""
    yield f"Scores open responses with {which[kind]}, offline on a CPU or in a browser."
    yield f"Inputs: {', '.join(name.replace('_', ' ') for name in draft.task.inputs)}; at most {draft.max_tokens}"
    yield "tokens in total. Longer inputs are truncated, the context before the response."


def _verdict(draft: Manifest) -> Iterator[str]:
    yield "## Verdict"
    yield ""
    yield _cell(describe_verdict(draft.verdict))


def _labels(draft: Manifest) -> Iterator[str]:
    yield "## Codes"
    yield ""
    if draft.task.kind != "multilabel":
        yield from _table(("code", "definition"), [(label.name, label.definition) for label in draft.task.labels])
        return
    thresholds, decoder = draft.thresholds, draft.label_decoder
    uncalibrated = sigmoid(decoder.logit_thresholds, 1.0).tolist()
    yield "A code is assigned if its probability reaches its threshold."
    yield ""
    yield from _table(
        ("code", "definition", "threshold", "threshold without calibration"),
        [
            (label.name, label.definition, f"{thresholds[label.name]:.3f}", f"{threshold:.3f}")
            for label, threshold in zip(draft.task.labels, uncalibrated, strict=True)
        ],
    )


def _agreement(draft: Manifest) -> Iterator[str]:
    metrics, kind = draft.metrics, draft.task.kind
    yield "## Agreement with human coders"
    yield ""
    coders = {name: coder for name, coder in metrics.items() if isinstance(coder, Mapping) and "rows" in coder}
    if not coders:
        yield "Not measured. Do not score learners' responses with this model until its agreement has been measured."
        return
    kappa_name = next((str(coder["kappa_name"]) for coder in coders.values() if "kappa_name" in coder), "kappa")
    accuracy = "accuracy (all codes of a response correct)" if kind == "multilabel" else "accuracy"
    figures = {"rows": "rows", "accuracy": accuracy, "macro_f1": "macro-F1", "kappa": kappa_name}
    yield "Measured on test rows that were used neither for training nor for model selection; 95 % intervals in"
    yield "brackets."
    if measured := (draft.provenance.get("export") or {}).get("measured_graph"):
        yield f"The student's figures are those of the {measured} graph that is served."
    if repeats := draft.provenance.get("test_texts_also_in_train_or_validation"):
        yield f"{repeats} of the test rows are the same to the student as a row that trained or selected it, so that"
        yield "these figures are too good."
    yield ""
    yield from _table(
        ("against human codes", *coders),
        [(title, *(_figure(coder.get(key)) for coder in coders.values())) for key, title in figures.items()],
    )
    for name, coder in coders.items():
        if coder.get("per_label"):
            yield ""
            yield f"Per code, {_cell(name)}:"
            yield ""
            keys = (*(("kappa",) if kind == "multilabel" else ()), "precision", "recall", "f1", "support")
            yield from _table(
                ("code", *keys),
                [(code, *(_figure(of_code.get(key)) for key in keys)) for code, of_code in coder["per_label"].items()],
            )


def _export(
    draft: Manifest, steps: Sequence[ConversionStep], sizes: Mapping[Precision, int], notes: Sequence[str]
) -> Iterator[str]:
    yield "## Conversion and quantization"
    yield ""
    yield f"The served model uses {_PRECISION_NAMES[draft.precision]}. Each validation row was scored alone, before and"
    yield "after each step. A flip is a row whose code or codes change."
    yield ""
    yield from _table(
        ("from", "to", "rows", "flips", "flip rate", "largest probability difference"),
        [
            (
                step.before,
                step.after,
                str(step.rows),
                str(step.flips),
                f"{step.flip_rate:.2%}",
                f"{step.max_probability_difference:.2g}",
            )
            for step in steps
        ],
    )
    yield ""
    yield from _table(
        ("file", "size in MB"),
        [(MODEL_FILES[precision], f"{bytes_ / 1e6:.1f}") for precision, bytes_ in sizes.items()],
    )
    for note in notes:
        yield ""
        yield note


def _tuning(tuning: Tuning, kind: Kind) -> Iterator[str]:
    yield "## Quantization recipes"
    yield ""
    yield f"Each recipe was measured on the {tuning.rows} validation rows, one row at a time except in the columns for"
    yield "batches. Changes are relative to fp32. The expected flip rate is an estimate for new responses; responses"
    yield "per second are given for one core and for two. ECE is the expected calibration error."
    if kind == "multilabel":
        yield "The kappa loss is the mean over codes; the ECE covers the probabilities of all codes."
    for one in tuning.tried:
        if one.recipe in DESCRIPTIONS:
            yield ""
            yield f"- `{one.recipe}`: {DESCRIPTIONS[one.recipe]}"
    yield ""
    flips = ("recipe", "flip rate", "expected", "worst group", "max. probability change", "flips in batches")
    agreement = ("kappa loss", "worst recall change", "ECE")
    rows = [
        (
            one.recipe,
            *map(_share, (one.flip_rate, one.expected_flip_rate, one.worst_group_flip_rate)),
            _figure(one.max_probability_difference),
            _figure(one.batch_flips),
            *map(_figure, (one.kappa_lost, one.worst_recall_change, one.calibration_error)),
            "/".join(f"{speed:.0f}" for speed in (one.texts_per_second or {}).values()),
            "/".join(f"{speed:.0f}" for speed in (one.batched_per_second or {}).values()),
            "" if one.bytes is None else f"{one.bytes / 1e6:.1f}",
        )
        for one in tuning.tried
        if one.fault is None
    ]
    yield from _table((*flips, *agreement, "responses/s", "responses/s in batches", "MB"), rows)
    for one in tuning.tried:
        if one.fault is not None:
            yield ""
            yield _cell(f"{one.recipe} failed: {one.fault}")


def _vocabulary(cut: VocabularyCut) -> Iterator[str]:
    yield "## Vocabulary"
    yield ""
    after = 4 * cut.pieces * cut.width / 1e6
    yield f"Reduced from {cut.pieces_before:,} to {cut.pieces:,} tokens. In fp32 the embedding table takes"
    yield f"{after:.1f} MB instead of {after + cut.bytes_saved / 1e6:.1f} MB."
    yield f"It was made for the {cut.texts:,} texts known at export (training, validation and uncoded responses, no"
    yield "test rows). Tokens that only one learner used are not kept. A word without a token of its own is split"
    yield "into more and shorter tokens; it never becomes unknown if it was known before."


def _limits(draft: Manifest, golden: Golden) -> Iterator[str]:
    yield "## Limits"
    yield ""
    count = len(golden.rows)
    yield "- The model was trained and evaluated for one task, its items and one population. Before you use it for"
    yield "  others, evaluate it on a sample of human-coded responses."
    contexts = describe_contexts(draft.contexts, draft.task, reviewed=draft.review.new_question)
    yield f"- {contexts}"
    yield f"- {_cell(describe_guarantee(draft.guarantee))}"
    yield f"- A response of which more than {draft.review.max_unknown_share:.0%} is unknown to the"
    yield "  vocabulary is sent to a person as unreadable."
    yield f"- {describe_novelty(draft.novelty, draft.review.max_novelty)}"
    if letters := describe_letters(draft.review):
        yield f"- {letters}"
    yield "- It supports human judgement. Do not make a decision about a learner on its scores alone."
    if draft.temperature == 1.0:
        yield "- Its probabilities are not calibrated: 0.9 does not mean that nine in ten such scores are correct."
    if draft.precision == "int8" and not draft.batch_invariant:
        yield "- Score responses one at a time: in a batch, one response can change another's score."
    if (draft.provenance.get("export") or {}).get("golden_rows") == "validation":
        yield f"- `golden.json` contains the texts of {count} validation row{'s' * (count != 1)} verbatim, for the"
        yield "  self-check when the bundle is loaded (`export: {golden: validation}`). Share the bundle only with"
        yield "  people who may read these responses."
    else:
        yield "- No learner's text is in the bundle. The texts of `golden.json`, for the self-check when the bundle is"
        yield "  loaded, were written for the purpose."


def _use(draft: Manifest) -> Iterator[str]:
    dtype = {"int8": "q8", "fp32": "fp32"}[draft.precision]
    yield "## Use"
    yield ""
    yield "    edgedistill-serve score BUNDLE TEXT"
    yield "    edgedistill-serve grade BUNDLE responses.csv scored.csv"
    yield ""
    yield f'The model also loads in transformers.js with `dtype: "{dtype}"` and in Python with optimum\'s'
    if draft.task.kind == "multilabel":
        yield "`ORTModelForSequenceClassification`. With one response at a time they return the sigmoid of each code's"
        yield "logit (in transformers.js with `top_k: null`); compare it with the threshold without calibration."
    else:
        yield "`ORTModelForSequenceClassification`. With one response at a time they return the same labels."
    yield "Neither calibrates probabilities nor applies the review rule, and both read a `[SEP]` typed by a learner as"
    yield "a special token."
    if len(draft.task.inputs) > 1:
        yield ""
        yield "In transformers.js, encode a context and a response with `tokenizer(context, {text_pair: response,"
        yield "return_token_type_ids: true})`. Truncate pairs that are too long beforehand, the context first."


def _provenance(provenance: Mapping[str, Any]) -> Iterator[str]:
    yield "## Provenance"
    yield ""
    text = json.dumps(dict(provenance), indent=2, ensure_ascii=False, sort_keys=True)
    yield from (f"    {line}" for line in text.splitlines())


def _share(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.2%}"


def _figure(value: Any) -> str:
    """Format a number, or an estimate with its interval; None is ``undefined``."""
    if isinstance(value, Mapping):
        return f"{value['value']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"
    if isinstance(value, float):
        return f"{value:.3f}"
    return "undefined" if value is None else str(value)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield _line(head)
    yield _line(["---"] * len(head))
    yield from map(_line, rows)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(map(_cell, cells)) + " |"


def _cell(text: str) -> str:
    """Escape text for a table cell: one line, with the special characters of Markdown and HTML escaped."""
    text = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;")
    return "".join(f"\\{character}" if character in "|`*_[]\\#" else character for character in text)
