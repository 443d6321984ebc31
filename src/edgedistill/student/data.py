"""From rows to padded batches of token ids, and checks that rows can train and evaluate a student.

A batch is padded to its longest row, so batches of unequal rows waste time on padding. Rows are shuffled, cut into
windows of `WINDOW` batches, sorted by length inside each window, cut into batches, and the batches shuffled.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from edgedistill.data.types import MixtureRow, ValidationRows, canonical_code, labels_in
from edgedistill.errors import DataError, TrainingFailed
from edgedistill_serve.bundle.manifest import MAX_UNKNOWN_SHARE
from edgedistill_serve.scoring.encoding import Encoded, Encoder
from edgedistill_serve.task.task import INPUTS, Task, split_labels, task_inputs


@dataclass(frozen=True, slots=True)
class TrainingRow:
    """One encoded row with its targets.

    Attributes:
        encoded: Token ids.
        target: The class index; for a multilabel task 0 or 1 per class.
        shares: The soft label: a share per class, with sum 1 except for multilabel tasks; empty where there is none.
    """

    encoded: Encoded
    target: int | tuple[float, ...]
    shares: tuple[float, ...] = ()

    def __len__(self) -> int:
        return len(self.encoded.ids)


@dataclass(frozen=True, slots=True)
class Padding:
    """A model's padding.

    Attributes:
        token: Id of the padding token.
        segment: Segment id of the padding.
        left: Whether rows are padded on the left.
        segments: Whether the model takes segment ids.
    """

    token: int
    segment: int
    left: bool
    segments: bool

    def batch(self, rows: Sequence[TrainingRow]) -> dict[str, Any]:
        """Return tensors (rows, longest row), ``labels`` (rows,) and, with soft labels, ``shares`` (rows, classes).

        For a multilabel task ``labels`` has the shape (rows, classes).
        """
        longest = max(len(row) for row in rows)
        tensors = {
            "input_ids": self._filled([row.encoded.ids for row in rows], longest, self.token),
            "attention_mask": self._filled([(1,) * len(row) for row in rows], longest, 0),
            "labels": torch.tensor([row.target for row in rows]),
        }
        if self.segments:
            tensors["token_type_ids"] = self._filled([row.encoded.type_ids for row in rows], longest, self.segment)
        if all(row.shares for row in rows):
            tensors["shares"] = torch.tensor([row.shares for row in rows])
        return tensors

    def _filled(self, sequences: Sequence[tuple[int, ...]], longest: int, filling: int) -> torch.Tensor:
        fillings = [(filling,) * (longest - len(sequence)) for sequence in sequences]
        pairs = zip(sequences, fillings, strict=True)
        return torch.tensor([fill + ids if self.left else ids + fill for ids, fill in pairs])


def mixture_rows(mixture: Sequence[MixtureRow], task: Task, encoder: Encoder) -> list[TrainingRow]:
    """Encode the training set, in order."""
    rows = _encoded([row.inputs for row in mixture], [row.label for row in mixture], task, encoder)
    return [replace(row, shares=_shares(given, task)) for row, given in zip(rows, mixture, strict=True)]


def validation_rows(validation: ValidationRows, task: Task, encoder: Encoder) -> list[TrainingRow]:
    """Encode the validation rows, sorted by length, so that batches need little padding."""
    rows = _encoded([row.response.inputs for row in validation], validation.labels, task, encoder)
    return sorted(rows, key=len)


def _encoded(
    inputs: Sequence[Mapping[str, str]], labels: Sequence[str], task: Task, encoder: Encoder
) -> list[TrainingRow]:
    encoded = encoder.encode([task_inputs(given, task) for given in inputs])
    return [TrainingRow(row, target_of(label, task)) for row, label in zip(encoded, labels, strict=True)]


def target_of(code: str, task: Task) -> int | tuple[float, ...]:
    """Return a code's target: its class index, or for a multilabel task 0 or 1 per class."""
    if task.kind != "multilabel":
        return task.names.index(code)
    held = split_labels(code, task)
    return tuple(float(name in held) for name in task.names)


def _shares(row: MixtureRow, task: Task) -> tuple[float, ...]:
    if task.kind == "multilabel":
        return tuple(row.shares.get(name, 0.0) for name in task.names)
    total = sum(row.shares.get(name, 0.0) for name in task.names)
    return tuple(row.shares.get(name, 0.0) / total for name in task.names) if total > 0 else ()


WINDOW = 32
"""Batches per sorted window: more mean less padding, fewer mean better shuffling."""


