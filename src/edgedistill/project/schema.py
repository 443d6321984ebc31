"""The sections of a project file, each a frozen model that refuses what it does not know.

task_section.py      what is coded
data_section.py      the files
teacher_section.py   the LLM
generate_section.py  the responses that it writes
mix_section.py       what the student learns from
student_section.py   how it learns
evaluation_section.py what is reported of it, and which of its scores people look at
export_section.py    the bundle
report_section.py    what the report shows beyond figures
field_types.py       what sections are made of
"""

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, model_validator

from edgedistill.task import Label, Task
from edgedistill_serve.task.redaction import Redaction
from edgedistill_serve.task.task import Kind
from edgedistill_serve.task.task import Task as ScoredTask

Count: TypeAlias = Annotated[int, Field(ge=1)]
File: TypeAlias = Annotated[Path, Field(strict=False)]
Share: TypeAlias = Annotated[float, Field(ge=0, le=1)]
Rows: TypeAlias = Literal["all"] | Annotated[int, Field(ge=0)]
Name: TypeAlias = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
Learning: TypeAlias = Annotated[float, Field(gt=0, lt=1)]


class Section(BaseModel):
    """A section: frozen, strict about its keys and types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class LoraSection(Section):
    """Low-rank adapters (Hu et al. 2021, arXiv:2106.09685) beside weights that stay as they are."""

    rank: Count = 16
    alpha: Count = 32
    """Divided by ``rank``, it scales what the adapters add."""
    targets: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(min_length=1, strict=False)] = (
        "all-linear",
    )
    """Names of the layers that get adapters, such as ``q_proj``; ``all-linear`` is every linear layer but the head, as
    Dettmers et al. 2023 (arXiv:2305.14314, section 4) found to be needed to match full fine-tuning."""


class ObjectiveSection(Section):
    """Which labels are learnt from, and how they stand to each other."""

    labels: Literal["hard", "soft", "both"] = "hard"
    """``hard``: the label that counts as right. ``soft``: the shares of the teacher's votes. ``both``: a mixture of the
    two. A row with one label in its shares (a human code, a synthetic row) is taught the same by all three."""
    soft_weight: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Weight of the soft part in ``both``."""
    temperature: Annotated[float, Field(ge=0.1, le=100)] = 1.0
    """Divides the logits in the soft part; above 1, labels with small shares pull more strongly."""
    class_weights: Literal["none", "balanced"] = "none"
    """``balanced``: each label's rows together count the same, however many they are."""
    scale: Literal["nominal", "cumulative", "expected_score"] = "nominal"
    """How far off a label is, for ``kind: ordinal``: ``nominal`` does not ask; ``cumulative`` asks at each step of the
    scale whether the response is above it; ``expected_score`` adds the squared error of the expected place."""

    @model_validator(mode="after")
    def _heard(self) -> Self:
        if self.labels == "hard" and "temperature" in self.model_fields_set:
            raise ValueError("temperature goes with labels: soft or both")
        if self.labels != "both" and "soft_weight" in self.model_fields_set:
            raise ValueError("soft_weight goes with labels: both")
        return self


class LearningRange(Section):
    """Any learning rate between two, as likely in each octave."""

    low: Learning
    high: Learning

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low is {self.low:g} and high is {self.high:g}; low must be the lower")
        return self


class CountRange(Section):
    """Any whole number between two, both included."""

    low: Count
    high: Count

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low is {self.low} and high is {self.high}; low must be the lower")
        return self


# No word characters alone: a complaint about a key then leaves the branch out of the key's name.
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


