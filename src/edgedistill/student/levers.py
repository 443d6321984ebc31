"""What makes training faster on this machine, and what keeps its sums in order."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch

from edgedistill.student.rows import Padding, TrainingRow
from edgedistill.student.types import Levers


def levers_here() -> Levers:
    """Return the levers that this machine has, as docs/decisions/0003-training-levers.md chose them."""
    return Levers(bf16=computes_bf16(), frozen_words=True)


def computes_bf16() -> bool:
    """Whether the device that trains multiplies bfloat16 in hardware; in software it would be slower than fp32."""
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # torch says this of a CPU by private functions only; where a release lacks one, training stays in fp32.
    probes = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return not torch.backends.mps.is_available() and any(probe() for probe in probes if probe)


def usable(levers: Levers, model: Any, padding: Padding, row: TrainingRow) -> Levers:
    """Return the levers that the code of a model bears: DeBERTa's, for one, has sums that bfloat16 cannot hold.

    Args:
        levers: What the machine has.
        model: It reads one row, as in a training step but without dropout.
        padding: How it pads.
        row: Any.
    """
    if not levers.bf16:
        return levers
    device = next(model.parameters()).device
    batch = {name: tensor.to(device) for name, tensor in padding.batch([row]).items()}
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16):
            model(**{name: batch[name] for name in batch if name not in ("labels", "shares")})
    except RuntimeError:
        return replace(levers, bf16=False)
    finally:
        model.train(was_training)
    return levers


@contextmanager
def sums_in_order() -> Iterator[None]:
    """Run the block with the kernels of a GPU that add in the same order every time; those of a CPU do anyway.

    Where a GPU has no such kernel for an operation, torch warns and takes the other.
    """
    if not torch.cuda.is_available():
        yield
        return
    # cuBLAS reads it when it is first used; without it torch refuses matrix products in this mode.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
