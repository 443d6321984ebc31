"""What `bundle.json` and `golden.json` say, as types."""

from hashlib import sha256
from typing import Any, Literal, TypeAlias

import msgspec

from edgedistill_serve.task.label_decoding import LabelDecoder
from edgedistill_serve.task.task import Task

Precision: TypeAlias = Literal["int8", "fp32"]
SCHEMA_VERSION = 1
MODEL_FILES: dict[Precision, str] = {"int8": "onnx/model_quantized.onnx", "fp32": "onnx/model.onnx"}


class FileEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file of the bundle as it was written."""

    sha256: str
    bytes: int


class ReviewRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which scores go to a person.

    Attributes:
        thresholds: Per label of a nominal or ordinal task, the least probability that is accepted; a label that is
            absent accepts any.
        least_certainty: Of a multilabel task, the least `Score.probability` that is accepted.
        blank: Whether a response of white space alone goes to review.
        truncated: Whether a response that was cut goes to review.
    """

    thresholds: dict[str, float] = {}
    least_certainty: float = 0.0
    blank: bool = True
    truncated: bool = True


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`bundle.json`.

    Attributes:
        name: The project's name.
        version: What `compute_version` gave when the bundle was written; older bundles have it by an older rule.
        task: What is scored.
        max_tokens: Longest sequence that the model reads, special tokens counted.
        truncation: Which text is cut first when a row is too long; always ``context_first`` in schema 1.
        precision: The graph that is served.
        recipe: How the int8 graph was made; empty where that was not noted.
        batch_invariant: Whether the served graph gave every checked row the same bits in batches as alone, where the
            bundle was made. If not, rows are scored one by one; if so, it is tried again where the bundle is loaded.
        int8_overflow_free: Whether it was proven, when the bundle was written, that no 8-bit product of its graphs
            overflows 16 bits on any processor. Older bundles say nothing of it: false.
        temperature: Divides the logits before softmax or sigmoid; 1.0 where nothing was calibrated.
        thresholds: Of a multilabel task, the probability from which each label holds, in (0, 1); empty for others.
        review: Which scores go to a person.
        metrics: Agreement on the locked test rows, as in ``evaluation.json``.
        provenance: Teacher, gate, mixture, seeds, data fingerprints, tool versions.
        files: Every other file of the bundle by its path, ``/`` between the parts.
    """

    name: str
    version: str
    task: Task
    max_tokens: int
    precision: Precision
    files: dict[str, FileEntry]
    truncation: Literal["context_first"] = "context_first"
    recipe: str = ""
    batch_invariant: bool = False
    int8_overflow_free: bool = False
    temperature: float = 1.0
    thresholds: dict[str, float] = {}
    review: ReviewRule = ReviewRule()
    metrics: dict[str, Any] = {}
    provenance: dict[str, Any] = {}
    schema_version: int = SCHEMA_VERSION

    @property
    def label_decoder(self) -> LabelDecoder:
        """How the graph's logits are read."""
        names = self.task.names if self.task.kind == "multilabel" else ()
        return LabelDecoder(self.task, self.temperature, tuple(self.thresholds[name] for name in names))


def compute_version(manifest: Manifest) -> str:
    """Return the version of a bundle: other weights, thresholds or rules, another version.

    Returns:
        The first 12 hexadecimal digits of the SHA-256 over all that the manifest says, keys sorted, but for the name,
        the version, the metrics and the provenance: these decide no score, and differ from one export to the next.
    """
    deciding = msgspec.structs.replace(manifest, name="", version="", metrics={}, provenance={})
    return sha256(msgspec.json.encode(deciding, order="deterministic")).hexdigest()[:12]


class GoldenRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One checked response.

    Attributes:
        inputs: The task's inputs.
        logits: The fp32 logits, one per label in class order.
        logits_by_precision: What each other graph gave where the bundle was made; older bundles say nothing of it.
    """

    inputs: dict[str, str]
    logits: tuple[float, ...]
    logits_by_precision: dict[Precision, tuple[float, ...]] = {}

    def expected(self, precision: Precision) -> tuple[float, ...]:
        """Return the logits that the graph of a precision is held to."""
        return self.logits_by_precision.get(precision, self.logits)


class Golden(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`golden.json`: what this bundle scored when it was checked.

    Attributes:
        rows: The checked responses.
        tolerance: Per precision, the largest difference of a probability from the expected one that is accepted at
            load.
    """

    rows: tuple[GoldenRow, ...]
    tolerance: dict[Precision, float]
