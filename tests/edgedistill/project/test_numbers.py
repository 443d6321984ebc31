"""Every number of a project file is finite and within what the program can use."""

import inspect
from collections.abc import Iterator
from typing import Annotated, Any, get_args, get_origin

import pytest
from pydantic import BaseModel, ValidationError

from edgedistill.project.schema import Project

SEEDS_OF_A_SHUFFLE = {("SplitSection", "seed"), ("MixSection", "seed")}
"""Python's generator takes any whole number."""
ONLY_COMPARED = {"usd", "tokens", "input_usd_per_million", "output_usd_per_million", "max_characters"}
"""A large one means that there is no limit, or a price that no budget allows."""


def leaves(annotation: Any) -> Iterator[Any]:
    if get_origin(annotation) is Annotated:
        yield from leaves(get_args(annotation)[0])
    elif get_origin(annotation):
        for inner in get_args(annotation):
            yield from leaves(inner)
    else:
        yield annotation


def sections(model: type[BaseModel], seen: set[type[BaseModel]]) -> Iterator[type[BaseModel]]:
    if model in seen:
        return
    seen.add(model)
    yield model
    for field in model.model_fields.values():
        for leaf in leaves(field.annotation):
            if inspect.isclass(leaf) and issubclass(leaf, BaseModel):
                yield from sections(leaf, seen)


NUMBERS = [
    (section, name)
    for section in sections(Project, set())
    for name, field in section.model_fields.items()
    if {int, float} & set(leaves(field.annotation))
]


def accepts(section: type[BaseModel], name: str, value: object) -> bool:
    """Whether a field takes a value, alone, in a list of one or two, or as the value of a key."""
    for given in (value, [value], [value, value], {"a": value}):
        try:
            section.__pydantic_validator__.validate_assignment(section.model_construct(), name, given)
        except (ValidationError, ValueError, TypeError, AttributeError):
            continue
        return True
    return False


def test_the_numbers_of_a_project_are_found():
    names = {(section.__name__, name) for section, name in NUMBERS}
    assert {("GateSection", "at_least"), ("StudentSection", "seeds"), ("SearchSection", "learning_rate")} <= names
    assert len(names) > 60


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_no_key_takes_a_number_that_is_not_finite(value):
    assert [(section.__name__, name) for section, name in NUMBERS if accepts(section, name, value)] == []


@pytest.mark.parametrize("value", [10**30, -(10**30), 1e308, -1e308])
def test_no_key_takes_a_number_that_is_absurd(value):
    found = {(section.__name__, name) for section, name in NUMBERS if accepts(section, name, value)}
    assert {each for each in found - SEEDS_OF_A_SHUFFLE if each[1] not in ONLY_COMPARED} == set()
