"""The sections `evaluation` and `review`: what is measured on test rows, and what people review."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from edgedistill.project.section import Count, File, Section
from edgedistill_serve.bundle.manifest import MAX_UNKNOWN_SHARE
from edgedistill_serve.task.task import first_repeated


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
        if repeated := first_repeated(self.coders):
            raise ValueError(f"coders names the column {repeated!r} twice")
        return self


class NoveltySection(Section):
    """Which responses are so unlike the training texts that a person reviews them."""

    false_alarms: Annotated[float, Field(gt=0, lt=1)] | None = 0.05
    """Largest share of responses like the validation rows that may be sent to a person for this reason alone; null:
    the novelty is measured and not limited."""


class ReviewSection(Section):
    """The decision rule: its aim, for which validation rows choose thresholds, and what people review in any case."""

    aim: Literal["at_most_wrong", "keep_kappa", "at_most_to_people", "least_probability", "none"] = "least_probability"
    """With ``none`` there are no thresholds. Only ``at_most_wrong`` makes a promise about other responses."""
    at_least: Annotated[float, Field(gt=0, le=1)] | None = None
    """With ``keep_kappa``: the κ that the lower end of the accepted rows' interval must reach. With
    ``least_probability``: the calibrated probability from which a label is accepted; 0.7 if it is not given."""
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
        if "aim" not in self.model_fields_set and given:
            raise ValueError(f"the key review.aim is missing, which {', '.join(sorted(given))} needs")
        if self.aim in ("least_probability", "none"):
            allowed = {"at_least"} if self.aim == "least_probability" else set()
            if other := sorted(given - allowed):
                raise ValueError(f"aim {self.aim} does not take {', '.join(other)}")
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
