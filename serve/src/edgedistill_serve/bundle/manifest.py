"""The types of `bundle.json` and `golden.json`."""

import re
from hashlib import sha256
from typing import Any, Literal, TypeAlias

import msgspec

from edgedistill_serve.bundle.guarantee import Guarantee
from edgedistill_serve.bundle.verdict import NOT_VALIDATED, BundleVerdict
from edgedistill_serve.hidden_texts import HiddenTexts
from edgedistill_serve.task.contexts import ShownContexts
from edgedistill_serve.task.label_decoding import LabelDecoder
from edgedistill_serve.task.task import Task, Truncation

Precision: TypeAlias = Literal["int8", "fp32"]
SCHEMA_VERSION = 4
MODEL_FILES: dict[Precision, str] = {"int8": "onnx/model_quantized.onnx", "fp32": "onnx/model.onnx"}


MAX_UNKNOWN_SHARE = 0.5
"""Default of `ReviewRule.max_unknown_share`, also for older bundles: most of a response must be readable."""


NEVER_ACCEPTED = 2.0
"""A threshold that no probability reaches: a person reviews every response with this label."""


NAME_RULE = 'at most 100 of A to Z, a to z, 0 to 9, ".", "_" and "-", a letter or digit first'
"""What `is_servable` accepts, as a part of a sentence."""
_SERVABLE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def is_servable(name: Any) -> bool:
    """Return whether paths, headers and ``NAME@VERSION`` can carry the name or the version of a bundle."""
    return isinstance(name, str) and _SERVABLE.fullmatch(name) is not None


class FileEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Checksum and size of one file of the bundle."""

    sha256: str
    bytes: int


REVIEW_ALL = 0.0
"""The limit of novelty of a bundle whose training texts are too few to measure it: every response is reviewed."""


class ReviewRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Decides which scores a person should review.

    Attributes:
        thresholds: For each label of a nominal or ordinal task, the smallest probability that is accepted. A label
            without a threshold is always accepted, one with `NEVER_ACCEPTED` never.
        least_certainty: For a multilabel task, the smallest `Score.probability` that is accepted, or `NEVER_ACCEPTED`.
        blank: Whether responses with nothing visible are reviewed.
        truncated: Whether truncated responses are reviewed.
        new_question: Whether responses to a question for which the rule was not shown (`Manifest.contexts`) are
            reviewed.
        max_unknown_share: The largest `Score.unknown_share` that is accepted, in [0, 1]; with 1, every one is.
        max_novelty: The largest `Score.novelty` that is accepted; None if novelty sends nothing to people,
            `REVIEW_ALL` if too few texts are known to say what is unlike them: then nothing is accepted.
        scripts: The scripts of the training texts (`edgedistill_serve.task.scripts`).
        min_letters: The smallest share of a response's visible characters that must be letters of these scripts, in
            [0, 1]; 0 accepts every response.
    """

    thresholds: dict[str, float] = {}
    least_certainty: float = 0.0
    blank: bool = True
    truncated: bool = True
    new_question: bool = True
    max_unknown_share: float = MAX_UNKNOWN_SHARE
    max_novelty: float | None = None
    scripts: tuple[str, ...] = ()
    min_letters: float = 0.0


