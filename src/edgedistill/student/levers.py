"""What makes training faster on this machine."""

import torch

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
