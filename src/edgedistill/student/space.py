"""What a search may try, in Optuna's words."""

from itertools import product
from typing import Any, TypeAlias

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from edgedistill.project.search_section import CountRange, LearningRange, SearchSection

Parameters: TypeAlias = dict[str, Any]
"""``learning_rate``, ``batch_size`` and ``epochs`` of one setting."""

NAMES = ("learning_rate", "batch_size", "epochs")


def distributions(section: SearchSection) -> dict[str, BaseDistribution]:
    """What each parameter is drawn from: learning rates from a range by their logarithm."""
    return {name: _distribution(getattr(section, name)) for name in NAMES}


def grid(section: SearchSection) -> list[Parameters]:
    """Every combination of the lists, the epochs varying fastest."""
    combinations = product(section.learning_rate, section.batch_size, section.epochs)
    return [dict(zip(NAMES, values, strict=True)) for values in combinations]


def _distribution(values: tuple[float, ...] | LearningRange | CountRange) -> BaseDistribution:
    if isinstance(values, LearningRange):
        return FloatDistribution(values.low, values.high, log=True)
    if isinstance(values, CountRange):
        return IntDistribution(values.low, values.high)
    return CategoricalDistribution(values)
