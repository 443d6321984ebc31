"""The model card: what a bundle is for, how far it agrees with human coders, and where it must not be trusted."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from edgedistill_export.quantize.tuning import Tuning
from edgedistill_export.quantize.vocabulary import VocabularyCut
from edgedistill_export.verify.parity import ConversionStep
from edgedistill_serve.bundle.manifest import MODEL_FILES, Golden, Manifest, Precision
from edgedistill_serve.task.label_decoding import sigmoid
from edgedistill_serve.task.task import Kind

_PRECISION_NAMES: dict[Precision, str] = {"int8": "8-bit integers (int8)", "fp32": "32-bit floats (fp32)"}


def card(
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
        draft: What the bundle will say of itself; its ``metrics`` map a coder such as ``student`` or ``teacher`` to
            an agreement with the human codes of the test rows, as in ``evaluation.json``. The card's licence is
            ``provenance["license"]``, ``other`` where there is none.
        golden: The golden rows; only their number is told.
        steps: The measured steps, that of a refused graph among them.
        sizes: Bytes of each graph in the bundle.
        notes: What a reader must know of this export, such as a refused int8 graph.
        cut: What a cut of the vocabulary left, None where it is full.
        tuning: What was tried to find the served graph, None where nothing was.
    """
    parts = (
        _front_matter(draft),
        _purpose(draft),
        _labels(draft),
        _agreement(draft.metrics, draft.task.kind),
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
        "multilabel": f"those of {count} codes that hold, any number or none",
    }
    yield f"# {_cell(draft.name)}"
    yield ""
    yield f"Scores open responses with {which[kind]}, offline on a CPU or in a browser."
    yield f"It reads: {', '.join(name.replace('_', ' ') for name in draft.task.inputs)}; at most"
    yield f"{draft.max_tokens} tokens together. A context that is too long is cut before the response is."


def _labels(draft: Manifest) -> Iterator[str]:
    yield "## Codes"
    yield ""
    if draft.task.kind != "multilabel":
        yield from _table(("code", "definition"), [(label.name, label.definition) for label in draft.task.labels])
        return
    thresholds, decoder = draft.thresholds, draft.label_decoder
    least = sigmoid(decoder.logit_thresholds, 1.0).tolist()
    yield from _table(
        ("code", "definition", "holds from", "not calibrated, from"),
        [
            (label.name, label.definition, f"{thresholds[label.name]:.3f}", f"{uncalibrated:.3f}")
            for label, uncalibrated in zip(draft.task.labels, least, strict=True)
        ],
    )


def _agreement(metrics: Mapping[str, Any], kind: Kind) -> Iterator[str]:
    yield "## Agreement with human coders"
    yield ""
    coders = {name: coder for name, coder in metrics.items() if isinstance(coder, Mapping) and "rows" in coder}
    if not coders:
        yield "Not measured. Do not score learners' responses with this model before it is."
        return
    kappa_name = next((str(coder["kappa_name"]) for coder in coders.values() if "kappa_name" in coder), "kappa")
    accuracy = "accuracy (all codes of a row agree)" if kind == "multilabel" else "accuracy"
    figures = {"rows": "rows", "accuracy": accuracy, "macro_f1": "macro-F1", "kappa": kappa_name}
    yield "On test rows that were used neither for training nor for choosing the model; in brackets 95 % intervals."
    yield ""
    yield from _table(
        ("against human codes", *coders),
        [(title, *(_figure(coder.get(key)) for coder in coders.values())) for key, title in figures.items()],
    )
    for name, coder in coders.items():
        if coder.get("per_label"):
            yield ""
            yield f"Single codes, {_cell(name)}:"
            yield ""
            keys = (*(("kappa",) if kind == "multilabel" else ()), "precision", "recall", "f1", "support")
            yield from _table(
                ("code", *keys),
                [(code, *(_figure(of_code.get(key)) for key in keys)) for code, of_code in coder["per_label"].items()],
            )


def _export(
    draft: Manifest, steps: Sequence[ConversionStep], sizes: Mapping[Precision, int], notes: Sequence[str]
) -> Iterator[str]:
    yield "## From PyTorch to this file"
    yield ""
    yield f"The served graph holds {_PRECISION_NAMES[draft.precision]}. Each row of the validation set was scored"
    yield "alone by every graph; a flip is a row of which a code changes."
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
        ("file", "megabytes"),
        [(MODEL_FILES[precision], f"{bytes_ / 1e6:.1f}") for precision, bytes_ in sizes.items()],
    )
    for note in notes:
        yield ""
        yield note


