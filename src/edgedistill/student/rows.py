"""From rows to padded batches of token ids, the way that scoring encodes them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from edgedistill.records.types import MixtureRow, ValidationRows
from edgedistill_serve.encoding import Encoded, Encoder
from edgedistill_serve.task import Task, inputs_of, split_labels


@dataclass(frozen=True, slots=True)
class TrainingRow:
    """One row as the model reads it, with what it is taught.

    Attributes:
        encoded: What the model reads.
        target: The class that counts as right; of a multilabel task 1 for each class that holds and 0 for the others.
        shares: The soft label: a share per class, summing to 1, but for a multilabel task; empty where there is none to
            learn from.
    """

    encoded: Encoded
    target: int | tuple[float, ...]
    shares: tuple[float, ...] = ()

    def __len__(self) -> int:
        return len(self.encoded.ids)


@dataclass(frozen=True, slots=True)
class Padding:
    """How a model pads.

    Attributes:
        token: Id of the padding token.
        segment: Segment id of the padding.
        left: Whether padding stands before the text.
        segments: Whether the model is given segment ids at all.
    """

    token: int
    segment: int
    left: bool
    segments: bool

    def batch(self, rows: Sequence[TrainingRow]) -> dict[str, Any]:
        """Return tensors (rows, longest row), ``labels`` (rows,) and, of soft rows, ``shares`` (rows, classes).

        Of a multilabel task, ``labels`` are of shape (rows, classes).
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
    """Encode the mixture, in its order."""
    rows = _encoded([row.inputs for row in mixture], [row.label for row in mixture], task, encoder)
    return [replace(row, shares=_shares(given, task)) for row, given in zip(rows, mixture, strict=True)]


def validation_rows(validation: ValidationRows, task: Task, encoder: Encoder) -> list[TrainingRow]:
    """Encode the validation rows, the shortest first, so that batches of neighbours need little padding."""
    rows = _encoded([row.response.inputs for row in validation], validation.labels, task, encoder)
    return sorted(rows, key=len)


def _encoded(
    inputs: Sequence[Mapping[str, str]], labels: Sequence[str], task: Task, encoder: Encoder
) -> list[TrainingRow]:
    encoded = encoder.encode([inputs_of(given, task) for given in inputs])
    return [TrainingRow(row, target_of(label, task)) for row, label in zip(encoded, labels, strict=True)]


def target_of(code: str, task: Task) -> int | tuple[float, ...]:
    """Return what a code is taught as: its class, or of a multilabel task 1 for each class that holds."""
    if task.kind != "multilabel":
        return task.names.index(code)
    held = split_labels(code, task)
    return tuple(float(name in held) for name in task.names)


def _shares(row: MixtureRow, task: Task) -> tuple[float, ...]:
    if task.kind == "multilabel":
        return tuple(row.shares.get(name, 0.0) for name in task.names)
    total = sum(row.shares.get(name, 0.0) for name in task.names)
    return tuple(row.shares.get(name, 0.0) / total for name in task.names) if total > 0 else ()
