"""The section `student.objective`: what training makes small."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from edgedistill.project.field_types import Section


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
