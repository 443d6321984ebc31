"""The project file's sections, one frozen model each; what is left out has the default that stands here."""

import re
from pathlib import Path
from typing import Annotated, Literal, Self, TypeAlias

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from edgedistill_serve.redaction import Redaction
from edgedistill_serve.task import INPUTS, Kind, Task
from edgedistill_serve.task import Label as TaskLabel

Count: TypeAlias = Annotated[int, Field(ge=1)]
File: TypeAlias = Annotated[Path, Field(strict=False)]
Share: TypeAlias = Annotated[float, Field(ge=0, le=1)]
Rows: TypeAlias = Literal["all"] | Annotated[int, Field(ge=0)]
Name: TypeAlias = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
Learning: TypeAlias = Annotated[float, Field(gt=0, lt=1)]


def _web_address(text: str) -> str:
    if not re.match(r"https?://[^\s/]", text):
        raise ValueError(f"{text!r} begins with neither http:// nor https://")
    return text


class Section(BaseModel):
    """A section: frozen, strict about its keys and types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


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
        folded: dict[str, str] = {}
        for label in self.labels:
            if label.name != label.name.strip():
                raise ValueError(f"the label {label.name!r} begins or ends with white space")
            if (twin := folded.setdefault(" ".join(label.name.casefold().split()), label.name)) != label.name:
                raise ValueError(f"the labels {twin!r} and {label.name!r} are two spellings of one")
        if len({label.name for label in self.labels}) < len(self.labels):
            raise ValueError("a label stands twice")
        if unknown := [name for name in self.inputs if name not in INPUTS]:
            raise ValueError(f"unknown input {unknown[0]!r}; inputs are {', '.join(INPUTS)}")
        if list(self.inputs) != [name for name in INPUTS if name in self.inputs] or "response" not in self.inputs:
            raise ValueError(f"inputs hold response, each once, in the order {', '.join(INPUTS)}")
        return self

    @property
    def task(self) -> Task:
        """The part of the section that a student and a bundle know: no instructions."""
        labels = tuple(TaskLabel(label.name, label.definition) for label in self.labels)
        redact = self.redact.redaction if self.redact else None
        return Task(kind=self.kind, labels=labels, inputs=self.inputs, redact=redact)


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
    group_by: str | None = None
    split: SplitSection = SplitSection()
    max_characters: Count = 10_000
    """A longer response is set aside: it is no answer to an open question, and would be paid for by the token."""


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


class MixSection(Section):
    """The training set: how many rows of each source."""

    human: Rows = "all"
    teacher: Rows = "all"
    synthetic_share: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the whole training set; the synthetic rows are drawn in equal numbers per label."""
    min_consistency: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Teacher labels whose votes agree less than this are left out of the training set."""
    seed: int = 0


class SearchSection(Section):
    """Values to try, every combination, judged on validation rows."""

    learning_rate: Annotated[tuple[Learning, ...], Field(min_length=1, strict=False)] = (5e-5,)
    batch_size: Annotated[tuple[Count, ...], Field(min_length=1, strict=False)] = (16,)
    epochs: Annotated[tuple[Count, ...], Field(min_length=1, strict=False)] = (4,)


class StudentSection(Section):
    """The small model."""

    backbone: Annotated[str, Field(min_length=1)] = "minilm"
    """``minilm``, a folder (relative to the project file), or a name on the Hugging Face Hub."""
    max_tokens: Annotated[int, Field(ge=8, le=8192)] = 128
    search: SearchSection = SearchSection()
    seeds: Annotated[tuple[int, ...], Field(min_length=1, strict=False)] = (0,)


class ExportSection(Section):
    """The ONNX model."""

    precision: Literal["auto", "int8", "fp32"] = "int8"
    """``auto`` tries every recipe on the validation rows and this processor: the fastest that keeps the labels."""
    vocabulary: Literal["full", "cut"] = "full"
    """``cut`` leaves out the pieces that no text of the project needs, test rows not counted: a smaller file."""
    max_flip_rate: Share = 0.01


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
    export: ExportSection = ExportSection()
    path: Annotated[Path, Field(exclude=True)] = Path("project.yaml")

    @model_validator(mode="after")
    def _sections_that_need_others(self) -> Self:
        if self.generate and not self.panel:
            raise ValueError("generate needs the section teacher, who writes")
        if self.mix.synthetic_share > 0 and not self.generate:
            raise ValueError("mix.synthetic_share needs the section generate")
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