class SearchSection(Section):
    """Values to try, judged on validation rows."""

    method: Literal["grid", "tpe"] = "grid"
    """``grid``: every combination of the lists. ``tpe``: settings that a tree-structured Parzen estimator proposes
    (Bergstra et al. 2011), of lists or ranges."""
    trials: Count | None = None
    """How many settings ``tpe`` proposes; each is run with every seed."""
    learning_rate: LearningRates = (5e-5,)
    batch_size: Counts = (16,)
    epochs: Counts = (4,)
    prune: bool = False
    """Whether a trial ends early when its best macro-F1 so far is below the median of the earlier trials after as many
    epochs; the first five trials are never ended."""

    @model_validator(mode="after")
    def _what_the_method_takes(self) -> Self:
        if self.method == "tpe":
            if self.trials is None:
                raise ValueError("method tpe needs trials, the number of settings that it proposes")
            return self
        if self.trials is not None:
            raise ValueError("trials goes with method tpe; a grid has as many as its lists combine to")
        for name in ("learning_rate", "batch_size", "epochs"):
            if _form(getattr(self, name)) == _RANGE:
                raise ValueError(f"{name} is a range, which needs method tpe; a grid takes a list")
        return self


class ShrinkSection(Section):
    """How the second student is made."""

    layers: Count = 3
    kept: Annotated[tuple[Annotated[int, Field(ge=0)], ...] | None, Field(strict=False)] = None
    """Which of the first student's layers it begins with, counted from 0; evenly spaced where none are named."""
    vocabulary: Literal["cut", "full"] = "cut"
    """``cut`` leaves out the pieces that no text it learns from needs."""
    epochs: Count = 10
    learning_rate: Learning = 1e-4
    batch_size: Count = 16
    temperature: Annotated[float, Field(ge=0.1, le=100)] = 2.0
    """Both students' logits are divided by it before they are compared."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    export: bool = False
    """Whether the smaller student is the one that is evaluated as the student, and exported."""

    @model_validator(mode="after")
    def _kept_are_layers(self) -> Self:
        if self.kept is not None and (len(self.kept) != self.layers or list(self.kept) != sorted(set(self.kept))):
            raise ValueError(f"kept names {self.layers} different layers, the lowest first")
        return self


class LabelSection(Section):
    """One code of the codebook."""

    name: Annotated[str, Field(min_length=1, max_length=200)]
    definition: str = ""


class RedactSection(Section):
    """What is replaced in every text beside web addresses, e-mail addresses and phone numbers."""

    ids: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """Regular expressions, such as ``S[0-9]{6}``."""

    @model_validator(mode="after")
    def _readable(self) -> Self:
        _ = self.redaction  # raises what is wrong with a pattern
        return self

    @property
    def redaction(self) -> Redaction:
        """The same as a bundle knows it."""
        return Redaction(self.ids)


def _switch(given: object) -> object:
    return {True: {}, False: None}[given] if isinstance(given, bool) else given


class TaskSection(Section):
    """What is coded: the codebook, its labels, the inputs of a response."""

    kind: Kind = "nominal"
    instructions: str = ""
    labels: Annotated[tuple[LabelSection, ...], Field(min_length=2, strict=False)]
    inputs: Annotated[tuple[str, ...], Field(min_length=1, strict=False)] = ("response",)
    redact: Annotated[RedactSection | None, BeforeValidator(_switch)] = None
    """It stands here, not with the teacher, since student and bundle replace the same: true, or a mapping with ids."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        _ = self.coded  # raises what is wrong
        return self

    @property
    def coded(self) -> Task:
        """The same as the Python API knows it."""
        labels = tuple(Label(label.name, label.definition) for label in self.labels)
        redact = self.redact.redaction if self.redact else None
        return Task(self.kind, labels, self.inputs, redact, self.instructions)

    @property
    def task(self) -> ScoredTask:
        """The part of the section that a student and a bundle know: no instructions."""
        return self.coded.scored


class SplitSection(Section):
    """Shares of the human-coded rows; they sum to 1."""

    train: Annotated[float, Field(gt=0, lt=1)] = 0.6
    validation: Annotated[float, Field(gt=0, lt=1)] = 0.2
    test: Annotated[float, Field(gt=0, lt=1)] = 0.2
    seed: int = 0

    @model_validator(mode="after")
    def _sums_to_one(self) -> Self:
        if abs(self.train + self.validation + self.test - 1) > 1e-9:
            raise ValueError(
                f"train, validation and test sum to {self.train + self.validation + self.test:g}, not to 1"
            )
        return self


