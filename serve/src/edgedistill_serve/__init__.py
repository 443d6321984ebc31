"""Scores open responses with an EdgeDistill bundle, without an LLM and without network access.

scorer = Scorer(Bundle.load("bundle"))
scorer.score(["You worked hard on this."])[0].label
"""

from edgedistill_serve.bundle.loading import Bundle
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
