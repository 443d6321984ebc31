"""The sections `teacher` and `teachers`: an LLM that is asked, or labels that exist already."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag, model_validator

from edgedistill.project.section import Count, File, Name, Section, listed
from edgedistill_serve.task.task import first_repeated


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
    timeout_seconds: Annotated[float, Field(gt=0, le=86_400)] = 60.0
    max_output_tokens: Annotated[int, Field(ge=1, le=1_000_000)] = 300
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


Columns: TypeAlias = Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(strict=False)]


class ExistingLabelsSection(Section):
    """A teacher whose labels exist already: a table with an LLM's labels of the project's rows, found by their ids.

    No endpoint is asked. The labels are in one column, in several columns that are votes, or in a column of shares per
    label.
    """

    labels: File
    """The table, relative to the project file."""
    sheet: Annotated[str, Field(min_length=1)] | None = None
    """The sheet of an xlsx file. Default: the first one that has the columns."""
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
    confidence: Annotated[Columns, BeforeValidator(listed)] = ()
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
        if repeated := first_repeated(self.votes):
            raise ValueError(f"votes names the column {repeated!r} twice")
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


# Tags with a space: error messages then leave the union's branch out of the key's name.
_ASKED, _EXISTING = "an endpoint", "existing labels"


def _teacher_form(given: Any) -> str:
    has_labels = "labels" in given if isinstance(given, dict) else isinstance(given, ExistingLabelsSection)
    return _EXISTING if has_labels else _ASKED


AnyTeacher: TypeAlias = TeacherSection | ExistingLabelsSection
"""A teacher that is asked, or one whose labels exist already."""

TeacherForm: TypeAlias = Annotated[
    Annotated[TeacherSection, Tag(_ASKED)] | Annotated[ExistingLabelsSection, Tag(_EXISTING)],
    Discriminator(_teacher_form),
]
