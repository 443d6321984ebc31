"""What can go wrong while building, each with the place and the fix.

EdgeDistillError                  (edgedistill_serve.errors) exit code 2 unless said otherwise
├── DataError                     an input file or row that cannot be used
│   └── ArgumentError             data or a setting given to the Python API; a ValueError too
├── ProjectFileError              the project file
├── RunError                      a stage cannot start from what the run folder holds
├── TeacherError                  the teacher cannot be asked at all
│   ├── TeacherUnreachable        no connection
│   ├── TeacherRefusedKey         no key, or a wrong one
│   ├── TeacherUnknownModel       the endpoint does not know the model
│   └── AnswersMissing            offline, and the cache lacks answers
├── CacheDamaged                  the answer cache holds something that is no answer
├── TrainingFailed                the student cannot be trained on these rows
│   └── SearchBrokenOff           something cannot be written; the trials that are over are kept
├── Paused                        exit code 0; what was asked for is done, and the stage stops before its end
├── BudgetReached                 exit code 3; work done so far is kept
├── GateRefused                   exit code 4; the teacher does not agree enough with the human coders
└── ExportFailed                  (edgedistill_export.errors) exit code 5
"""

from collections.abc import Mapping, Sequence
from typing import Any

from edgedistill_serve.errors import DataError, EdgeDistillError

__all__ = [
    "AnswersMissing",
    "ArgumentError",
    "BudgetReached",
    "CacheDamaged",
    "DataError",
    "EdgeDistillError",
    "GateRefused",
    "Paused",
    "ProjectFileError",
    "RunError",
    "SearchBrokenOff",
    "TeacherError",
    "TeacherRefusedKey",
    "TeacherUnknownModel",
    "TeacherUnreachable",
    "TrainingFailed",
    "together",
]


class ArgumentError(DataError, ValueError):
    """Data or a setting that was given to the Python API cannot be used.

    It is a ValueError too, which scikit-learn expects of an estimator that refuses its data.
    """


class ProjectFileError(EdgeDistillError):
    """The project file cannot be read or says something impossible."""


class RunError(EdgeDistillError):
    """A stage cannot start from what the run folder holds."""


class TeacherError(EdgeDistillError):
    """The teacher cannot be asked at all."""


class TeacherUnreachable(TeacherError):
    """Nothing answers at the teacher's address."""


class TeacherRefusedKey(TeacherError):
    """The endpoint wants a key, or another one."""


class TeacherUnknownModel(TeacherError):
    """The endpoint does not know the model."""


class AnswersMissing(TeacherError):
    """The run is offline and the cache lacks answers."""


class CacheDamaged(EdgeDistillError):
    """The answer cache holds something that is no answer."""


class TrainingFailed(EdgeDistillError):
    """The student cannot be trained on these rows."""


class SearchBrokenOff(TrainingFailed):
    """Something cannot be written in the midst of a search; the trials that are over are kept."""


class Paused(EdgeDistillError):
    """What the command was asked for is done, and the stage stops before its end.

    Args:
        what: What was done.
        hint: How to go on.
        result: The same for a machine.
    """

    exit_code = 0

    def __init__(self, what: str, result: Mapping[str, Any], *, hint: str | None = None) -> None:
        super().__init__(what, hint=hint)
        self.result = result


def together(paused: Sequence[Paused]) -> Paused:
    """Return several stops as one, as where several teachers are to be asked."""
    if len(paused) == 1:
        return paused[0]
    what = "\n".join(each.what for each in paused)
    return Paused(what, {"each": [each.result for each in paused]}, hint=paused[0].hint)


class BudgetReached(EdgeDistillError):
    """The next request could cost more than the budget has left."""

    exit_code = 3


class GateRefused(EdgeDistillError):
    """The teacher does not agree with the human coders as the gate asks."""

    exit_code = 4
