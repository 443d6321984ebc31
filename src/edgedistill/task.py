"""The task: the codebook's labels and instructions, and the inputs of a response."""

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from msgspec.structs import force_setattr

from edgedistill.errors import ArgumentError
from edgedistill_serve.bundle.validation import CONTROL_CHARACTERS
from edgedistill_serve.task.redaction import Redaction
from edgedistill_serve.task.task import (
    INPUTS,
    LABEL_SEPARATOR,
    NO_LABEL,
    Kind,
    Label,
    first_repeated,
    reserved_label_names,
)
from edgedistill_serve.task.task import Task as ScoredTask

__all__ = ["Label", "Task", "fold_label"]

_TYPOGRAPHY = str.maketrans(
    {
        **dict.fromkeys("\u2018\u2019\u201a\u201b\u2032\u02bc\u00b4`", "'"),
        **dict.fromkeys("\u201c\u201d\u201e\u201f\u2033", '"'),
    }
    | dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212", "-")
)
_BLANKS = frozenset("\u115f\u1160\u2800\u3164\uffa0")  # letters and symbols that show nothing
_JOINERS = frozenset("\u034f\u180b\u180c\u180d\u180f") | {chr(code) for code in range(0xFE00, 0xFE10)}


def fold_label(name: str) -> str:
    """Return a label without what no reader distinguishes.

    These are case, white space, Unicode composition (NFC or NFD), full and half width, typographic quotes and dashes,
    and invisible characters. No two labels of a task have the same folded form.
    """
    visible = "".join(
        " " if character.isspace() or character in _BLANKS else _plain_width(character)
        for character in unicodedata.normalize("NFC", name)
        if character.isspace() or (unicodedata.category(character) not in ("Cf", "Cc") and character not in _JOINERS)
    )
    return unicodedata.normalize("NFC", " ".join(visible.translate(_TYPOGRAPHY).lower().split()))


def _plain_width(character: str) -> str:
    wide = unicodedata.decomposition(character).startswith(("<wide>", "<narrow>"))
    return unicodedata.normalize("NFKC", character) if wide else character


class Task(ScoredTask, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A coding task: labels, inputs, and instructions for the teacher.

    Example:
        Task("nominal", labels=[Label("process", "praises effort"), Label("outcome", "praises the result")])

    Attributes:
        kind: ``nominal`` | ``ordinal`` (labels from low to high) | ``multilabel`` (any number of labels).
        labels: At least two labels, in codebook order. A string is a label without a definition.
        inputs: The inputs, in this order: ``question``, ``reference_answer`` (several: one a line),
            ``rubric``, ``response``.
        redact: Redaction of every text: None or False for none; True for web addresses, e-mail addresses and phone
            numbers; a list of regular expressions for their matches as well.
        instructions: The codebook's text.

    Raises:
        ArgumentError: A label or input is missing or a duplicate, or a pattern of ``redact`` is not a valid regular
            expression.
    """

    kind: Kind = "nominal"
    labels: tuple[Label, ...] = ()
    inputs: tuple[str, ...] = ("response",)
    redact: Redaction | None = None
    instructions: str = ""

    if TYPE_CHECKING:  # the arguments of msgspec's constructor, before `__post_init__` converts them

        def __init__(
            self,
            kind: Kind = "nominal",
            labels: Sequence[Label | str] = (),
            inputs: Sequence[str] = ("response",),
            redact: Redaction | Sequence[str] | bool | None = None,
            instructions: str = "",
        ) -> None: ...

    def __post_init__(self) -> None:
        if self.kind not in ("nominal", "ordinal", "multilabel"):
            raise ArgumentError(f"unknown kind {self.kind!r}; use nominal, ordinal or multilabel")
        self._check_types()
        labels = tuple(label if isinstance(label, Label) else Label(label) for label in self.labels)
        force_setattr(self, "labels", labels)
        force_setattr(self, "inputs", tuple(self.inputs))
        force_setattr(self, "redact", _redaction(self.redact))
        self._check_labels()
        if unknown := [name for name in self.inputs if name not in INPUTS]:
            raise ArgumentError(f"unknown input {unknown[0]!r}; use {', '.join(INPUTS)}")
        if list(self.inputs) != [name for name in INPUTS if name in self.inputs] or "response" not in self.inputs:
            raise ArgumentError(f"inputs must include response, without duplicates, in the order {', '.join(INPUTS)}")

    def _check_types(self) -> None:
        for name, given in (("labels", self.labels), ("inputs", self.inputs)):
            if isinstance(given, str | Mapping) or not isinstance(given, Iterable):
                raise ArgumentError(f"{name} must be a list, not {type(given).__name__}")
        texts = {f"the definition of {each.name!r}": each.definition for each in self.labels if isinstance(each, Label)}
        for name, text in {"instructions": self.instructions, **texts}.items():
            if not isinstance(text, str):
                raise ArgumentError(f"{name} must be a string, not {type(text).__name__}")

    def _check_labels(self) -> None:
        if len(self.labels) < 2:
            raise ArgumentError("a task needs at least two labels")
        if not all(isinstance(name, str) and name for name in self.names):
            raise ArgumentError("every label needs a name, as a string")
        _check_distinct(self.names)
        if twice := first_repeated(self.names):
            raise ArgumentError(f"the label {twice!r} is a duplicate")
        if self.kind == "multilabel" and (never := reserved_label_names(self)):
            raise ArgumentError(
                f"rename the label {never[0]!r}: in a multilabel task no label contains {LABEL_SEPARATOR!r}, which "
                f"separates labels, or is named {NO_LABEL!r}, which means that no label applies"
            )

    @property
    def scored(self) -> ScoredTask:
        """The task without instructions, as students and bundles have it."""
        return ScoredTask(self.kind, self.labels, self.inputs, self.redact)


def _check_distinct(names: Sequence[str]) -> None:
    """Refuse labels that no reader can tell apart."""
    folded: dict[str, str] = {}
    for name in names:
        if name != name.strip():
            raise ArgumentError(f"the label {name!r} begins or ends with white space")
        if CONTROL_CHARACTERS.search(name):
            raise ArgumentError(f"the label {name!r} has a control character")
        if not fold_label(name):
            raise ArgumentError(f"the label {name!r} has no visible character")
        if (twin := folded.setdefault(fold_label(name), name)) != name:
            simple = " ".join(twin.casefold().split()) == " ".join(name.casefold().split())
            how = "case or white space" if simple else "how the same characters are typed"
            raise ArgumentError(f"the labels {twin!r} and {name!r} differ only in {how}")


def _redaction(given: object) -> Redaction | None:
    if isinstance(given, Redaction) or given is None:
        return given
    if isinstance(given, bool):
        return Redaction() if given else None
    if not isinstance(given, Sequence) or isinstance(given, str) or not all(isinstance(each, str) for each in given):
        raise ArgumentError("redact must be True, False or a list of regular expressions")
    try:
        return Redaction(tuple(given))
    except ValueError as error:
        raise ArgumentError(f"redact: {error}") from None