def plan_batches(lengths: Sequence[int], batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """Plan one epoch.

    Args:
        lengths: Tokens per row.
        batch_size: Rows per batch; one batch may be smaller.
        seed: The trial's seed.
        epoch: From 0; every epoch has a different plan.

    Returns:
        Row indices per batch; every row is in exactly one batch.
    """
    rng = np.random.default_rng([seed % 2**32, epoch])
    tokens = np.asarray(lengths)
    order = rng.permutation(len(tokens))
    span = WINDOW * batch_size
    batches = []
    for start in range(0, len(order), span):
        window = order[start : start + span]
        alike = window[np.argsort(tokens[window], kind="stable")]
        batches += [alike[first : first + batch_size].tolist() for first in range(0, len(alike), batch_size)]
    return [batches[number] for number in rng.permutation(len(batches))]


class LengthGroupedBatches:
    """A batch sampler of length-grouped batches.

    Args:
        lengths: Tokens per row.
        batch_size: Rows per batch.
        seed: The trial's seed.
        first: Epochs sampled before the training was resumed.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int, first: int = 0) -> None:
        self.lengths, self.batch_size, self.seed, self.first, self.epoch = lengths, batch_size, seed, first, 0
        self.drop_last = False

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next iteration, counted from this sampler's first."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[list[int]]:
        return iter(plan_batches(self.lengths, self.batch_size, self.seed, self.first + self.epoch))

    def __len__(self) -> int:
        return math.ceil(len(self.lengths) / self.batch_size)


def check_rows(mixture: Sequence[MixtureRow], validation: ValidationRows, task: Task) -> tuple[str, ...]:
    """Check that rows can train and evaluate a student.

    Returns:
        A note for every label that one of the two sets lacks.

    Raises:
        TrainingFailed: Not validation rows; too few rows or labels; a label or an input that does not fit the task.
    """
    if not isinstance(validation, ValidationRows):
        raise TrainingFailed(
            f"validation rows select the epoch, and these are {type(validation).__name__}",
            hint="Pass ValidationRows; test rows must not select anything.",
        )
    if not validation:
        raise TrainingFailed("there are no validation rows", hint="Give `validation` a share in data.split.")
    _check_labels("mixture", ((row.id, row.label) for row in mixture), task)
    _check_labels("validation", ((row.response.id, row.label) for row in validation), task)
    _check_inputs(mixture, validation, task)
    counts = Counter(label for row in mixture for label in labels_in(row.label, task))
    if len(mixture) < len(task.names):
        raise TrainingFailed(
            f"the training set has {len(mixture)} rows for {len(task.names)} labels",
            hint="Code more responses, or let the teacher label some.",
        )
    if len(codes := {row.label for row in mixture}) == 1:
        raise TrainingFailed(
            f"every row of the training set has the label {codes.pop()!r}",
            hint="A student needs rows of at least two labels; see `mix` in the project file.",
        )
    validation_counts = Counter(label for code in validation.labels for label in labels_in(code, task))
    return (*_notes_on_labels(task, counts, validation_counts), *_notes_on_constant_labels(task, counts, len(mixture)))


@dataclass(frozen=True, slots=True)
class InputSummary:
    """What a student's tokenizer cannot represent and what is cut, over rows.

    Attributes:
        rows: Number of rows.
        unknown_share: Mean share of a response that the vocabulary cannot represent (`Encoded.unknown_share`).
        mostly_unknown: Rows whose share is above `MAX_UNKNOWN_SHARE`.
        responses_cut: Rows whose response is cut; their context is cut entirely.
        contexts_cut: Rows that lose tokens of their context.
        contexts_lost: Those among them that lose all of it.
        cut: By input, the number of rows in which it loses tokens; inputs that lose none are left out.
        contexts_unknown: Rows with a question, reference answer or rubric of which the vocabulary does not know more
            than `MAX_UNKNOWN_SHARE`.
    """

    rows: int
    unknown_share: float
    mostly_unknown: int
    responses_cut: int
    contexts_cut: int
    contexts_lost: int
    cut: Mapping[str, int] = field(default_factory=dict)
    contexts_unknown: int = 0

    @classmethod
    def of(cls, encoded: Sequence[Encoded]) -> "InputSummary":
        """Summarize rows as the student reads them."""
        counts = Counter(name for row in encoded for name, _ in row.lost)
        return cls(
            len(encoded),
            round(sum(row.unknown_share for row in encoded) / max(1, len(encoded)), 6),
            sum(row.unknown_share > MAX_UNKNOWN_SHARE for row in encoded),
            sum(row.truncated for row in encoded),
            sum(row.context_tokens_lost > 0 for row in encoded),
            sum(row.context_tokens_lost == row.context_tokens > 0 for row in encoded),
            {name: counts[name] for name in INPUTS if counts[name]},
            sum(row.context_unknown_share > MAX_UNKNOWN_SHARE for row in encoded),
        )

    def notes(self, where: str, max_tokens: int) -> tuple[str, ...]:
        """Return a sentence for each count that is not 0.

        Args:
            where: The rows, such as ``test``.
            max_tokens: Longest sequence.
        """
        rows = f"of {self.rows} {where}"
        unknown = f"{self.mostly_unknown} {rows} responses are mostly unknown to the student's vocabulary."
        responses = f"{self.responses_cut} {rows} responses were truncated to max_tokens = {max_tokens}."
        contexts = (
            f"{self.contexts_cut} {rows} rows lost part of their context to max_tokens = {max_tokens}, "
            f"{self.contexts_lost} of them all of it{self._by_input}."
        )
        unread = (
            f"{self.contexts_unknown} {rows} rows have a context that is mostly unknown to the student's vocabulary."
        )
        notes: dict[str, int] = {
            unknown: self.mostly_unknown,
            unread: self.contexts_unknown,
            responses: self.responses_cut,
            contexts: self.contexts_cut,
        }
        return tuple(note for note, count in notes.items() if count)

    @property
    def _by_input(self) -> str:
        """The rows in which each input before the response is cut, where there are several."""
        cut = [f"{name.replace('_', ' ')} in {count}" for name, count in self.cut.items() if name != "response"]
        return f" ({', '.join(cut)})" if cut else ""


def note_truncated_rows(rows: Sequence[TrainingRow], where: str, max_tokens: int) -> tuple[str, ...]:
    """Return a note for each kind of input that was cut, or that the vocabulary cannot represent."""
    return InputSummary.of([row.encoded for row in rows]).notes(where, max_tokens)


def unreadable_reason(encoded: Encoded) -> str:
    """Return why a student cannot learn from a row, or an empty string; the rule is that of a bundle's default."""
    if encoded.blank:
        return "blank response"
    return "" if encoded.unknown_share <= MAX_UNKNOWN_SHARE else "mostly unknown to the student's vocabulary"


TOKEN_PERCENTILE, TOKEN_MULTIPLE, FEWEST_TOKENS, MOST_TOKENS = 99, 16, 32, 512
"""How `fit_max_tokens` chooses. An input of 512 tokens takes more than twice as long as one of 256."""


def fit_max_tokens(encoded: Sequence[Encoded], positions: int | None) -> int:
    """Return the longest sequence that a student of these rows should read, in tokens.

    It is the `TOKEN_PERCENTILE` of the rows' lengths, rounded up to a multiple of `TOKEN_MULTIPLE`, and in
    [`FEWEST_TOKENS`, `MOST_TOKENS`].

    Args:
        encoded: Rows that are not cut.
        positions: The longest sequence that the backbone reads; None if it is not known.
    """
    lengths = [len(row.ids) for row in encoded]
    length = np.percentile(lengths, TOKEN_PERCENTILE, method="inverted_cdf") if lengths else 0
    rounded = math.ceil(length / TOKEN_MULTIPLE) * TOKEN_MULTIPLE
    return min(max(rounded, FEWEST_TOKENS), MOST_TOKENS, positions or MOST_TOKENS)


def _notes_on_labels(task: Task, mixture: Counter[str], validation: Counter[str]) -> tuple[str, ...]:
    absent_in_training = [
        f"No training row has the label {name!r}: the student cannot learn it."
        for name in task.names
        if not mixture[name]
    ]
    absent_in_validation = [
        f"No validation row has the label {name!r}: epoch selection ignores this label."
        for name in task.names
        if not validation[name]
    ]
    return (*absent_in_training, *absent_in_validation)


def _notes_on_constant_labels(task: Task, mixture: Counter[str], rows: int) -> tuple[str, ...]:
    return tuple(
        f"Every training row has the label {name!r}: the student cannot learn when it does not apply."
        for name in task.names
        if mixture[name] == rows
    )


def _check_labels(where: str, labels: Iterable[tuple[str, str]], task: Task) -> None:
    for row, label in labels:
        try:
            canonical_code(label, task)
        except DataError as error:
            raise TrainingFailed(error.what, where=f"{where} row {row!r}", hint=error.hint) from None


def _check_inputs(mixture: Sequence[MixtureRow], validation: ValidationRows, task: Task) -> None:
    inputs = [("mixture", row.id, row.inputs) for row in mixture]
    inputs += [("validation", row.response.id, row.response.inputs) for row in validation]
    for where, row, given in inputs:
        if missing := [name for name in task.inputs if name not in given]:
            raise TrainingFailed(
                f"the input {missing[0]!r} is missing",
                where=f"{where} row {row!r}",
                hint=f"This task's inputs: {', '.join(task.inputs)}.",
            )
