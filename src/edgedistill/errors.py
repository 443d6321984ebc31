"""Errors of the build-time toolkit; each names the place and the fix.

EdgeDistillError                  (edgedistill_serve.errors) exit code 2 unless said otherwise
├── DataError                     an input file or row cannot be used
│   └── ArgumentError             an argument of the Python API is invalid; also a ValueError
├── ProjectFileError              the project file is invalid
├── RunError                      a stage cannot start from this run folder
├── TeacherError                  the teacher cannot be used
│   ├── TeacherUnreachable        no connection
│   ├── TeacherRefusedKey         the key is missing or wrong
│   ├── TeacherUnknownModel       the endpoint does not know the model
│   └── AnswersMissing            offline, and the cache lacks answers
├── CacheDamaged                  the answer cache has entries that are not answers
├── BackboneUnavailable           a backbone cannot be downloaded or converted
├── TrainingFailed                the student cannot be trained on these rows
│   └── SearchInterrupted         a file cannot be written; finished trials are kept
├── Paused                        exit code 0; the requested part is done, and the stage stops before its end
├── BudgetReached                 exit code 3; finished work is kept
├── GateRefused                   exit code 4; the teacher's agreement with human coders is too low
├── TeacherChanged                exit code 6; the model behind the teacher's name is another one
└── ExportFailed                  (edgedistill_export.errors) exit code 5
"""

from collections.abc import Mapping, Sequence
from typing import Any

from edgedistill_serve.errors import DataError, EdgeDistillError

__all__ = [
    "AnswersMissing",
    "ArgumentError",
    "BackboneUnavailable",
    "BudgetReached",
    "CacheDamaged",
    "DataError",
    "EdgeDistillError",
    "GateRefused",
    "Paused",
    "ProjectFileError",
    "RunError",
    "SearchInterrupted",
    "TeacherChanged",
    "TeacherError",
    "TeacherRefusedKey",
    "TeacherUnknownModel",
    "TeacherUnreachable",
    "TrainingFailed",
    "together",
]


class ArgumentError(DataError, ValueError):
    """An argument of the Python API is invalid.

    It is also a ValueError, which scikit-learn expects of estimators.
    """


class ProjectFileError(EdgeDistillError):
    """The project file cannot be read or is invalid."""


class RunError(EdgeDistillError):
    """A stage cannot start from this run folder."""


class TeacherError(EdgeDistillError):
    """The teacher cannot be used."""


class TeacherUnreachable(TeacherError):
    """The teacher's endpoint does not respond."""


class TeacherRefusedKey(TeacherError):
    """The endpoint refused the key, or requires one."""


class TeacherUnknownModel(TeacherError):
    """The endpoint does not know the model."""


class AnswersMissing(TeacherError):
    """The run is offline, and answers are missing in the cache."""


class CacheDamaged(EdgeDistillError):
    """The answer cache has entries that are not answers."""


class BackboneUnavailable(EdgeDistillError):
    """A backbone cannot be downloaded, converted or checked."""


class TrainingFailed(EdgeDistillError):
    """The student cannot be trained on these rows."""


class SearchInterrupted(TrainingFailed):
    """A file cannot be written during a search; finished trials are kept."""


class Paused(EdgeDistillError):
    """The requested part is done, and the stage stops before its end.

    Args:
        what: What was done.
        hint: How to continue.
        result: The same as data.
    """

    exit_code = 0

    def __init__(self, what: str, result: Mapping[str, Any], *, hint: str | None = None) -> None:
        super().__init__(what, hint=hint)
        self.result = result


def together(paused: Sequence[Paused]) -> Paused:
    """Combine several stops into one, for example of several teachers."""
    if len(paused) == 1:
        return paused[0]
    what = "\n".join(each.what for each in paused)
    return Paused(what, {"each": [each.result for each in paused]}, hint=paused[0].hint)


class BudgetReached(EdgeDistillError):
    """The next request could exceed the budget."""

    exit_code = 3


class GateRefused(EdgeDistillError):
    """The teacher's agreement with the human coders is below the gate."""

    exit_code = 4


class TeacherChanged(EdgeDistillError):
    """A look at the teacher's canary set shows that it answers differently, or under another model's name."""

    exit_code = 6
