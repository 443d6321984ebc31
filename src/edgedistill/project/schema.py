"""The sections of a project file. Each is a frozen pydantic model that rejects unknown keys and wrong types."""

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeAlias

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, model_validator

from edgedistill.task import Label, Task
from edgedistill_serve.bundle.manifest import MAX_UNKNOWN_SHARE
from edgedistill_serve.task.redaction import RULES, Redaction
from edgedistill_serve.task.task import Kind
from edgedistill_serve.task.task import Task as ScoredTask

_log = logging.getLogger(__name__)

Count: TypeAlias = Annotated[int, Field(ge=1)]
File: TypeAlias = Annotated[Path, Field(strict=False)]
Share: TypeAlias = Annotated[float, Field(ge=0, le=1)]
Rows: TypeAlias = Literal["all"] | Annotated[int, Field(ge=0)]
Name: TypeAlias = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
Learning: TypeAlias = Annotated[float, Field(ge=1e-9, lt=1)]
"""A learning rate. A smaller one changes no weight in 32 bits: the student would silently learn nothing."""


class Section(BaseModel):
    """A section of the project file: frozen, with strict keys and types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
    old_keys: ClassVar[Mapping[str, str]] = {}
    """Keys of earlier versions and their new names; they are still read, with a deprecation note."""

    @model_validator(mode="before")
    @classmethod
    def _rename_old_keys(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        for old in cls.old_keys.keys() & values.keys():
            new = cls.old_keys[old]
            if new in values:
                raise ValueError(f"{old} is the old name of {new}; give only {new}")
            _log.warning("edgedistill: the key %s is deprecated; use %s", old, new)
            values = {new if key == old else key: value for key, value in values.items()}
        return values


class LoraSection(Section):
    """Low-rank adapters (Hu et al. 2021, arXiv:2106.09685) added to frozen weights."""

    rank: Count = 16
    alpha: Count = 32
    """Scaling: the adapters' output is multiplied by ``alpha / rank``."""
    targets: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(min_length=1, strict=False)] = (
        "all-linear",
    )
    """Names of the layers with adapters, such as ``q_proj``. ``all-linear`` means every linear layer except the head,
    which Dettmers et al. 2023 (arXiv:2305.14314, section 4) found necessary to match full fine-tuning."""


class LossSection(Section):
    """The training loss: hard or soft targets, and whether it uses the order of ordinal labels."""

    old_keys: ClassVar[Mapping[str, str]] = {"labels": "targets", "scale": "ordinal"}

    targets: Literal["hard", "soft", "both"] = "hard"
    """``hard``: the row's label. ``soft``: the shares of the teacher's votes. ``both``: a weighted sum of the two
    losses. For a row whose shares hold one label (a human code, a synthetic row) all three are equal."""
    soft_weight: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Weight of the soft loss with ``both``."""
    temperature: Annotated[float, Field(ge=0.1, le=100)] = 1.0
    """Divides the logits in the soft loss (Hinton et al. 2015); above 1, labels with small shares count for more."""
    class_weights: Literal["none", "balanced"] = "none"
    """``balanced``: weights inversely proportional to label frequencies, as in scikit-learn."""
    ordinal: Literal["nominal", "cumulative", "expected_score"] = "nominal"
    """For ``kind: ordinal``. ``nominal`` ignores the order of labels; ``cumulative`` is a binary loss at each threshold
    of the scale; ``expected_score`` adds the squared error of the expected score."""

    @model_validator(mode="after")
    def _settings_apply(self) -> Self:
        if self.targets == "hard" and "temperature" in self.model_fields_set:
            raise ValueError("temperature requires targets: soft or both")
        if self.targets != "both" and "soft_weight" in self.model_fields_set:
            raise ValueError("soft_weight requires targets: both")
        return self


class LearningRange(Section):
    """A range of learning rates, sampled log-uniformly."""

    low: Learning
    high: Learning

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low is {self.low:g} and high is {self.high:g}; low must be smaller")
        return self


class CountRange(Section):
    """A range of whole numbers, both ends included."""

    low: Count
    high: Count

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low is {self.low} and high is {self.high}; low must be smaller")
        return self


# Tags with a space: error messages then leave the union's branch out of the key's name.
_LIST, _RANGE = "a list", "a range"


def _form(given: Any) -> str:
    return _RANGE if isinstance(given, dict | LearningRange | CountRange) else _LIST


_LearningList: TypeAlias = Annotated[tuple[Learning, ...], Field(min_length=1, strict=False)]
_CountList: TypeAlias = Annotated[tuple[Count, ...], Field(min_length=1, strict=False)]
LearningRates: TypeAlias = Annotated[
    Annotated[_LearningList, Tag(_LIST)] | Annotated[LearningRange, Tag(_RANGE)], Discriminator(_form)
]
Counts: TypeAlias = Annotated[
    Annotated[_CountList, Tag(_LIST)] | Annotated[CountRange, Tag(_RANGE)], Discriminator(_form)
]


Preset: TypeAlias = Literal["quick", "standard", "thorough"]


class SearchSection(Section):
    """Hyperparameters to try; validation rows choose."""

    method: Literal["grid", "tpe"] = "grid"
    """``grid``: every combination of the lists. ``tpe``: a tree-structured Parzen estimator (Bergstra et al. 2011)
    samples from lists or ranges."""
    trials: Count | None = None
    """Number of settings that ``tpe`` samples; each runs once per seed."""
    learning_rate: LearningRates | None = None
    """Peak learning rates. Default: from `StudentSection.preset`."""
    batch_size: Counts = (16,)
    epochs: Counts | None = None
    """Default: from `StudentSection.preset`."""
    prune: bool = False
    """Median pruning: stop a trial whose best macro-F1 is below the median of earlier trials at the same epoch. The
    first five trials always finish."""

    @model_validator(mode="after")
    def _what_the_method_takes(self) -> Self:
        if self.method == "tpe":
            if self.trials is None:
                raise ValueError("method tpe needs trials, the number of settings to sample")
            return self
        if self.trials is not None:
            raise ValueError("trials requires method tpe; a grid runs every combination of its lists")
        for name in ("learning_rate", "batch_size", "epochs"):
            if _form(getattr(self, name)) == _RANGE:
                raise ValueError(f"{name} is a range, which requires method tpe; a grid takes a list")
        return self

    @property
    def is_complete(self) -> bool:
        """Whether learning rate and epochs are given, so that the preset decides nothing."""
        return self.learning_rate is not None and self.epochs is not None


class ShrinkSection(Section):
    """A second, smaller student: fewer layers, distilled from the first one."""

    layers: Count = 3
    kept: Annotated[tuple[Annotated[int, Field(ge=0)], ...] | None, Field(strict=False)] = None
    """Layers of the first student to start from, counted from 0. Default: evenly spaced."""
    vocabulary: Literal["cut", "full"] = "cut"
    """``cut`` drops the tokens that no training text needs."""
    epochs: Count = 10
    learning_rate: Learning = 1e-4
    batch_size: Count = 16
    temperature: Annotated[float, Field(ge=0.1, le=100)] = 2.0
    """Distillation temperature: divides both students' logits."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    export: bool = False
    """Whether to evaluate and export the smaller student instead of the first."""

    @model_validator(mode="after")
    def _kept_are_layers(self) -> Self:
        if self.kept is not None and (len(self.kept) != self.layers or list(self.kept) != sorted(set(self.kept))):
            raise ValueError(f"kept must list {self.layers} different layers in ascending order")
        return self


