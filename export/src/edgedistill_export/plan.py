"""The settings of an export."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

from numpy.typing import NDArray

from edgedistill_export.authors import Author
from edgedistill_serve.bounds import MAX_TOKENS, SHARE, TEMPERATURE, check_all
from edgedistill_serve.bundle.guarantee import Guarantee
from edgedistill_serve.bundle.manifest import NAME_RULE, Precision, ReviewRule, is_servable
from edgedistill_serve.bundle.verdict import BundleVerdict
from edgedistill_serve.errors import DataError
from edgedistill_serve.scoring.encoding import Encoded
from edgedistill_serve.task.label_decoding import LabelDecoder
from edgedistill_serve.task.task import Task

Measurement: TypeAlias = Callable[[Sequence[str]], Mapping[str, Any]]
"""Takes labels of the locked rows; returns their agreement with the human codes."""


class ReviewChoice(Protocol):
    """A decision rule, and what it promises."""

    @property
    def rule(self) -> ReviewRule:
        """Sends scores to human review."""

    @property
    def guarantee(self) -> Guarantee | None:
        """What is promised of the accepted responses; None if nothing is."""


class GraphScores(NamedTuple):
    """What a graph gives for the validation rows.

    Attributes:
        logits: Shape (rows, labels).
        novelty: Shape (rows,); None if novelty is not limited.
    """

    logits: NDArray[Any]
    novelty: NDArray[Any] | None


ReviewChooser: TypeAlias = Callable[[Mapping[Precision, GraphScores], tuple[Encoded, ...], float | None], ReviewChoice]
"""Takes the scores of the validation rows by each graph of the bundle, the served one first, what the graphs read, and
the largest novelty that is accepted."""

Comparison: TypeAlias = Callable[[Mapping[str, Sequence[str]]], list[dict[str, Any]]]
"""Takes the labels of the locked rows by stage (``PyTorch``, ``ONNX fp32``, ``int8``); returns one entry per step."""


@dataclass(frozen=True, slots=True, eq=False)
class LockedScores:
    """The locked rows, scored before and after the export.

    Attributes:
        student: NDArray[Any] of the student in PyTorch, of shape (rows, labels).
        served: NDArray[Any] of the served graph, likewise.
        encoded: What the served graph reads of each row.
        novelty: The novelty of each row by the served graph, of shape (rows,); None if it computes none.
    """

    student: NDArray[Any]
    served: NDArray[Any]
    encoded: tuple[Encoded, ...]
    novelty: NDArray[Any] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class ServedResults:
    """What the export measured of the graph that is served, after all choices.

    Attributes:
        served: Its precision.
        steps: The steps on validation rows.
        locked: The results of the plan's ``compare``.
        agreement: The result of the plan's ``measure``.
        scores: The logits of the locked rows.
        rule: The decision rule of the bundle.
        choice: The result of the plan's ``choose_review``; None without it.
    """

    served: Precision
    steps: Sequence[Any]
    locked: Sequence[Mapping[str, Any]]
    agreement: Mapping[str, Any] | None
    scores: LockedScores | None
    rule: ReviewRule
    choice: ReviewChoice | None


class Judgement(Protocol):
    """What test rows say about a bundle."""

    @property
    def verdict(self) -> BundleVerdict:
        """The verdict of the bundle."""


Judge: TypeAlias = Callable[[ServedResults], Judgement]


@dataclass(frozen=True, slots=True)
class ExportPlan:
    """The settings of an export.

    Attributes:
        name: The bundle's name, as the server accepts it: `edgedistill_serve.bundle.manifest.is_servable`.
        task: The scoring task.
        max_tokens: Longest sequence that the student reads, including special tokens.
        precision: The precision to serve if it agrees with fp32; ``auto`` compares all recipes and serves the fastest
            that agrees.
        max_flip_rate: Share of the validation rows, in [0, 1], whose label int8 may change and still be served.
        fp32_beside: Whether the bundle also contains the fp32 graph if int8 is served.
        temperature: Divides the logits before softmax or sigmoid; 1.0 without calibration.
        thresholds: For a multilabel task, each label's probability, in (0, 1), from which it is assigned.
        review: The rule that sends scores to human review, if ``choose_review`` chooses none.
        choose_review: Chooses that rule on the scores of the graphs that the bundle has; optional.
        held_out: Whether the validation rows answer questions that were held out of training as a whole.
        vocabulary: ``cut`` removes the tokens that no known text needs, and those that only one learner used.
        seen: The inputs of all other known rows. Test rows must not be among them: they represent new texts.
        authors: Who wrote each of the validation rows, as in `edgedistill_export.authors`; empty if that is not known.
        seen_authors: The same for ``seen``; synthetic rows are those of `edgedistill_export.authors.TEACHER`.
        novelty_rows: The inputs of the training texts, which the vectors of others are compared with; empty for graphs
            that compute no novelty. Those of the teacher should be among them only if there are too few others.
        false_alarms: The share of responses like the validation rows, in (0, 1), that novelty alone may send to a
            person; None for a novelty that is reported and not limited.
        golden: The rows of the self-check: ``written`` for the purpose, so that no learner's text leaves with the
            bundle, or ``validation`` rows verbatim.
        common: Number of frequent tokens that a cut keeps even if no text needs them, 0 or more; None for the number
            that suits the tokenizer.
        codes: The human code of every validation row, with which ``auto`` measures the loss of agreement; optional.
        groups: The group of every validation row, for which ``auto`` reports the worst flip rate; optional.
        locked: The inputs of the test rows. Every stage scores them after all choices; the export fails if the fp32
            graph does not agree with the student on them.
        compare: Computes the entries of ``bundle.json`` and the card from the labels of the locked rows.
        measure: Computes the agreement of the served graph's labels of the locked rows with the human codes; it
            replaces ``metrics["student"]``, which is that of the student in PyTorch.
        judge: Returns the verdict of the bundle; optional: without it, the bundle is not validated.
        metrics: By coder (``student``, ``teacher``), its agreement with the human codes of the test rows.
        provenance: Teacher, mixture, seeds, data fingerprints; ``license`` is the model card's licence. The export adds
            the key ``export``.

    Raises:
        DataError: The server would refuse the name, or ``max_tokens``, ``max_flip_rate`` or ``temperature`` is outside
            its bounds.
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
    choose_review: ReviewChooser | None = None
    held_out: bool = False
    vocabulary: Literal["full", "cut"] = "full"
    seen: Sequence[Mapping[str, str]] = field(default=(), repr=False)
    authors: Sequence[Author] = field(default=(), repr=False)
    seen_authors: Sequence[Author] = field(default=(), repr=False)
    novelty_rows: Sequence[Mapping[str, str]] = field(default=(), repr=False)
    false_alarms: float | None = None
    golden: Literal["written", "validation"] = "written"
    common: int | None = None
    codes: Sequence[str] = ()
    groups: Sequence[str] = field(default=(), repr=False)
    locked: Sequence[Mapping[str, str]] = field(default=(), repr=False)
    compare: Comparison | None = None
    measure: Measurement | None = None
    judge: Judge | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not is_servable(self.name):
            raise DataError(
                f"the server refuses bundles with the name {str(self.name)[:100]!r}",
                where="name",
                hint=f"Choose another one: {NAME_RULE}.",
            )
        given = {"max_tokens": self.max_tokens, "max_flip_rate": self.max_flip_rate, "temperature": self.temperature}
        check_all(given, {"max_tokens": MAX_TOKENS, "max_flip_rate": SHARE, "temperature": TEMPERATURE})

    @property
    def label_decoder(self) -> LabelDecoder:
        """The decoder of the student's logits.

        Raises:
            DataError: A label of a multilabel task has no threshold.
        """
        chosen = tuple(self.thresholds[name] for name in self.task.names if name in self.thresholds)
        return LabelDecoder(self.task, self.temperature, chosen)
