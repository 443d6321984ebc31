"""Presets: the learning rate and the number of epochs that suit a training set and a backbone.

A fixed number of epochs is too few for small training sets, whose students then stay near chance, and more than large
ones need. The presets therefore fix the number of optimizer steps: an epoch of few rows has few steps, so there are
more epochs. The learning rate is inversely proportional to the width of the backbone, as in Yang et al. (2022,
arXiv:2203.03466), from 1e-4 at MiniLM's 384. docs/decisions/0012-few-rows-want-more-epochs.md has the experiments.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from transformers import AutoConfig

from edgedistill.project.student import Preset, SearchSection, StudentSection


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long a preset trains.

    Attributes:
        steps: Optimizer steps to aim for.
        fewest: The least number of epochs, for large training sets.
        most: The largest number of epochs, for very small ones.
        rates: Peak learning rates, as multiples of the rate for the backbone; several are trials of a grid.
    """

    steps: int
    fewest: int
    most: int
    rates: tuple[float, ...] = (1.0,)

    def epochs(self, rows: int, batch_size: int) -> int:
        """The number of epochs for a number of training rows.

        Example:
            >>> [SCHEDULES["standard"].epochs(rows, 16) for rows in (100, 250, 1000, 4000)]
            [34, 15, 4, 4]
        """
        return min(max(round(self.steps / math.ceil(rows / batch_size)), self.fewest), self.most)


SCHEDULES: Mapping[Preset, Schedule] = {
    "quick": Schedule(steps=120, fewest=2, most=20),
    "standard": Schedule(steps=240, fewest=4, most=40),
    "thorough": Schedule(steps=480, fewest=6, most=60, rates=(0.5, 1.0)),
}

NANO_SCHEDULES: Mapping[Preset, Schedule] = {
    "quick": Schedule(steps=300, fewest=4, most=20),
    "standard": Schedule(steps=600, fewest=8, most=40),
    "thorough": Schedule(steps=1200, fewest=12, most=60, rates=(0.5, 1.0)),
}
"""Those of a nano student, whose steps take a hundredth of the time."""

_WIDTH, _RATE, _NANO_RATE = 384, 1e-4, 3e-3


def learning_rate(width: int) -> float:
    """The peak learning rate for a backbone with this many units per token, in two significant digits.

    Example:
        >>> learning_rate(384), learning_rate(768)
        (0.0001, 5e-05)
    """
    return float(f"{_RATE * _WIDTH / width:.1e}")


def complete_search(section: StudentSection, rows: int, backbone: Path) -> StudentSection:
    """Return the section with a learning rate and a number of epochs: as given, or by its preset.

    Args:
        section: The student's settings.
        rows: Number of training rows, at least 1.
        backbone: A folder as `backbone_folder` returns it. LoRA adapters are trained with the rate of MiniLM's width:
            their own width does not depend on the backbone's.
    """
    search = section.search
    if search.is_complete:
        return section
    nano = section.kind == "nano"
    schedule = (NANO_SCHEDULES if nano else SCHEDULES)[section.preset]
    if nano:
        rate = _NANO_RATE
    else:
        rate = _RATE if section.peft else learning_rate(AutoConfig.from_pretrained(backbone).hidden_size)
    # The largest batch size gives the fewest steps per epoch.
    batch_size = search.batch_size if isinstance(search.batch_size, tuple) else (search.batch_size.high,)
    by_preset = {
        "learning_rate": tuple(rate * times for times in schedule.rates),
        "epochs": (schedule.epochs(rows, max(batch_size)),),
    }
    given = {name: value for name in by_preset if (value := getattr(search, name)) is not None}
    return section.model_copy(update={"search": SearchSection(**(search.model_dump() | by_preset | given))})