class LabelSection(Section):
    """One code of the codebook."""

    name: Annotated[str, Field(min_length=1, max_length=200)]
    definition: str = ""


class RedactSection(Section):
    """Redaction: web addresses, e-mail addresses, phone numbers and these patterns are replaced in every text."""

    ids: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """Regular expressions, such as ``S[0-9]{6}``."""
    rules: int = RULES
    """Version of the built-in patterns; a project keeps its version when it names it."""

    @model_validator(mode="after")
    def _patterns_compile(self) -> Self:
        _ = self.redaction  # raises on an invalid pattern
        return self

    @property
    def redaction(self) -> Redaction:
        """The redaction as the bundle stores it."""
        return Redaction(self.ids, self.rules)


def _bool_to_section(given: object) -> object:
    return {True: {}, False: None}[given] if isinstance(given, bool) else given


class TaskSection(Section):
    """The task: the codebook's instructions, labels and inputs."""

    kind: Kind = "nominal"
    instructions: str = ""
    labels: Annotated[tuple[LabelSection, ...], Field(min_length=2, strict=False)]
    inputs: Annotated[tuple[str, ...], Field(min_length=1, strict=False)] = ("response",)
    redact: Annotated[RedactSection | None, BeforeValidator(_bool_to_section)] = None
    """``true``, or a mapping with ``ids``. Part of the task: teacher, student and bundle redact alike."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        _ = self.coded  # raises on an invalid task
        return self

    @property
    def coded(self) -> Task:
        """The task as the Python API has it."""
        labels = tuple(Label(label.name, label.definition) for label in self.labels)
        redact = self.redact.redaction if self.redact else None
        return Task(self.kind, labels, self.inputs, redact, self.instructions)

    @property
    def task(self) -> ScoredTask:
        """The task as students and bundles have it, without instructions."""
        labels = tuple(Label(label.name, label.definition) for label in self.labels)
        return ScoredTask(self.kind, labels, self.inputs, self.redact.redaction if self.redact else None)


class SplitSection(Section):
    """Shares of the human-coded rows; they sum to 1."""

    train: Annotated[float, Field(gt=0, lt=1)] = 0.6
    validation: Annotated[float, Field(gt=0, lt=1)] = 0.2
    test: Annotated[float, Field(gt=0, lt=1)] = 0.2
    known_questions: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """With ``data.questions: held_out``, the share of the test rows that answer questions of train rows, so that the
    report can compare known and unknown questions."""
    seed: int = 0

    @model_validator(mode="after")
    def _sums_to_one(self) -> Self:
        if abs(self.train + self.validation + self.test - 1) > 1e-9:
            raise ValueError(
                f"train, validation and test sum to {self.train + self.validation + self.test:g}; they must sum to 1"
            )
        return self


class DataSection(Section):
    """Data files; paths are relative to the project file."""

    human: File
    unlabelled: File | None = None
    reviewed: File | None = None
    """Human codes from review, written by `edgedistill review merge`. They are train rows, or validation rows if
    `edgedistill review next` drew them as such; never test rows."""
    group_by: str | None = None
    questions: Literal["known", "held_out"] = "known"
    """``held_out``: validation rows, and test rows, answer questions that no train row answers, so that epoch,
    calibration and decision rule are chosen, and agreement is measured, for new questions."""
    question_by: str | None = None
    """The column that names each row's question. Default: rows with the same question, reference answers and rubric
    have the same question."""
    split: SplitSection = SplitSection()
    max_characters: Count = 10_000
    """Longer responses are set aside: they are rarely answers, and the teacher would bill every token."""

    @model_validator(mode="after")
    def _known_questions_are_of_held_out_ones(self) -> Self:
        if self.questions != "held_out" and "known_questions" in self.split.model_fields_set:
            raise ValueError("split.known_questions needs data.questions: held_out")
        if self.question_by in ("id", "label", "split", "response"):
            raise ValueError(f"question_by: {self.question_by} is not a column of questions")
        return self


def _web_address(text: str) -> str:
    """Refuse what is not an address, and secrets in one, since every cached answer contains it."""
    if not re.fullmatch(r"https?://[^\s/]\S*", text) or not text.isprintable():
        shown = "the address" if re.search("[@?]", text) else repr(text)
        raise ValueError(f"{shown} must begin with http:// or https:// and contain no spaces")
    address, _, query = text.partition("?")
    if "@" in address.split("/")[2] or "#" in text:
        raise ValueError("the address must have no user name, password or #; put the key into an environment variable")
    if query and not re.fullmatch(r"api-version=[\w.-]+", query):
        raise ValueError("the address may have no query but api-version; put a key into an environment variable")
    return text


class PricesSection(Section):
    """The endpoint's prices in US dollars per million tokens."""

    input_usd_per_million: Annotated[float, Field(ge=0)]
    output_usd_per_million: Annotated[float, Field(ge=0)]


