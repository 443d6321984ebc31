"""The questions for which a decision rule was shown.

A rule that holds for the questions of its validation rows can fail for others. If these questions are a closed set, the
bundle contains a hash of each, and the scorer sends responses to any other question to a person.
"""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from hashlib import sha256

import msgspec

from edgedistill_serve.task.task import Task, model_texts
from edgedistill_serve.task.visible_text import SPACES

ROWS_PER_CONTEXT = 3
"""A set of contexts is closed if it has at least this number of validation rows per distinct context, on average."""
HASH = re.compile("[0-9a-f]{32}")
_SUPERSCRIPT = re.compile("[²³¹\u2070-\u207f]")
_OUTSIDE_NUMBERS = re.compile("(?<![0-9]) | (?![0-9])")


class ShownContexts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The contexts (question and reference answer) of the validation rows, on which a decision rule was shown.

    Attributes:
        rows: Number of validation rows.
        distinct: Number of their distinct contexts.
        closed: Whether they are a closed set: at least `ROWS_PER_CONTEXT` rows per context. In an open set, nearly
            every row has its own context, or the contexts were held out of training and stand for new ones; the rule
            was shown for contexts that vary as these do.
        hashes: For a closed set, `context_hash` of each context in ascending order, else empty.
    """

    rows: int
    distinct: int
    closed: bool
    hashes: tuple[str, ...] = ()


def has_context(task: Task) -> bool:
    """Whether the task has an input besides the response."""
    return len(task.inputs) > 1


def context_hash(inputs: Mapping[str, str]) -> str:
    """Return the hash of a response's context: the first 32 hexadecimal digits of SHA-256.

    Contexts that differ only in capitalization, white space, invisible characters or Unicode's compatible forms have
    the same hash. White space between digits and superscripts are kept: "1 1/2" is not "11/2", and "2³" is "2^3".
    Markup, accents and punctuation are part of a question: where they differ, a person reviews the response.

    Args:
        inputs: The task's inputs, as `task_inputs` returns them.
    """
    first, second = model_texts(inputs)
    context = "" if second is None else first
    compatible = unicodedata.normalize("NFKC", _SUPERSCRIPT.sub(r"^\g<0>", context))
    normalized = _OUTSIDE_NUMBERS.sub("", SPACES.sub(" ", compatible)).lower()
    return sha256(normalized.encode()).hexdigest()[:32]


def shown_contexts(rows: Sequence[Mapping[str, str]], task: Task, *, held_out: bool = False) -> ShownContexts | None:
    """Return the contexts of validation rows; None for a task without context.

    Args:
        rows: The task's inputs of each validation row, as `task_inputs` returns them; at least one.
        task: The task.
        held_out: Whether the contexts were held out of training as a whole: they stand for new ones, an open set.
    """
    return shown_hashes([context_hash(row) for row in rows], held_out=held_out) if has_context(task) else None


def shown_hashes(hashes: Sequence[str], *, held_out: bool = False) -> ShownContexts:
    """Return the contexts of validation rows, given the `context_hash` of each row; at least one."""
    distinct = sorted(set(hashes))
    closed = not held_out and len(hashes) >= ROWS_PER_CONTEXT * len(distinct)
    return ShownContexts(len(hashes), len(distinct), closed, tuple(distinct) if closed else ())


def describe_contexts(contexts: ShownContexts | None, task: Task, *, reviewed: bool) -> str:
    """Return for which questions the decision rule was shown, as a sentence.

    Args:
        contexts: Those of the bundle; None if it does not record them.
        task: The task.
        reviewed: Whether responses to other questions are reviewed.
    """
    if not has_context(task):
        return "The rule was validated for responses like the validation rows; the task has no questions to tell apart."
    if contexts is None:
        return "The bundle does not record for which questions the rule was validated."
    if not contexts.closed:
        return (
            f"The rule was validated for open questions: the {contexts.rows} validation rows have {contexts.distinct} "
            "different ones. New questions are not sent to a person for that reason."
        )
    others = "are sent to a person" if reviewed else "are treated alike, as the project sets (new_questions: accept)"
    return (
        f"The rule was validated for {contexts.distinct} question{'s' * (contexts.distinct != 1)} "
        f"({contexts.rows} validation rows). Responses to any other question {others}."
    )
