"""From rows to padded batches of token ids, the way that scoring encodes them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from edgedistill.records.types import MixtureRow, ValidationRows
from edgedistill_serve.encoding import Encoded, Encoder
from edgedistill_serve.task import Task, inputs_of


@dataclass(frozen=True, slots=True)
class TrainingRow:
    """One row as the model reads it, with the class that counts as right."""

    encoded: Encoded
    target: int

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
        """Return the tensors of a batch, each (rows, longest row), and ``labels`` (rows,)."""
        longest = max(len(row) for row in rows)
        tensors = {
            "input_ids": self._filled([row.encoded.ids for row in rows], longest, self.token),
            "attention_mask": self._filled([(1,) * len(row) for row in rows], longest, 0),
            "labels": torch.tensor([row.target for row in rows]),
        }
        if self.segments:
            tensors["token_type_ids"] = self._filled([row.encoded.type_ids for row in rows], longest, self.segment)
        return tensors

    def _filled(self, sequences: Sequence[tuple[int, ...]], longest: int, filling: int) -> torch.Tensor:
        fillings = [(filling,) * (longest - len(sequence)) for sequence in sequences]
        pairs = zip(sequences, fillings, strict=True)
        return torch.tensor([fill + ids if self.left else ids + fill for ids, fill in pairs])


def mixture_rows(mixture: Sequence[MixtureRow], task: Task, encoder: Encoder) -> list[TrainingRow]:
    """Encode the mixture, in its order."""
    return _encoded([row.inputs for row in mixture], [row.label for row in mixture], task, encoder)


def validation_rows(validation: ValidationRows, task: Task, encoder: Encoder) -> list[TrainingRow]:
    """Encode the validation rows, the shortest first, so that batches of neighbours need little padding."""
    rows = _encoded([row.response.inputs for row in validation], validation.labels, task, encoder)
    return sorted(rows, key=len)


def _encoded(
    inputs: Sequence[Mapping[str, str]], labels: Sequence[str], task: Task, encoder: Encoder
) -> list[TrainingRow]:
    encoded = encoder.encode([inputs_of(given, task) for given in inputs])
    return [TrainingRow(row, task.names.index(label)) for row, label in zip(encoded, labels, strict=True)]