class BudgetSection(Section):
    """A hard cap in US dollars or in tokens; a cap in dollars needs prices."""

    usd: Annotated[float, Field(gt=0)] | None = None
    tokens: Count | None = None

    @model_validator(mode="after")
    def _one_cap(self) -> Self:
        if (self.usd is None) == (self.tokens is None):
            raise ValueError("give the budget in either usd or tokens")
        return self


class GateSection(Section):
    """The agreement that the lower end of the teacher's 95 % interval must reach on validation rows.

    A row that the teacher does not code counts as coded wrongly. If all rows have the same human code, no teacher
    passes.
    """

    metric: Literal["kappa", "accuracy", "macro_f1"] = "kappa"
    """``kappa``: Cohen's κ; for an ordinal task, quadratic weighted κ."""
    at_least: Annotated[float, Field(ge=-1, le=1)] = 0.6
    least_rows: Count = 30
    """With fewer different validation rows the teacher is refused, whatever its agreement; copies count once."""


class TeacherSection(Section):
    """The teacher LLM and how it is queried."""

    name: Name | None = None
    """Name in tables and files; required with several teachers. Default: the model's name."""
    base_url: Annotated[str, AfterValidator(_web_address)] = "https://api.openai.com/v1"
    model: Annotated[str, Field(min_length=1)]
    api_key_env: str | None = "OPENAI_API_KEY"
    """Environment variable with the API key; null for an endpoint without one. The default is sent to OpenAI only."""
    votes: Annotated[int, Field(ge=1, le=100)] = 3
    temperature: Annotated[float, Field(ge=0, le=2)] | None = 0.7
    """Null sends no temperature, for models that do not accept one."""
    seed: bool = True
    """Whether to send the vote's number as ``seed``; false for endpoints that reject it."""
    few_shot: Annotated[int, Field(ge=0, le=100)] = 0
    """Number of examples in each coding prompt, from human train rows only."""
    few_shot_choice: Literal["balanced", "fixed", "similar"] = "balanced"
    """``balanced``: equally many of each label. ``fixed``: those in ``few_shot_ids``. ``similar``: the train rows most
    similar to each response."""
    few_shot_ids: Annotated[tuple[str, ...], Field(strict=False)] = ()
    reasoning: bool = False
    """Whether the teacher gives a one-sentence reason before the label."""
    per_request: Annotated[int, Field(ge=1, le=100)] = 1
    """Responses per request."""
    logprobs: bool = False
    """Whether to request token log probabilities; soft labels are then computed from them."""
    confidence: bool = False
    """Whether the teacher states after each label, in percent, how probable it is that a human coder gives the same."""
    soft_labels: Literal["votes", "logprobs", "confidence"] | None = None
    """Source of the soft labels. Default: log probabilities where every vote has them, else the shares of the votes."""
    concurrency: Annotated[int, Field(ge=1, le=1000)] = 16
    tries: Annotated[int, Field(ge=1, le=20)] = 6
    """Attempts per answer before the response is set aside."""
    timeout_seconds: Annotated[float, Field(gt=0)] = 60.0
    max_output_tokens: Count = 300
    ties: Literal["set_aside", "first_vote", "logprobs", "confidence"] = "set_aside"
    """How ties are resolved: set the row aside, take the tied label of the earliest vote, or the more probable one, by
    log probabilities or by stated confidence."""
    cache: File = Path("teacher-cache")
    prices: PricesSection | None = None
    budget: BudgetSection | None = None
    gate: GateSection = GateSection()

    @model_validator(mode="after")
    def _dollars_need_prices(self) -> Self:
        if self.budget and self.budget.usd is not None and self.prices is None:
            raise ValueError("a budget in usd needs prices; give prices, or a budget in tokens")
        return self

    @model_validator(mode="after")
    def _prompts_agree(self) -> Self:
        if (self.few_shot_choice == "fixed") != bool(self.few_shot_ids):
            raise ValueError("few_shot_choice: fixed and few_shot_ids require each other")
        if len(set(self.few_shot_ids)) < len(self.few_shot_ids):
            raise ValueError("few_shot_ids has a duplicate id")
        if self.few_shot_ids and self.few_shot not in (0, len(self.few_shot_ids)):
            raise ValueError(
                f"few_shot is {self.few_shot}, and few_shot_ids has {len(self.few_shot_ids)} ids; remove few_shot"
            )
        if self.few_shot_choice == "similar" and not self.few_shot:
            raise ValueError("few_shot_choice: similar requires few_shot, the number of examples")
        if self.few_shot_choice == "similar" and self.per_request > 1:
            raise ValueError("few_shot_choice: similar requires per_request: 1")
        return self

    @model_validator(mode="after")
    def _sources_are_requested(self) -> Self:
        for source in ("logprobs", "confidence"):
            for key in ("ties", "soft_labels"):
                if getattr(self, key) == source and not getattr(self, source):
                    raise ValueError(f"{key}: {source} requires {source}: true")
        return self

    @property
    def called(self) -> str:
        """The teacher's name in tables and files."""
        return self.name or self.model


