"""What shall be exported, and what the bundle shall say of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from edgedistill_export.quantize.vocabulary import COMMON
from edgedistill_serve.bundle.manifest import Precision, ReviewRule
from edgedistill_serve.task.label_decoding import LabelDecoder
from edgedistill_serve.task.task import Task

Comparison: TypeAlias = Callable[[Mapping[str, Sequence[str]]], list[dict[str, Any]]]
"""By form (``PyTorch``, ``ONNX fp32``, ``int8``) the locked rows' labels, in order; one entry per step comes back."""


@dataclass(frozen=True, slots=True)
class ExportPlan:
    """What shall be exported, and what the bundle shall say of it.

    Attributes:
        name: The project's name.
        task: What is scored.
        max_tokens: Longest sequence that the student reads, special tokens counted.
        precision: The precision to serve where it agrees with fp32; ``auto``: every recipe is tried, and the fastest
            that agrees is served.
        max_flip_rate: Share of the validation rows, in [0, 1], whose label int8 may change and still be served.
        fp32_beside: Whether the fp32 graph lies beside a quantized one that is served.
        temperature: Divides the logits before softmax or sigmoid; 1.0 where nothing was calibrated.
        thresholds: Of a multilabel task, the probability from which each label holds, in (0, 1).
        review: Which scores go to a person.
        vocabulary: Whether pieces that no seen text needs are cut from the vocabulary.
        seen: The inputs of every other row whose texts may be seen, for a cut: rows of the test split are not among
            them, for they stand for the texts that are still to come, which no cut can know.
        common: How many generally frequent pieces a cut keeps whatever the texts hold; 0 or more.
        codes: The human code of every validation row, by which ``auto`` tells what agreement a recipe costs; or none.
        groups: What every validation row belongs to, by which ``auto`` tells where a recipe flips most; or none.
        locked: The inputs of the test rows. They are scored by every form of the student when all is chosen; the export
            fails where the fp32 graph is not the student on them.
        compare: From the labels that each form gives the locked rows to what ``bundle.json`` and the card shall say.
        metrics: By coder (``student``, ``teacher``), its agreement with the human codes of the test rows.
        provenance: Teacher, mixture, seeds, data fingerprints; ``license`` is the model card's. The export adds its own
            under ``export``.
    """

    name: str
    task: Task
    max_tokens: int
    precision: Precision | Literal["auto"]
    max_flip_rate: float
    fp32_beside: bool = True
    temperature: float = 1.0
    thresholds: Mapping[str, float] = field(default_factory=dict)
    review: ReviewRule = ReviewRule()  # noqa: RUF009  frozen
    vocabulary: Literal["full", "cut"] = "full"
    seen: Sequence[Mapping[str, str]] = ()
    common: int = COMMON
    codes: Sequence[str] = ()
    groups: Sequence[str] = ()
    locked: Sequence[Mapping[str, str]] = ()
    compare: Comparison | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def label_decoder(self) -> LabelDecoder:
        """How the student's logits are read.

        Raises:
            DataError: A label of a multilabel task has no threshold.
        """
        chosen = tuple(self.thresholds[name] for name in self.task.names if name in self.thresholds)
        return LabelDecoder(self.task, self.temperature, chosen)
