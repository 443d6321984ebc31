"""The section `report`: what the report shows beyond figures."""

from typing import Annotated

from pydantic import Field

from edgedistill.project.field_types import File, Section


class ReportSection(Section):
    """What the report shows beyond figures."""

    examples: Annotated[int, Field(ge=0, le=1000)] = 0
    """Wrongly coded test responses that are shown with their texts; 0: ids and labels alone."""
    study: File | None = None
    """The folder of a study, with its ``runs.csv``, whose curve is shown too."""