def _listed(value: object) -> object:
    return value if isinstance(value, list | tuple) else (value,)


Columns: TypeAlias = Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(strict=False)]


class ExistingLabelsSection(Section):
    """A teacher whose labels exist already: a table with an LLM's labels of the project's rows, found by their ids.

    No endpoint is asked. The labels are in one column, in several columns that are votes, or in a column of shares per
    label.
    """

    labels: File
    """The table, relative to the project file."""
    name: Name | None = None
    """Name in tables and files; required with several teachers. Default: the model's name, else that of the file."""
    model: Annotated[str, Field(min_length=1)] | None = None
    """The model that gave the labels, for provenance and methods."""
    id_column: Annotated[str, Field(min_length=1)] = "id"
    label_column: Annotated[str, Field(min_length=1)] | None = None
    """The column of the labels. Default: ``label``, unless votes or shares are given."""
    votes: Columns = ()
    """Columns that are votes of the same or of different models."""
    shares: str | None = None
    """How the names of the columns of shares begin: ``share_`` for ``share_LABEL``."""
    confidence: Annotated[Columns, BeforeValidator(_listed)] = ()
    """A column per column of labels: the probability that the label is the human code, in [0, 1]."""
    soft_labels: Literal["votes", "confidence"] | None = None
    """Source of the soft labels. Default: the shares of the votes."""
    ties: Literal["set_aside", "first_vote", "confidence"] = "set_aside"
    """As for a teacher that is asked."""
    unmatched: Literal["error", "set_aside"] = "error"
    """What happens to a label that is not in the codebook."""
    gate: GateSection = GateSection()

    @model_validator(mode="before")
    @classmethod
    def _nobody_is_asked(cls, values: Any) -> Any:
        if isinstance(values, dict):
            own = cls.model_fields.keys()
            if other := [name for name in TeacherSection.model_fields if name in values and name not in own]:
                raise ValueError(
                    f"{', '.join(other)} cannot be given together with labels, which exist already; remove "
                    f"{'it' if len(other) == 1 else 'them'}, or remove labels to ask an endpoint"
                )
            if isinstance(values.get("votes"), int | str):
                raise ValueError("votes names the columns of the votes: votes: [run1, run2, run3]")  # noqa: TRY004
        return values

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        given = {name for name in ("label_column", "votes", "shares") if getattr(self, name) not in (None, ())}
        if len(given) > 1:
            raise ValueError(f"give only one of {', '.join(sorted(given))}: each of them is where the labels are")
        if repeated := [name for name in self.votes if self.votes.count(name) > 1]:
            raise ValueError(f"votes names the column {repeated[0]!r} twice")
        if self.confidence and self.shares is not None:
            raise ValueError("confidence needs labels or votes; the shares are probabilities already")
        if self.confidence and len(self.confidence) != len(self.columns):
            raise ValueError(
                f"confidence names {len(self.confidence)} columns for {len(self.columns)} columns of labels; give one "
                "for each"
            )
        for key in ("ties", "soft_labels"):
            if getattr(self, key) == "confidence" and not self.confidence:
                raise ValueError(f"{key}: confidence requires confidence, a column of probabilities")
        if self.ties == "first_vote" and not self.votes:
            raise ValueError("ties: first_vote requires votes")
        return self

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of labels; empty if there are shares."""
        return () if self.shares is not None else self.votes or (self.label_column or "label",)

    @property
    def called(self) -> str:
        """The teacher's name in tables and files."""
        return self.name or self.model or self.labels.stem