class DataSection(Section):
    """The files; paths are relative to the project file."""

    human: File
    unlabelled: File | None = None
    reviewed: File | None = None
    """Codes that people gave at review, which `edgedistill review merge` writes: train rows, never others."""
    group_by: str | None = None
    split: SplitSection = SplitSection()
    max_characters: Count = 10_000
    """A longer response is set aside: it is no answer to an open question, and would be paid for by the token."""


def _web_address(text: str) -> str:
    if not re.match(r"https?://[^\s/]", text):
        raise ValueError(f"{text!r} begins with neither http:// nor https://")
    return text


class PricesSection(Section):
    """What the endpoint asks, in US dollars per million tokens."""

    input_usd_per_million: Annotated[float, Field(ge=0)]
    output_usd_per_million: Annotated[float, Field(ge=0)]


class BudgetSection(Section):
    """A hard cap, in dollars or in tokens; a cap in dollars needs prices."""

    usd: Annotated[float, Field(gt=0)] | None = None
    tokens: Count | None = None

    @model_validator(mode="after")
    def _one_cap(self) -> Self:
        if (self.usd is None) == (self.tokens is None):
            raise ValueError("a budget is either usd or tokens")
        return self


class GateSection(Section):
    """What the teacher must reach on validation rows: the 95 % interval's lower end counts."""

    metric: Literal["kappa", "accuracy", "macro_f1"] = "kappa"
    """``kappa`` is Cohen's κ, for an ordinal task the quadratic weighted κ."""
    at_least: Annotated[float, Field(ge=-1, le=1)] = 0.6


class TeacherSection(Section):
    """The LLM and how it is asked."""

    name: Name | None = None
    """What tables and files call it, where there are several; else the model's name stands there."""
    base_url: Annotated[str, AfterValidator(_web_address)] = "https://api.openai.com/v1"
    model: Annotated[str, Field(min_length=1)]
    api_key_env: str | None = "OPENAI_API_KEY"
    """The environment variable that holds the key; null for an endpoint that wants none."""
    votes: Annotated[int, Field(ge=1, le=100)] = 3
    temperature: Annotated[float, Field(ge=0, le=2)] | None = 0.7
    """Null sends none, for a model that takes none: the votes are then as varied as the model makes them."""
    seed: bool = True
    """Whether the vote's number is sent as ``seed``; false for an endpoint that refuses it."""
    few_shot: Annotated[int, Field(ge=0, le=100)] = 0
    """Examples in every coding prompt, from human train rows only."""
    few_shot_choice: Literal["balanced", "fixed", "similar"] = "balanced"
    """As many of each label; those of ``few_shot_ids``; or, for each response, the rows most like it."""
    few_shot_ids: Annotated[tuple[str, ...], Field(strict=False)] = ()
    reasoning: bool = False
    """Whether the answer gives a reason in one sentence before the label."""
    per_request: Annotated[int, Field(ge=1, le=100)] = 1
    """How many responses one request carries."""
    logprobs: bool = False
    """Whether the endpoint is asked how probable the label's tokens were; the soft labels then come from there."""
    concurrency: Annotated[int, Field(ge=1, le=1000)] = 16
    tries: Annotated[int, Field(ge=1, le=20)] = 6
    """How often one answer is asked for before its response is set aside."""
    timeout_seconds: Annotated[float, Field(gt=0)] = 60.0
    max_output_tokens: Count = 300
    ties: Literal["set_aside", "first_vote", "logprobs"] = "set_aside"
    """What a tie of votes becomes: a set-aside row, the tied label that was voted first, or the more probable one."""
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
            raise ValueError("few_shot_choice: fixed and few_shot_ids belong together")
        if len(set(self.few_shot_ids)) < len(self.few_shot_ids):
            raise ValueError("an id stands twice in few_shot_ids")
        if self.few_shot_ids and self.few_shot not in (0, len(self.few_shot_ids)):
            raise ValueError(
                f"few_shot is {self.few_shot}, and few_shot_ids has {len(self.few_shot_ids)}; leave it out"
            )
        if self.few_shot_choice == "similar" and not self.few_shot:
            raise ValueError("few_shot_choice: similar needs few_shot, the number of examples")
        if self.few_shot_choice == "similar" and self.per_request > 1:
            raise ValueError("few_shot_choice: similar chooses for one response; it needs per_request: 1")
        if self.ties == "logprobs" and not self.logprobs:
            raise ValueError("ties: logprobs needs logprobs: true")
        return self

    @property
    def called(self) -> str:
        """The name that tables and files give this teacher."""
        return self.name or self.model


