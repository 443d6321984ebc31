"""Scores open responses with an EdgeDistill bundle, without an LLM and without network access.

scorer = Scorer(Bundle.load("bundle"))
scorer.score(["You worked hard on this."])[0].label
"""

from typing import TYPE_CHECKING

from edgedistill_serve.errors import (
    BundleDamaged,
    BundleError,
    CannotListen,
    DataError,
    DeadlinePassed,
    EdgeDistillError,
    EncodingNotSupported,
    HostNotAllowed,
    KeyFileError,
    KeyMissing,
    NotJson,
    NotReady,
    QueueFull,
    RequestError,
    RequestTooLarge,
    RuntimeMissing,
    ScoringFailed,
    SelfCheckFailed,
    SignatureRefused,
    SigningKeyError,
    TooMany,
    TooSlow,
    TracingUnavailable,
    UnknownModel,
    WorkerEnded,
    WrongShape,
)
from edgedistill_serve.lazy_names import lazy_names

if TYPE_CHECKING:  # at run time these are imported on first use, so that edgedistill_serve.cores needs no numpy
    from edgedistill_serve.bundle.loading import Bundle
    from edgedistill_serve.scoring.scorer import Score, Scorer
    from edgedistill_serve.task.task import Label, Task

__all__ = [
    "Bundle",
    "BundleDamaged",
    "BundleError",
    "CannotListen",
    "DataError",
    "DeadlinePassed",
    "EdgeDistillError",
    "EncodingNotSupported",
    "HostNotAllowed",
    "KeyFileError",
    "KeyMissing",
    "Label",
    "NotJson",
    "NotReady",
    "QueueFull",
    "RequestError",
    "RequestTooLarge",
    "RuntimeMissing",
    "Score",
    "Scorer",
    "ScoringFailed",
    "SelfCheckFailed",
    "SignatureRefused",
    "SigningKeyError",
    "Task",
    "TooMany",
    "TooSlow",
    "TracingUnavailable",
    "UnknownModel",
    "WorkerEnded",
    "WrongShape",
]

_MODULES = {
    "Bundle": "edgedistill_serve.bundle.loading",
    "Label": "edgedistill_serve.task.task",
    "Score": "edgedistill_serve.scoring.scorer",
    "Scorer": "edgedistill_serve.scoring.scorer",
    "Task": "edgedistill_serve.task.task",
}

__getattr__ = lazy_names(__name__, _MODULES)


def __dir__() -> list[str]:
    return sorted(__all__)