# Tags with a space, as above.
_ASKED, _EXISTING = "an endpoint", "existing labels"


def _teacher_form(given: Any) -> str:
    has_labels = "labels" in given if isinstance(given, dict) else isinstance(given, ExistingLabelsSection)
    return _EXISTING if has_labels else _ASKED


AnyTeacher: TypeAlias = TeacherSection | ExistingLabelsSection
"""A teacher that is asked, or one whose labels exist already."""
_TeacherForm: TypeAlias = Annotated[
    Annotated[TeacherSection, Tag(_ASKED)] | Annotated[ExistingLabelsSection, Tag(_EXISTING)],
    Discriminator(_teacher_form),
]


def _all_different(values: tuple[float, ...]) -> tuple[float, ...]:
    if len(set(values)) < len(values):
        raise ValueError("temperature has a duplicate value")
    return values


class GenerateSection(Section):
    """Synthetic responses that the teacher writes for each label."""

    per_label: Count = 200
    """Samples for each label and temperature, before screening."""
    temperature: Annotated[
        tuple[Annotated[float, Field(ge=0, le=2)], ...],
        Field(min_length=1, strict=False),
        BeforeValidator(_listed),
        AfterValidator(_all_different),
    ] = (0.7,)
    """One temperature or a list."""
    samples_per_call: Annotated[int, Field(ge=1, le=100)] = 10
    examples_per_prompt: Annotated[int, Field(ge=0, le=50)] = 3
    variation: Literal["none", "persona", "length", "both"] = "none"
    """Whether each request names a persona, the length of a human response, or both."""
    personas: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(min_length=1, strict=False)] = (
        "who writes in full and careful sentences",
        "who writes in a hurry, in few words and without punctuation",
        "who is unsure and says so",
        "who uses everyday words instead of technical terms",
        "who thinks aloud and gives more detail than needed",
        "who writes in a second language and makes small mistakes",
    )
    """Each completes the sentence: The writer is somebody …"""
    max_output_tokens: Count = 2000
    near_duplicate: Annotated[float, Field(gt=0, le=1)] = 0.8
    """Jaccard similarity of character trigrams at which two texts count as duplicates."""
    regrade_votes: Count = 1
    keep: Literal["all", "consistent"] = "all"
    """``consistent`` keeps only samples that the teacher codes with the intended label."""


class SharesSection(Section):
    """Each source's share of the training set; the shares sum to 1."""

    human: Share = 0.0
    teacher: Share = 0.0
    synthetic: Share = 0.0

    @model_validator(mode="after")
    def _sum_to_one(self) -> Self:
        total = self.human + self.teacher + self.synthetic
        if abs(total - 1) > 1e-9:
            raise ValueError(f"human, teacher and synthetic sum to {total:g}; they must sum to 1")
        return self


class MixSection(Section):
    """The training set: a number of rows from each source, or a total size with shares."""

    human: Rows = "all"
    teacher: Rows = "all"
    synthetic_share: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the whole training set; synthetic rows are drawn in equal numbers per label."""
    size: Count | None = None
    """Rows of the whole training set. Used with ``shares``, instead of the three keys above."""
    shares: SharesSection | None = None
    balance: Literal["as_found", "per_label"] = "as_found"
    """``per_label``: equally many rows of each label from each source; with ``all``, as many as the rarest has."""
    labels: Literal["soft", "hard"] = "soft"
    """``soft`` keeps the teacher's vote shares for the soft loss; ``hard`` replaces them by the label."""
    min_consistency: Share = 0.0
    """Teacher labels with a lower consistency are left out of the training set."""
    min_confidence: Share = 0.0
    """Teacher labels with a lower stated confidence, or with none, are left out; above 0 it requires a teacher with
    ``confidence: true``."""
    seed: int = 0

    @model_validator(mode="after")
    def _counts_or_shares(self) -> Self:
        if (self.size is None) != (self.shares is None):
            raise ValueError("size and shares require each other")
        beside = self.model_fields_set & {"human", "teacher", "synthetic_share"}
        if self.shares and beside:
            raise ValueError(f"size and shares already set the row counts; remove {', '.join(sorted(beside))}")
        return self

    @property
    def has_synthetic(self) -> bool:
        """Whether the training set has synthetic rows."""
        return (self.shares.synthetic if self.shares else self.synthetic_share) > 0


def _name_to_section(given: object) -> object:
    return {"backbone": given} if isinstance(given, str) else given


class AssistantSection(Section):
    """A large student that is fine-tuned first and teaches the small one."""

    backbone: Annotated[str, Field(min_length=1)]
    """As `StudentSection.backbone`."""
    preset: Preset = "standard"
    learning_rate: Learning | None = None
    """Peak learning rate. Default: from ``preset``."""
    epochs: Count | None = None
    """Default: from ``preset``."""
    batch_size: Count = 16
    seeds: Annotated[tuple[int, ...], Field(min_length=1, strict=False)] = (0,)
    """One assistant is trained per seed; their probabilities are averaged."""

    @model_validator(mode="after")
    def _preset_decides(self) -> Self:
        if "preset" in self.model_fields_set and self.search.is_complete:
            raise ValueError("learning_rate and epochs are given, so that preset decides nothing; remove one of them")
        return self

    @property
    def search(self) -> SearchSection:
        """The settings as a search of one trial."""
        return SearchSection(
            learning_rate=None if self.learning_rate is None else (self.learning_rate,),
            epochs=None if self.epochs is None else (self.epochs,),
            batch_size=(self.batch_size,),
        )