def _listed(value: object) -> object:
    return value if isinstance(value, list | tuple) else (value,)


def _all_different(values: tuple[float, ...]) -> tuple[float, ...]:
    if len(set(values)) < len(values):
        raise ValueError("a temperature stands twice")
    return values


class GenerateSection(Section):
    """Synthetic responses that the teacher writes for each label."""

    per_label: Count = 200
    """Samples of each label, at each temperature; what the screening removes is not written anew."""
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
    """Whether each request asks to write as another persona, or at the length of a human response, or both."""
    personas: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(min_length=1, strict=False)] = (
        "who writes in full and careful sentences",
        "who writes in a hurry, in few words and without punctuation",
        "who is unsure and says so",
        "who uses everyday words instead of technical terms",
        "who thinks aloud and gives more detail than needed",
        "who writes in a second language and makes small mistakes",
    )
    """Each completes the sentence: The person who writes is somebody …"""
    max_output_tokens: Count = 2000
    near_duplicate: Annotated[float, Field(gt=0, le=1)] = 0.8
    """Two texts that share so much of their character trigrams count as one."""
    regrade_votes: Count = 1
    keep: Literal["all", "consistent"] = "all"
    """Whether samples that the teacher codes otherwise than intended are kept."""


class SharesSection(Section):
    """What share of the training set each source gives; the shares sum to 1."""

    human: Share = 0.0
    teacher: Share = 0.0
    synthetic: Share = 0.0

    @model_validator(mode="after")
    def _sum_to_one(self) -> Self:
        total = self.human + self.teacher + self.synthetic
        if abs(total - 1) > 1e-9:
            raise ValueError(f"human, teacher and synthetic sum to {total:g}, not to 1")
        return self


