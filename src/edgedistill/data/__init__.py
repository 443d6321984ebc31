"""The rows of a project: strict reading, splits without leakage, and a count of every row.

types.py      one frozen type for each stage
project_tables.py
              the tables as people have them: columns, ids, HTML and spellings of labels
tables.py     from table rows to responses, coded or not
twins.py      when two texts are the same to a student, and when nearly
splitting.py  train, validation and test
reading.py    all files of a project
"""

from edgedistill.data.reading import Records, RowCounts, read_population, read_records, read_responses
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
    "CodedResponse",
    "MixtureRow",
    "Population",
    "Records",
    "Response",
    "RowCounts",
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