Size: TypeAlias = Literal["nano", "frozen"] | Count
"""A kind of student, or a number of layers of the backbone."""


class StudentSection(Section):
    """The student: the small model and how it is trained."""

    old_keys: ClassVar[Mapping[str, str]] = {"objective": "loss"}

    backbone: Annotated[str, Field(min_length=1)] = "minilm"
    """A name of `edgedistill.backbones.BACKBONES`, a folder (relative to the project file), or a name on the
    Hugging Face Hub."""
    max_tokens: Annotated[int, Field(ge=8, le=8192)] | None = None
    """Longest input in tokens; longer ones are cut, the context first. Default: the 99th percentile of the training
    rows, at most 512 and at most what the backbone reads; `mix` records it."""
    kind: Literal["fine-tuned", "frozen", "nano"] = "fine-tuned"
    """``frozen``: the backbone is not trained; a linear classifier on its first token is fitted. ``nano``: a vector for
    each token, from the backbone, and a small classifier of their mean are trained; the bundle has at most 3 MB."""
    loss: LossSection = LossSection()
    patience: Count | None = None
    """Early stopping: end a trial after this many epochs without improvement on validation rows. Default: train all
    epochs. The learning rate schedule is not shortened."""
    peft: Literal["lora"] | None = None
    """``lora``: train adapters of a decoder such as Mistral, and merge them into its weights."""
    lora: LoraSection = LoraSection()
    preset: Preset = "standard"
    """How long to train. Learning rate and epochs follow from the number of training rows and the backbone
    (`edgedistill.student.presets`), except those that ``search`` gives."""
    search: SearchSection = SearchSection()
    seeds: Annotated[tuple[int, ...], Field(min_length=1, strict=False)] = (0,)
    assistant: Annotated[AssistantSection | None, BeforeValidator(_name_to_section)] = None
    """A backbone, or a mapping. A larger student that is trained on the same rows, and whose probabilities for all
    texts are what the student learns."""
    shrink: ShrinkSection | None = None
    """A second, smaller student, written to the folder ``shrunk``."""
    sizes: Annotated[tuple[Size, ...], Field(min_length=2, strict=False)] | None = None
    """Several students: numbers of the backbone's layers, ``nano`` and ``frozen``. The smallest that is not worse than
    the best is evaluated and exported."""
    not_worse_by: Annotated[float, Field(gt=0, lt=1)] = 0.03
    """With ``sizes``: the κ that the smallest may lose."""

    @model_validator(mode="after")
    def _settings_are_read(self) -> Self:
        if self.peft is None and "lora" in self.model_fields_set:
            raise ValueError("lora requires peft: lora")
        idle = sorted({"assistant", "loss", "patience", "peft", "preset"} & self.model_fields_set)
        if self.kind == "frozen" and idle:
            raise ValueError(f"kind: frozen does not train the backbone; remove {', '.join(idle)}")
        if "preset" in self.model_fields_set and self.search.is_complete:
            raise ValueError(
                "search gives learning_rate and epochs, so that preset decides nothing; remove one of them"
            )
        if self.kind == "nano" and (other := sorted({"peft", "shrink"} & self.model_fields_set)):
            raise ValueError(f"kind: nano has no layers; remove {', '.join(other)}")
        if self.assistant and (idle := sorted({"targets", "class_weights"} & self.loss.model_fields_set)):
            raise ValueError(f"the assistant's probabilities are the targets; remove loss.{idle[0]}, or assistant")
        return self

    @model_validator(mode="after")
    def _sizes_stand_alone(self) -> Self:
        if self.sizes is None and "not_worse_by" in self.model_fields_set:
            raise ValueError("not_worse_by requires sizes")
        if self.sizes and self.kind != "fine-tuned":
            raise ValueError(f"sizes trains several kinds; remove kind: {self.kind} and add {self.kind} to sizes")
        if self.sizes and (other := sorted({"peft", "shrink"} & self.model_fields_set)):
            raise ValueError(f"sizes trains the smaller students itself; remove {', '.join(other)}")
        if self.sizes and (repeated := [size for size in self.sizes if self.sizes.count(size) > 1]):
            raise ValueError(f"sizes names {repeated[0]} twice")
        return self

    @property
    def token_limit(self) -> int:
        """``max_tokens``, once it is known: as given, or as it follows from the training rows.

        Raises:
            ValueError: It is not known yet.
        """
        if self.max_tokens is None:
            raise ValueError("max_tokens is not known before the training rows are")
        return self.max_tokens

    @property
    def adapters(self) -> LoraSection | None:
        """The LoRA settings; None for full fine-tuning."""
        return self.lora if self.peft else None


