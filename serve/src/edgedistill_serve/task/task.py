"""The task that a bundle scores: its labels in order, and the inputs that a response comes with."""

from collections.abc import Collection, Mapping
from typing import Literal, TypeAlias

import msgspec

from edgedistill_serve.errors import DataError
from edgedistill_serve.task.redaction import Redaction, redact_text

Kind: TypeAlias = Literal["nominal", "ordinal", "multilabel"]
INPUTS = ("question", "reference_answer", "response")
"""Every input that a task may name, in the order in which a student reads them."""
NO_LABEL = "none"
"""What stands for a response of a multilabel task of which no label holds; an empty text says that nobody coded it."""
LABEL_SEPARATOR = ";"
"""Stands between the labels that hold of a response of a multilabel task."""


class Label(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One code of the codebook: its name and its definition."""

    name: str
    definition: str = ""


class Task(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What is scored.

    Attributes:
        kind: ``nominal`` | ``ordinal`` (labels from low to high) | ``multilabel``.
        labels: The codes in codebook order; class *i* of the model is ``labels[i]``.
        inputs: The inputs a response comes with; always holds ``response``, its last.
        redact: What is replaced in every input before the student reads it; None for nothing, and then ``bundle.json``
            does not name it, so that older readers know every key.
    """

    kind: Kind
    labels: tuple[Label, ...]
    inputs: tuple[str, ...]
    redact: Redaction | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The label names in class order."""
        return tuple(label.name for label in self.labels)


def split_labels(text: str, task: Task) -> tuple[str, ...]:
    """Return the labels that a text names as those that hold, in the task's order; none for `NO_LABEL`.

    Args:
        text: Labels of the task in any order, `LABEL_SEPARATOR` between them, blanks around them as one likes; or
            `NO_LABEL`.
        task: A multilabel task.

    Raises:
        DataError: A label is unknown or stands twice, `NO_LABEL` stands beside others, or nothing stands there.
    """
    named = [part.strip() for part in text.split(LABEL_SEPARATOR)]
    if named == [NO_LABEL]:
        return ()
    for name in named:
        if name == NO_LABEL:
            raise DataError(f"{NO_LABEL!r} stands beside labels", hint=f"{NO_LABEL!r} says that no label holds.")
        if name not in task.names:
            raise DataError(
                f"{name!r} is no label of the task" if name else "a label is missing",
                hint=f"Labels are {', '.join(task.names)}, {LABEL_SEPARATOR!r} between them; or {NO_LABEL!r}.",
            )
        if named.count(name) > 1:
            raise DataError(f"the label {name!r} stands twice", hint="Name each label once.")
    return tuple(name for name in task.names if name in named)


def join_labels(labels: Collection[str], task: Task) -> str:
    """Return the text of the labels that hold, in the task's order, which `split_labels` reads.

    Args:
        labels: Some of the task's labels, or none.
        task: A multilabel task.

    Raises:
        DataError: A label is unknown.
    """
    for name in labels:
        if name not in task.names:
            raise DataError(f"{name!r} is no label of the task", hint=f"Labels are {', '.join(task.names)}.")
    return LABEL_SEPARATOR.join(name for name in task.names if name in labels) or NO_LABEL


def reserved_label_names(task: Task) -> tuple[str, ...]:
    """Return the labels that a multilabel task cannot have: `join_labels` could not tell them from what it writes.

    These are `NO_LABEL`, however it is capitalized, and names that hold `LABEL_SEPARATOR`.
    """
    return tuple(name for name in task.names if LABEL_SEPARATOR in name or name.strip().casefold() == NO_LABEL)


def task_inputs(response: str | Mapping[str, str], task: Task) -> dict[str, str]:
    """Return the task's inputs of one response, in the task's order, redacted where the task says so.

    Every text that a student is trained on, checked with or scores comes through here.

    Args:
        response: The response's text alone, or a mapping that holds every input of the task; other keys are ignored.
        task: What is scored.

    Raises:
        DataError: An input is missing, is no string, or holds half of a surrogate pair.
    """
    given: Mapping[str, str] = {"response": response} if isinstance(response, str) else response
    for name in task.inputs:
        if not isinstance(given.get(name), str):
            raise DataError(
                f"the input {name!r} is missing or is no text",
                hint=f"This task's inputs are {', '.join(task.inputs)}.",
            )
        try:
            given[name].encode()
        except UnicodeEncodeError:
            raise DataError(
                f"the input {name!r} holds half of a surrogate pair, which is no text",
                hint="Decode the text again where it comes from.",
            ) from None
    redact = task.redact
    return {name: redact_text(given[name], redact) if redact else given[name] for name in task.inputs}


def model_texts(inputs: Mapping[str, str]) -> tuple[str, str | None]:
    """Return the one or two texts that the student reads: the context, then the response.

    The question and the reference answer, where there are any, make the first text, joined by a space, and the
    response the second; a response alone is the only text.
    """
    context = " ".join(inputs[name] for name in INPUTS[:-1] if name in inputs)
    return (context, inputs["response"]) if context else (inputs["response"], None)
