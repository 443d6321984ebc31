"""The section `student.search`: which settings are tried."""

from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import Discriminator, Field, Tag, model_validator

from edgedistill.project.field_types import Count, Learning, Section


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