class EvaluationSection(Section):
    """Measurements on the test rows besides agreement, and whether probabilities are calibrated."""

    calibrate: bool = True
    """Temperature scaling fitted on validation rows; labels do not change."""
    positive: str | None = None
    """The positive label, whose precision, recall and F1 are reported."""
    coders: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """Columns of the human file with individual coders' codes. With one column, `label` counts as the other coder."""
    alt_test_epsilon: Annotated[float, Field(ge=0, lt=1)] = 0.15
    """With three or more coders, the advantage that the alternative annotator test grants to teacher and student
    because they are cheap: 0.2 in place of experts, 0.15 of trained coders, 0.1 of crowd workers."""
    subgroups: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """Columns of the human file; agreement is reported for each of their values."""
    smallest_subgroup: Count = 20
    """Subgroups with fewer test rows are not reported."""
    population: File | None = None
    """A file of uncoded responses; label prevalence is estimated on it, corrected for the student's errors."""
    human_trained: File | None = None
    """Run folder of a student trained on this project's human train rows only, for comparison."""

    @model_validator(mode="after")
    def _different_coders(self) -> Self:
        if repeated := [name for name in self.coders if self.coders.count(name) > 1]:
            raise ValueError(f"coders names the column {repeated[0]!r} twice")
        return self


class NoveltySection(Section):
    """Which responses are so unlike the training texts that a person reviews them."""

    false_alarms: Annotated[float, Field(gt=0, lt=1)] | None = 0.05
    """Largest share of responses like the validation rows that may be sent to a person for this reason alone; null:
    the novelty is measured and not limited."""


class ReviewSection(Section):
    """The decision rule: its aim, for which validation rows choose thresholds, and what people review in any case."""

    aim: Literal["at_most_wrong", "keep_kappa", "at_most_to_people"] | None = None
    """Without an aim there are no thresholds. Only ``at_most_wrong`` promises something of other responses."""
    at_least: Annotated[float, Field(gt=0, le=1)] | None = None
    """With ``keep_kappa``: the κ that the lower end of the accepted rows' interval must reach."""
    share: Annotated[float, Field(gt=0, lt=1)] | None = None
    """With ``at_most_to_people``: the largest share of responses that people can review. With ``at_most_wrong``: the
    largest share of the accepted responses whose label differs from the human code."""
    confidence: Annotated[float, Field(ge=0.5, lt=1)] | None = None
    """With ``at_most_wrong``: the probability with which the promise is kept; 0.95 if it is not given."""
    per_label: bool = False
    """With ``at_most_wrong``: whether the promise holds for each label, not only for all together."""
    groups: str | None = None
    """With ``at_most_wrong``: a column of the human file; the promise holds in each of the groups of learners that it
    names."""
    max_unknown_share: Annotated[float, Field(ge=0, le=1)] = MAX_UNKNOWN_SHARE
    """A response with a larger `unknown_share` is unreadable, and a person reviews it; 1 accepts all."""
    new_questions: Literal["review", "accept"] | None = None
    """Whether a person reviews responses to questions that no validation row has. Default: ``review``, or with
    ``data.questions: held_out``, whose validation rows stand for new questions, ``accept``. It has no effect if the
    validation rows have fewer than three rows per question: then the questions are open. With ``at_most_wrong``,
    ``accept`` asks for a promise about new questions, which needs many validation questions that were not trained
    on."""
    novelty: NoveltySection | None = NoveltySection()
    """The limit of novelty; null: it is not measured."""

    @model_validator(mode="after")
    def _number_fits_aim(self) -> Self:
        given = {name for name in ("at_least", "share", "confidence", "per_label", "groups") if getattr(self, name)}
        if self.aim is None:
            if given:
                raise ValueError(f"the key review.aim is missing, which {', '.join(sorted(given))} needs")
            return self
        required = "at_least" if self.aim == "keep_kappa" else "share"
        if required not in given:
            raise ValueError(f"aim {self.aim} needs the key {required}")
        optional = {"confidence", "per_label", "groups"} if self.aim == "at_most_wrong" else set()
        if other := sorted(given - optional - {required}):
            raise ValueError(f"aim {self.aim} takes {required}, not {', '.join(other)}")
        if self.groups in ("id", "label", "split", "response", "question", "reference_answer", "rubric"):
            raise ValueError(f"groups: {self.groups} is not a column of groups of learners")
        return self


class ExportSection(Section):
    """The ONNX model."""

    precision: Literal["auto", "int8", "fp32"] = "int8"
    """``auto`` tries every quantization recipe on this CPU and keeps the fastest within ``max_flip_rate``."""
    vocabulary: Literal["full", "cut"] = "full"
    """``cut`` drops tokens that no text of the project needs (test rows excluded), and those that a single learner
    used: a smaller file."""
    golden: Literal["written", "validation"] = "written"
    """The rows of the bundle's self-check: ``written`` for the purpose, or ``validation`` rows verbatim: whoever gets
    the bundle can then read these responses."""
    max_flip_rate: Share = 0.01
    fp32_beside: bool = True
    """Whether the bundle also has the fp32 graph, for CPUs on which int8 fails its self-check. Without it the bundle
    is a fifth of the size, and such a CPU refuses it."""


class ReportSection(Section):
    """Optional parts of the report."""

    examples: Annotated[int, Field(ge=0, le=1000)] = 0
    """Number of wrongly coded test responses to show with their texts; 0 shows ids and labels only."""
    study: File | None = None
    """Folder of a study (with its ``runs.csv``) whose curve is shown."""


