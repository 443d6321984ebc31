"""The scored task: its labels in codebook order, and the inputs of a response."""

from collections.abc import Collection, Iterable, Mapping, Set
from typing import Any, Literal, TypeAlias, TypeVar

import msgspec

from edgedistill_serve.errors import DataError
from edgedistill_serve.task.redaction import Redaction, redact_text

T = TypeVar("T")
Kind: TypeAlias = Literal["nominal", "ordinal", "multilabel"]
INPUTS = ("question", "reference_answer", "rubric", "response")
"""All possible inputs of a task, in the order in which a student reads them."""
Truncation: TypeAlias = Literal["context_first", "question_first", "references_apart"]
"""What is truncated first if a row is too long: the end of the context, or the question. With ``references_apart`` each
reference answer is a text of its own, and the question is read only where there is none (`texts_apart`)."""
CUT_ORDER = ("question", "rubric", "reference_answer")
"""The order in which the inputs before the response lose their tokens with ``question_first``. A response is compared
with the reference answers, which are cut last."""
NO_LABEL = "none"
"""Label text of a multilabel response with no assigned label. An empty text means that the response is not coded."""
LABEL_SEPARATOR = ";"
"""Separates the assigned labels of a response of a multilabel task."""


class Label(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One code of the codebook: its name and its definition."""

    name: str
    definition: str = ""


class Task(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The scored task.

    Attributes:
        kind: ``nominal``, ``ordinal`` (labels from low to high) or ``multilabel``.
        labels: The codes in codebook order; class *i* of the model is ``labels[i]``.
        inputs: The inputs of a response; the last one is always ``response``.
        redact: Redaction of every input before the student reads it; None for no redaction. ``bundle.json`` omits the
            key if it is None, so that older versions can read the file.
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
    """Parse the labels of a multilabel response.

    Args:
        text: Labels of the task in any order, separated by `LABEL_SEPARATOR`, with optional white space; or
            `NO_LABEL`.
        task: A multilabel task.

    Returns:
        The labels in the task's order; empty for `NO_LABEL`.

    Raises:
        DataError: A label is unknown, empty or repeated, or `NO_LABEL` is combined with labels.
    """
    named = [part.strip() for part in text.split(LABEL_SEPARATOR)]
    if named == [NO_LABEL]:
        return ()
    for name in named:
        if name == NO_LABEL:
            raise DataError(f"{NO_LABEL!r} is combined with labels", hint=f"{NO_LABEL!r} means that no label applies.")
        if name not in task.names:
            raise DataError(
                f"{quote_label(name)} is not a label of the task" if name else "a label is missing",
                hint=f"Use {', '.join(task.names)}, separated by {LABEL_SEPARATOR!r}; or {NO_LABEL!r}.",
            )
        if named.count(name) > 1:
            raise DataError(f"the label {name!r} is repeated", hint="Name each label once.")
    return tuple(name for name in task.names if name in named)


def join_labels(labels: Collection[str], task: Task) -> str:
    """Return the assigned labels as one text, in the task's order; the inverse of `split_labels`.

    Args:
        labels: Any of the task's labels, possibly none.
        task: A multilabel task.

    Raises:
        DataError: A label is unknown.
    """
    for name in labels:
        if name not in task.names:
            raise DataError(
                f"{quote_label(name)} is not a label of the task", hint=f"The labels are {', '.join(task.names)}."
            )
    return LABEL_SEPARATOR.join(name for name in task.names if name in labels) or NO_LABEL


def reserved_label_names(task: Task) -> tuple[str, ...]:
    """Return the label names that a multilabel task cannot have, because `split_labels` could not parse them.

    These are `NO_LABEL` in any capitalization, and names that contain `LABEL_SEPARATOR`.
    """
    return tuple(name for name in task.names if LABEL_SEPARATOR in name or name.strip().casefold() == NO_LABEL)


_QUOTED_CHARACTERS = 40
_COLUMN_WORDS = 3
_MOST_COLUMNS = 30


def quote_label(text: str) -> str:
    """Return a text that should be a label, as error messages quote it.

    A longer text is probably a response in the wrong column, which messages and logs must not contain.
    """
    return repr(text) if len(text) <= _QUOTED_CHARACTERS else _unquoted(text)


def list_some(texts: Iterable[object], most: int = 5, separator: str = ", ") -> str:
    """Return the first texts and the number of the others, as messages list them: ``a, b and 3 more``.

    Args:
        texts: The texts.
        most: How many are listed.
        separator: Between them; any but the comma also stands before the number: ``a; b; and 3 more``.
    """
    every = list(map(str, texts))
    more = f"{' ' if separator == ', ' else separator}and {len(every) - most} more" if len(every) > most else ""
    return separator.join(every[:most]) + more


def first_repeated(names: Iterable[T]) -> T | None:
    """Return the first value that occurs earlier, too; None if all differ. The time is linear."""
    seen: set[T] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


def quote_columns(names: Iterable[object]) -> str:
    """Return the names of a table's columns, as error messages list them.

    A name of more than three words is probably a response, in a table without a header, and is not quoted.
    """
    shown = (
        text if len(text) <= _QUOTED_CHARACTERS and len(text.split()) <= _COLUMN_WORDS else _unquoted(text)
        for text in map(str, names)
    )
    return list_some(shown, _MOST_COLUMNS) or "none"


def _unquoted(text: str) -> str:
    return f"(a text of {len(text)} characters)"


def check_several(given: Any) -> Iterable[Any]:
    """Return an argument that should hold several responses: a list, a tuple, a generator, an array or a Series.

    The responses themselves are not checked.

    Raises:
        DataError: It is one text, one mapping of inputs, a DataFrame, a set, or not iterable.
    """
    if isinstance(given, (str, bytes, bytearray, Mapping)):
        raise DataError(
            f"a list of responses is needed, and this is one {type(given).__name__}",
            hint="Put a single response in a list: [response].",
        )
    if hasattr(given, "columns"):
        raise DataError(
            "a list of responses is needed, and this is a table",
            hint='Use Scorer.score_frame(table), or the records of its columns: table.to_dict("records").',
        )
    if isinstance(given, Set) or not isinstance(given, Iterable) or getattr(given, "ndim", 1) != 1:
        raise DataError(
            f"a list of responses is needed, and this is of type {type(given).__name__}",
            hint="Give a list, a tuple, a generator, a Series or a one-dimensional array.",
        )
    return given


def task_inputs(response: str | Mapping[str, str], task: Task) -> dict[str, str]:
    """Validate one response and return the task's inputs, in the task's order and redacted as the task requires.

    Every text that a student is trained on, checked with or scores passes through this function.

    Args:
        response: The text of the response, or a mapping with every input of the task; other keys are ignored.
        task: The scored task.

    Raises:
        DataError: An input is missing, is not a string, or contains a lone surrogate.
    """
    inputs: Mapping[str, str] = {"response": response} if isinstance(response, str) else response
    for name in task.inputs:
        if not isinstance(inputs.get(name), str):
            raise DataError(
                f"the input {name!r} is missing or is not a string",
                hint=f"This task's inputs are {', '.join(task.inputs)}.",
            )
        try:
            inputs[name].encode()
        except UnicodeEncodeError:
            raise DataError(
                f"the input {name!r} contains a lone surrogate, which is not valid text",
                hint="Decode the text again from its source.",
            ) from None
    redact = task.redact
    return {name: redact_text(inputs[name], redact) if redact else inputs[name] for name in task.inputs}


def reference_answers(inputs: Mapping[str, str]) -> tuple[str, ...]:
    """Return the reference answers of a response: the lines of the input ``reference_answer`` that are not blank.

    A question with several reference answers has each of them on a line of its own. The student reads all of them, in
    this order; a comparison takes the most similar one.
    """
    given = inputs.get("reference_answer", "")
    lines = (line.strip() for line in given.splitlines())
    return tuple(line for line in lines if line) or (given,)


def texts_apart(inputs: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Return what a student reads before the response with ``references_apart``: name and text, each text by itself.

    They are the reference answers and the rubric; without either, the question. A response is compared with them, and
    the question says nothing about which answer is right that they do not.
    """
    answers = tuple(("reference_answer", text) for text in reference_answers(inputs) if text.strip())
    rubric = inputs.get("rubric", "")
    if rubric.strip():
        answers += (("rubric", rubric),)
    return answers or tuple((name, inputs[name]) for name in ("question",) if inputs.get(name, "").strip())


def context_names(inputs: Collection[str]) -> tuple[str, ...]:
    """Return the names of the inputs that make the context, in the order in which a student reads them."""
    return tuple(name for name in INPUTS[:-1] if name in inputs)


def truncation_of(task: Task) -> Truncation:
    """Return what a new student that reads one text before the response loses first; of one input both are the same."""
    return "question_first" if len(context_names(task.inputs)) > 1 else "context_first"


def model_texts(inputs: Mapping[str, str]) -> tuple[str, str | None]:
    """Return the one or two texts that the student reads.

    The question, the reference answers and the rubric, joined by spaces, are the first text (the context), and the
    response is the second. Without context, the response is the first text, and the second is None.
    """
    context = " ".join(inputs[name] for name in context_names(inputs))
    return (context, inputs["response"]) if context else (inputs["response"], None)
