"""Where the random generators of training stand: Python's, numpy's, torch's and those of its GPUs."""

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch


def drawn_so_far() -> dict[str, Any]:
    """Return the state of every generator, in numbers that JSON holds exactly."""
    version, words, gauss = random.getstate()
    name, keys, place, has_gauss, cached = np.random.get_state(legacy=True)  # transformers seeds the legacy generator
    return {
        "python": [version, list(words), gauss],
        "numpy": [name, np.asarray(keys).tolist(), place, has_gauss, cached],
        "torch": torch.get_rng_state().tolist(),
        "cuda": [state.tolist() for state in torch.cuda.get_rng_state_all()] if torch.cuda.is_available() else [],
    }


def draw_from(states: Mapping[str, Any]) -> None:
    """Let every generator go on from a state that `drawn_so_far` gave, on a machine with the same devices."""
    version, words, gauss = states["python"]
    random.setstate((version, tuple(words), gauss))
    name, keys, place, has_gauss, cached = states["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), place, has_gauss, cached))
    torch.set_rng_state(torch.tensor(states["torch"], dtype=torch.uint8))
    for number, state in enumerate(states["cuda"]):
        torch.cuda.set_rng_state(torch.tensor(state, dtype=torch.uint8), number)