class Project(Section):
    """A project file, read and checked.

    Attributes:
        path: The file itself; every relative path starts from its folder.
    """

    name: Name
    task: TaskSection
    data: DataSection
    teacher: _TeacherForm | None = None
    teachers: Annotated[tuple[_TeacherForm, ...], Field(strict=False)] = ()
    """Several teachers, each with a name, instead of ``teacher``."""
    teachers_vote: Literal["majority", "gate_weighted"] = "majority"
    """How several teachers' labels are combined: equal weights, or weights by agreement at the gate."""
    generate: GenerateSection | None = None
    mix: MixSection = MixSection()
    student: StudentSection = StudentSection()
    evaluation: EvaluationSection = EvaluationSection()
    review: ReviewSection | None = None
    """Without it no thresholds are chosen: only blank, unreadable and truncated responses, and those to new
    questions, go to people."""
    export: ExportSection = ExportSection()
    report: ReportSection = ReportSection()
    path: Annotated[Path, Field(exclude=True)] = Path("project.yaml")

    @model_validator(mode="after")
    def _required_sections(self) -> Self:
        if self.generate and not self.panel:
            raise ValueError("generate needs a teacher section")
        if self.generate and not self.asked:
            raise ValueError(
                "generate needs a teacher with an endpoint, which writes the responses; labels that exist already "
                "write none"
            )
        if self.mix.has_synthetic and not self.generate:
            key = "mix.shares.synthetic" if self.mix.shares else "mix.synthetic_share"
            raise ValueError(f"{key} needs a generate section")
        if self.mix.min_confidence and not (self.panel and all(teacher.confidence for teacher in self.panel)):
            raise ValueError(
                "mix.min_confidence requires confidence: true in every teacher section, or its column for labels that "
                "exist already"
            )
        if self.student.loss.ordinal != "nominal" and self.task.kind != "ordinal":
            raise ValueError(f"student.loss.ordinal: {self.student.loss.ordinal} requires task.kind: ordinal")
        return self

    @model_validator(mode="after")
    def _one_label_per_response(self) -> Self:
        if self.task.kind != "multilabel":
            return self
        if self.generate:
            raise ValueError(
                "generate writes responses for one label, so it does not support multilabel tasks; remove it, or split "
                "the task into one nominal task per label"
            )
        if self.mix.balance == "per_label":
            raise ValueError(
                "mix.balance: per_label does not support multilabel tasks, whose rows may have several labels; use "
                "as_found"
            )
        if self.student.loss.class_weights != "none":
            raise ValueError(
                "student.loss.class_weights: balanced does not support multilabel tasks; remove it: each label has its "
                "own threshold, which accounts for label frequency"
            )
        if any(teacher.logprobs for teacher in self.asked):
            raise ValueError(
                "logprobs does not support multilabel tasks, for which the teacher returns a list; remove it and use "
                "several votes"
            )
        if any("confidence" in (teacher.ties, teacher.soft_labels) for teacher in self.panel):
            raise ValueError(
                "ties and soft_labels: confidence do not support multilabel tasks, for which the teacher states one "
                "confidence for the whole set of labels"
            )
        return self

    @model_validator(mode="after")
    def _known_positive(self) -> Self:
        names = self.task.task.names
        if self.evaluation.positive is not None and self.evaluation.positive not in names:
            raise ValueError(f"evaluation.positive is not a label; the labels are {', '.join(names)}")
        return self

    @model_validator(mode="after")
    def _groups_are_not_codes(self) -> Self:
        if self.review and self.review.groups in self.evaluation.coders:
            raise ValueError(
                f"review.groups: {self.review.groups} is a column of evaluation.coders, not of groups of learners"
            )
        return self

    @model_validator(mode="after")
    def _questions_are_known(self) -> Self:
        if self.data.questions != "held_out":
            return self
        if self.data.question_by is None and self.task.inputs == ("response",):
            raise ValueError(
                "data.questions: held_out needs each row's question; name its column in data.question_by, or add "
                "question to task.inputs"
            )
        if self.review and self.review.new_questions == "review":
            raise ValueError(
                "review.new_questions: review would send every response to a person, because with data.questions: "
                "held_out the validation rows answer other questions than the train rows; use accept"
            )
        return self

    @model_validator(mode="after")
    def _one_panel(self) -> Self:
        if self.teacher and self.teachers:
            raise ValueError("give either teacher or teachers, not both")
        if unnamed := [number for number, teacher in enumerate(self.teachers, 1) if teacher.name is None]:
            raise ValueError(f"teacher {unnamed[0]} in teachers has no name")
        if len({teacher.name for teacher in self.teachers}) < len(self.teachers):
            raise ValueError("two teachers have the same name")
        return self

    @property
    def panel(self) -> tuple[AnyTeacher, ...]:
        """All teachers: none, ``teacher`` alone, or ``teachers``."""
        return (self.teacher,) if self.teacher else self.teachers

    @property
    def asked(self) -> tuple[TeacherSection, ...]:
        """The teachers with an endpoint."""
        return tuple(each for each in self.panel if isinstance(each, TeacherSection))

    @property
    def folder(self) -> Path:
        """The project file's folder."""
        return self.path.parent

    @property
    def run_folder(self) -> Path:
        """The run folder: ``runs/NAME`` next to the project file."""
        return self.folder / "runs" / self.name