class MixSection(Section):
    """The training set: so many rows of each source, or stated shares of a stated size."""

    human: Rows = "all"
    teacher: Rows = "all"
    synthetic_share: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the whole training set; the synthetic rows are drawn in equal numbers per label."""
    size: Count | None = None
    """Rows of the whole training set; goes with ``shares``, in the place of the three keys above."""
    shares: SharesSection | None = None
    balance: Literal["as_found", "per_label"] = "as_found"
    """``per_label``: each source gives as many rows of each label, as synthetic rows always do; of ``all`` rows those
    that the rarest label allows."""
    labels: Literal["soft", "hard"] = "soft"
    """What a row's shares hold: the teacher's vote shares, or all on the one label. A soft objective reads them."""
    min_consistency: Share = 0.0
    """Teacher labels whose votes agree less than this are left out of the training set."""
    seed: int = 0

    @model_validator(mode="after")
    def _one_way_to_count(self) -> Self:
        if (self.size is None) != (self.shares is None):
            raise ValueError("size and shares go together")
        beside = self.model_fields_set & {"human", "teacher", "synthetic_share"}
        if self.shares and beside:
            raise ValueError(f"size and shares say how many rows there are; leave out {', '.join(sorted(beside))}")
        return self

    @property
    def wants_synthetic(self) -> bool:
        """Whether the training set holds synthetic rows."""
        return (self.shares.synthetic if self.shares else self.synthetic_share) > 0


class StudentSection(Section):
    """The small model."""

    backbone: Annotated[str, Field(min_length=1)] = "minilm"
    """``minilm``, a folder (relative to the project file), or a name on the Hugging Face Hub."""
    max_tokens: Annotated[int, Field(ge=8, le=8192)] = 128
    kind: Literal["fine-tuned", "frozen"] = "fine-tuned"
    """``frozen``: the backbone stays as it is, and only a linear classifier on its first token is fitted."""
    objective: ObjectiveSection = ObjectiveSection()
    patience: Count | None = None
    """A trial ends when so many epochs in a row were no better than the best before, on validation rows; left out, it
    makes all of its epochs. The learning rate falls as if all were made."""
    peft: Literal["lora"] | None = None
    """``lora``: a decoder such as Mistral learns adapters, which the student's weights then hold."""
    lora: LoraSection = LoraSection()
    search: SearchSection = SearchSection()
    seeds: Annotated[tuple[int, ...], Field(min_length=1, strict=False)] = (0,)
    shrink: ShrinkSection | None = None
    """A second student with fewer layers, taught by the first; it lies in the folder ``shrunk``."""

    @model_validator(mode="after")
    def _settings_are_read(self) -> Self:
        if self.peft is None and "lora" in self.model_fields_set:
            raise ValueError("lora goes with peft: lora")
        idle = sorted({"objective", "patience", "peft"} & self.model_fields_set)
        if self.kind == "frozen" and idle:
            raise ValueError(f"kind: frozen trains no weights of the backbone; leave out {', '.join(idle)}")
        return self

    @property
    def adapters(self) -> LoraSection | None:
        """What adapters the student learns; None where its weights are trained."""
        return self.lora if self.peft else None


class EvaluationSection(Section):
    """What is measured on the test rows beside agreement, and whether probabilities are calibrated."""

    calibrate: bool = True
    """Whether validation rows choose a temperature that the bundle divides the logits by; labels stay as they are."""
    positive: str | None = None
    """The label whose own precision, recall and F1 are told."""
    coders: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """Columns of the human file with the codes of single coders; with one, the column label is the other coder."""
    subgroups: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """Columns of the human file whose groups are looked at one by one."""
    smallest_subgroup: Count = 20
    """Groups with fewer test rows have no figures."""
    population: File | None = None
    """A file of uncoded responses whose shares of labels are estimated, corrected for the student's errors."""
    human_trained: File | None = None
    """The run folder of a student that learnt from this project's human train rows alone, to be compared with."""


class ReviewSection(Section):
    """The aim by which validation rows choose a threshold per label."""

    aim: Literal["keep_kappa", "at_most_to_people"]
    at_least: Annotated[float, Field(gt=0, le=1)] | None = None
    """With ``keep_kappa``: what the lower end of the accepted rows' interval must reach."""
    share: Annotated[float, Field(gt=0, lt=1)] | None = None
    """With ``at_most_to_people``: the share of responses that people have time for."""

    @model_validator(mode="after")
    def _the_aims_own_number(self) -> Self:
        wanted, other = ("at_least", "share") if self.aim == "keep_kappa" else ("share", "at_least")
        if getattr(self, wanted) is None:
            raise ValueError(f"the aim {self.aim} needs the key {wanted}")
        if getattr(self, other) is not None:
            raise ValueError(f"the aim {self.aim} has no key {other}; its number is {wanted}")
        return self


class ExportSection(Section):
    """The ONNX model."""

    precision: Literal["auto", "int8", "fp32"] = "int8"
    """``auto`` tries every recipe on the validation rows and this processor: the fastest that keeps the labels."""
    vocabulary: Literal["full", "cut"] = "full"
    """``cut`` leaves out the pieces that no text of the project needs, test rows not counted: a smaller file."""
    max_flip_rate: Share = 0.01
    fp32_beside: bool = True
    """Whether the fp32 graph lies beside the int8 one, for processors on which int8 fails its self-check. Without it
    the bundle is a fifth as large, and such a processor refuses it."""