def _tuning(tuning: Tuning, kind: Kind) -> Iterator[str]:
    yield "## What was tried"
    yield ""
    yield f"Every graph scored the {tuning.rows} validation rows, each alone unless said otherwise. Changes are against"
    yield "fp32; expected flips are those of rows to come, responses per second those of one core and of two."
    if kind == "multilabel":
        yield "Kappa lost is the mean over codes, ECE that of each code's probability."
    yield ""
    flips = ("recipe", "flips", "expected", "worst group", "largest change", "flips in batches")
    agreement = ("kappa lost", "worst label's recall", "ECE")
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
    yield from _table((*flips, *agreement, "responses/s", "in batches", "MB"), rows)
    for one in tuning.tried:
        if one.fault is not None:
            yield ""
            yield _cell(f"{one.recipe} made no graph: {one.fault}")


def _vocabulary(cut: VocabularyCut) -> Iterator[str]:
    yield "## Vocabulary"
    yield ""
    yield f"Cut to {cut.pieces:,} of {cut.pieces_before:,} pieces; in fp32 the table of embeddings has"
    yield f"{_table_size(cut)}."
    yield f"The {cut.texts:,} texts that were seen (training, validation and uncoded ones, not test rows) are read as"
    yield "before. A word that none of them holds may be read as more and shorter pieces, never as unknown where it was"
    yield "known before."


def _table_size(cut: VocabularyCut) -> str:
    after = 4 * cut.pieces * cut.width / 1e6
    return f"{after:.1f} MB and not {after + cut.bytes_saved / 1e6:.1f} MB"


def _limits(draft: Manifest, golden: Golden) -> Iterator[str]:
    yield "## Limits"
    yield ""
    yield "- It knows the task, the items and the population it was trained on. Check it on a sample of human codes"
    yield "  before it scores another."
    yield "- It supports a person's judgement of a response; it is not meant to decide about a learner alone."
    if draft.temperature == 1.0:
        yield "- Its probabilities are not calibrated: 0.9 does not mean right in nine of ten cases."
    if draft.precision == "int8" and not draft.batch_invariant:
        yield "- Responses must be scored one at a time: in a batch, one response can change another's score."
    yield f"- `golden.json` holds the texts of {len(golden.rows)} validation rows word for word: a machine that"
    yield "  loads the bundle checks its scores with them. Share the bundle no further than those responses may be."


def _use(draft: Manifest) -> Iterator[str]:
    dtype = {"int8": "q8", "fp32": "fp32"}[draft.precision]
    yield "## Use"
    yield ""
    yield "    edgedistill-serve score BUNDLE TEXT"
    yield "    edgedistill-serve grade BUNDLE responses.csv scored.csv"
    yield ""
    yield f'In transformers.js it loads with `dtype: "{dtype}"`, in Python with optimum\'s'
    if draft.task.kind == "multilabel":
        yield "`ORTModelForSequenceClassification`. Given one response at a time they give the sigmoid of each code's"
        yield "logit (in transformers.js with `top_k: null`), to be held against the last column above; they"
    else:
        yield "`ORTModelForSequenceClassification`. Given one response at a time they give the scorer's labels; they"
    yield "neither calibrate nor send a response to review, and read a typed `[SEP]` as a mark."
    if len(draft.task.inputs) > 1:
        yield ""
        yield "In transformers.js a context and a response are read as `tokenizer(context, {text_pair: response,"
        yield "return_token_type_ids: true})`; a pair that is too long must be cut by the caller, the context first."


def _provenance(provenance: Mapping[str, Any]) -> Iterator[str]:
    yield "## Provenance"
    yield ""
    text = json.dumps(dict(provenance), indent=2, ensure_ascii=False, sort_keys=True)
    yield from (f"    {line}" for line in text.splitlines())


def _share(value: float | None) -> str:
    return "not known" if value is None else f"{value:.2%}"


def _figure(value: Any) -> str:
    """A number, or an estimate with its interval; a figure that is undefined is named so."""
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
    """Text of a codebook that cannot break out of its place: one line, with Markdown's and HTML's marks escaped."""
    text = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;")
    return "".join(f"\\{mark}" if mark in "|`*_[]\\#" else mark for mark in text)
