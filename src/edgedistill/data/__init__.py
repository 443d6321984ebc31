"""The rows of a project: read strictly, split without leaks, every one accounted for."""

from edgedistill.data.reading import Account, Records, read_population, read_records, read_responses
from edgedistill.data.splitting import Splits
from edgedistill.data.types import (
    CodedResponse,
    MixtureRow,
    Population,
    Response,
    SetAside,
    TeacherLabel,
    TestRows,
    TrainRows,
    ValidationRows,
)

__all__ = [
    "Account",
    "CodedResponse",
    "MixtureRow",
    "Population",
    "Records",
    "Response",
    "SetAside",
    "Splits",
    "TeacherLabel",
    "TestRows",
    "TrainRows",
    "ValidationRows",
    "read_population",
    "read_records",
    "read_responses",
]