class ReportSection(Section):
    """What the report shows beyond figures."""

    examples: Annotated[int, Field(ge=0, le=1000)] = 0
    """Wrongly coded test responses that are shown with their texts; 0: ids and labels alone."""
    study: File | None = None
    """The folder of a study, with its ``runs.csv``, whose curve is shown too."""


class Project(Section):
    """A project file, read and checked.

    Attributes:
        path: The file itself; every relative path starts from its folder.
    """

    name: Name
    task: TaskSection
    data: DataSection
    teacher: TeacherSection | None = None
    teachers: Annotated[tuple[TeacherSection, ...], Field(strict=False)] = ()
    """Several teachers, each with a name, in the place of one."""
    teachers_vote: Literal["majority", "gate_weighted"] = "majority"
    """How several teachers make one label: each counts the same, or by its agreement at the gate."""
    generate: GenerateSection | None = None
    mix: MixSection = MixSection()
    student: StudentSection = StudentSection()
    evaluation: EvaluationSection = EvaluationSection()
    review: ReviewSection | None = None
    """Without it no threshold is chosen: only blank and truncated responses go to people."""
    export: ExportSection = ExportSection()
    report: ReportSection = ReportSection()
    path: Annotated[Path, Field(exclude=True)] = Path("project.yaml")

    @model_validator(mode="after")
    def _sections_that_need_others(self) -> Self:
        if self.generate and not self.panel:
            raise ValueError("generate needs the section teacher, who writes")
        if self.mix.wants_synthetic and not self.generate:
            key = "mix.shares.synthetic" if self.mix.shares else "mix.synthetic_share"
            raise ValueError(f"{key} needs the section generate")
        if self.student.objective.scale != "nominal" and self.task.kind != "ordinal":
            raise ValueError(f"student.objective.scale: {self.student.objective.scale} needs task.kind: ordinal")
        return self

    @model_validator(mode="after")
    def _one_label_per_response(self) -> Self:
        if self.task.kind != "multilabel":
            return self
        if self.generate:
            raise ValueError(
                "generate writes responses of one label, and those of a multilabel task may have several; leave "
                "generate out, or make a nominal task of each label"
            )
        if self.mix.balance == "per_label":
            raise ValueError(
                "mix.balance: per_label counts a row for one label, and one of a multilabel task may have several; use "
                "as_found"
            )
        if self.student.objective.class_weights != "none":
            raise ValueError(
                "student.objective.class_weights: balanced needs one label per response; leave it out: each label of a "
                "multilabel task has a threshold of its own, which heeds how frequent the label is"
            )
        if any(teacher.logprobs for teacher in self.panel):
            raise ValueError(
                "logprobs reads how probable one label is, and the teacher of a multilabel task gives a list; leave it "
                "out, and let several votes give the shares"
            )
        return self

    @model_validator(mode="after")
    def _known_positive(self) -> Self:
        names = self.task.task.names
        if self.evaluation.positive is not None and self.evaluation.positive not in names:
            raise ValueError(f"evaluation.positive is no label; labels are {', '.join(names)}")
        return self

    @model_validator(mode="after")
    def _one_panel(self) -> Self:
        if self.teacher and self.teachers:
            raise ValueError("give teacher or teachers, not both")
        if unnamed := [number for number, teacher in enumerate(self.teachers, 1) if teacher.name is None]:
            raise ValueError(f"teacher {unnamed[0]} of teachers has no name")
        if len({teacher.name for teacher in self.teachers}) < len(self.teachers):
            raise ValueError("two teachers have the same name")
        return self

    @property
    def panel(self) -> tuple[TeacherSection, ...]:
        """Every teacher: none, the one of ``teacher``, or those of ``teachers``."""
        return (self.teacher,) if self.teacher else self.teachers

    @property
    def folder(self) -> Path:
        """The project file's folder."""
        return self.path.parent

    @property
    def run_folder(self) -> Path:
        """Where the stages write: ``runs/NAME`` beside the project file."""
        return self.folder / "runs" / self.name