class NoveltyFit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the graphs' second output, ``novelty``, was fitted, and its threshold chosen.

    Attributes:
        training_rows: Distinct training texts whose vectors were used.
        directions: Number of principal directions of these vectors.
        validation_rows: Readable validation rows that the threshold was chosen on.
        false_alarms: The largest share of responses like the validation rows that may be flagged, in (0, 1); None
            without a threshold. With few validation rows it is larger than the share that was asked for.
        flagged: Number of validation rows beyond the threshold.
    """

    training_rows: int
    directions: int
    validation_rows: int
    false_alarms: float | None
    flagged: int


def describe_letters(review: ReviewRule) -> str:
    """Return in one sentence which responses have too few letters; empty if that is not judged."""
    if not review.min_letters:
        return ""
    return (
        f"Responses of whose characters less than {review.min_letters:.0%} are letters of the training texts' scripts "
        f"({', '.join(review.scripts)}) go to a person."
    )


def describe_novelty(fit: NoveltyFit | None, limit: float | None) -> str:
    """Return in one sentence which responses are too novel."""
    if fit is None and limit is not None:
        return (
            "Not measured, because there were too few training or validation texts: responses unlike them cannot be "
            "recognized, so that every response goes to a person."
        )
    if fit is None:
        return "Not measured: responses unlike the training texts are not recognized."
    if limit is None or fit.false_alarms is None:
        return "Measured and not limited: responses unlike the training texts do not go to a person for that."
    rests_on_one = fit.false_alarms * (fit.validation_rows + 1) < 1 + 1e-9
    few = (
        " The most novel validation row sets the limit, because there are too few for another one."
        if rests_on_one
        else ""
    )
    return (
        f"Responses at more than {limit:.3g} times the typical distance from the {fit.training_rows} training texts go "
        f"to a person: {fit.flagged} of {fit.validation_rows} validation rows, and of responses like them at most "
        f"{fit.false_alarms:.2%} are expected to.{few}"
    )


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`bundle.json`.

    Attributes:
        name: The project's name.
        version: Result of `compute_version` when the bundle was written; older bundles used another formula.
        task: The scored task.
        max_tokens: Longest sequence that the model reads, including special tokens.
        truncation: What is truncated first if a row is too long: the question, then the rubric, then the reference
            answers; or, as in bundles of earlier versions, the end of the context. The response is truncated last.
        precision: Precision of the served graph.
        recipe: Quantization recipe of the int8 graph; empty if it was not recorded.
        batch_invariant: Whether every checked row had the same bits in batches and alone when the bundle was written.
            If false, rows are scored one by one; if true, this is checked again when the bundle is loaded.
        int8_overflow_free: Whether it was proven, when the bundle was written, that no 8-bit product of its graphs
            overflows 16 bits on any processor. False for older bundles.
        temperature: Divisor of the logits before softmax or sigmoid; 1.0 without calibration.
        thresholds: For a multilabel task, the probability from which each label is assigned, in (0, 1); else empty.
        review: Decides which scores a person should review.
        contexts: The questions for which the decision rule was shown; None for a task without question, and for older
            bundles.
        guarantee: What is promised of the accepted responses; None if nothing is, as for older bundles.
        verdict: What test rows say about the use of the bundle; None if they were never scored, as for older bundles,
            which counts as not validated.
        novelty: How `Score.novelty` was fitted; None if the graphs do not compute it, as in older bundles.
        metrics: Agreement on the locked test rows, as in ``evaluation.json``.
        provenance: Teacher, gate, mixture, seeds, data fingerprints, tool versions.
        files: All other files of the bundle by relative path, with ``/`` as separator.
    """

    name: str
    version: str
    task: Task
    max_tokens: int
    precision: Precision
    files: dict[str, FileEntry]
    truncation: Truncation = "context_first"
    recipe: str = ""
    batch_invariant: bool = False
    int8_overflow_free: bool = False
    temperature: float = 1.0
    thresholds: dict[str, float] = {}
    review: ReviewRule = ReviewRule()
    contexts: ShownContexts | None = None
    guarantee: Guarantee | None = None
    verdict: BundleVerdict | None = None
    novelty: NoveltyFit | None = None
    metrics: dict[str, Any] = {}
    provenance: dict[str, Any] = {}
    schema_version: int = SCHEMA_VERSION

    @property
    def label_decoder(self) -> LabelDecoder:
        """Decodes the logits of the graphs."""
        names = self.task.names if self.task.kind == "multilabel" else ()
        return LabelDecoder(self.task, self.temperature, tuple(self.thresholds[name] for name in names))

    @property
    def known_verdict(self) -> BundleVerdict:
        """The verdict; `NOT_VALIDATED` where there is none."""
        return self.verdict or NOT_VALIDATED


def compute_version(manifest: Manifest) -> str:
    """Return the version of a bundle; it changes with the weights, the thresholds and the review rule.

    Returns:
        The first 12 hexadecimal digits of the SHA-256 of the manifest with sorted keys, without name, version, metrics,
        guarantee, verdict and provenance. These do not affect scores and can differ between exports of one student.
    """
    scoring_part = msgspec.structs.replace(manifest, name="", version="", metrics={}, guarantee=None, provenance={})
    content = msgspec.to_builtins(scoring_part)
    del content["verdict"]  # older schemas have no such key
    return sha256(msgspec.json.encode(content, order="deterministic")).hexdigest()[:12]


class GoldenRow(HiddenTexts, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One golden response.

    Attributes:
        inputs: The task's inputs.
        logits: The fp32 logits, one per label in class order.
        logits_by_precision: The logits of each other graph when the bundle was written; empty for older bundles.
        novelty: The novelty that each graph gave; empty if the graphs compute none.
    """

    inputs: dict[str, str]
    logits: tuple[float, ...]
    logits_by_precision: dict[Precision, tuple[float, ...]] = {}  # noqa: RUF012  # msgspec copies it
    novelty: dict[Precision, float] = {}  # noqa: RUF012

    def expected(self, precision: Precision) -> tuple[float, ...]:
        """Return the expected logits of the graph of a precision."""
        return self.logits_by_precision.get(precision, self.logits)


class Golden(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`golden.json`: responses with the logits that this bundle gave when it was written.

    Attributes:
        rows: The golden responses.
        tolerance: For each precision, the largest accepted difference from an expected probability at load.
        novelty_tolerance: The same for the relative difference of a novelty: |found - expected| / expected.
    """

    rows: tuple[GoldenRow, ...]
    tolerance: dict[Precision, float]
    novelty_tolerance: dict[Precision, float] = {}
