"""The fingerprint of a trial: what decides its outcome, and nothing else."""

import hashlib
import json
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import torch

from edgedistill.student.rows import Padding, TrainingRow

_FORMAT = 1
"""Raised when training changes so that a state of before cannot be gone on from."""
_TOOLS = ("torch", "transformers", "accelerate", "numpy")


def mark_of(
    model: Any,
    padding: Padding,
    mixture: Sequence[TrainingRow],
    validation: Sequence[TrainingRow],
    *settings: object,
) -> str:
    """Return the SHA-256 of everything that a trial is handed, and of what it is run on.

    Args:
        model: The model before its first step, head and adapters drawn.
        padding: How it pads.
        mixture: Rows to learn from, in their order.
        validation: Rows to judge by, in their order.
        settings: Whatever else decides; their ``repr`` is taken.
    """
    total = hashlib.sha256()
    told = [_FORMAT, [version(tool) for tool in _TOOLS], _machine(), repr(padding), [repr(one) for one in settings]]
    total.update(json.dumps(told).encode())
    for rows in (mixture, validation):
        total.update(f"{len(rows)} rows".encode())
        for row in rows:
            total.update(repr((row.encoded.ids, row.encoded.type_ids, row.target, row.shares)).encode())
    for name, tensor in model.state_dict().items():
        total.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        total.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    for name, weight in model.named_parameters():
        total.update(f"{name} {weight.requires_grad}".encode())
    return total.hexdigest()


def _machine() -> list[object]:
    """Sums are made in another order by another device or another number of threads."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    return [device, torch.get_num_threads()]
