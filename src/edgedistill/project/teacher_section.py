"""The sections `teacher` and `teachers`: the LLM, how it is asked, and what it may cost."""

import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from edgedistill.project.field_types import Count, File, Name, Section


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
