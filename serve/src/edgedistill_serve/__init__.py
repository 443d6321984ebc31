"""Scores open responses with an EdgeDistill bundle, without an LLM and without network access.

scorer = Scorer(Bundle.load("bundle"))
scorer.score(["You worked hard on this."])[0].label
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

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


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
