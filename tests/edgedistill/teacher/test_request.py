import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedistill.teacher.cache import KEY_VERSION, compute_key

from .codings import request

OTHERS: dict[str, Any] = {
    "base_url": "https://other.example/v1",
    "model": "n",
    "messages": ({"role": "user", "content": "<response>y</response>"},),
    "response_format": None,
    "sampling": {"temperature": 0.7, "seed": 1},
    "max_output_tokens": 301,
    "vote": 1,
}


def test_the_key_of_a_request_does_not_change_from_version_to_version() -> None:
    # A new digest here means that every paid answer is asked for again: raise KEY_VERSION and say so to users.
    assert request().key() == "90a8cfaefc58e6951b825e8042932afc0285fd5e5297e1308da0b6f581d67f1d"


@pytest.mark.parametrize("field", OTHERS)
def test_every_field_is_part_of_the_key(field: str) -> None:
    assert request(**{field: OTHERS[field]}).key() != request().key()


@pytest.mark.parametrize("sampling", [{"temperature": 0.8, "seed": 0}, {"temperature": 0.7}, {"top_p": 0.7, "seed": 0}])
def test_every_sampling_parameter_is_part_of_the_key(sampling: dict[str, float]) -> None:
    assert request(sampling=sampling).key() != request().key()


def test_the_key_version_is_part_of_the_key() -> None:
    content = request().content()
    assert compute_key(content | {"key_version": KEY_VERSION + 1}) != compute_key(content)


def test_an_earlier_turn_and_its_role_are_part_of_the_key() -> None:
    turns = [{"role": role, "content": "x"} for role in ("system", "user")]
    keys = {request(messages=(first, *request().messages)).key() for first in turns}
    assert len(keys | {request().key()}) == 3


def test_the_content_is_exactly_what_the_key_is_made_from() -> None:
    assert set(request().content()) == {"key_version", *OTHERS}


@given(st.text())
def test_a_key_survives_the_way_through_a_file(text: str) -> None:
    asked = request(messages=({"role": "user", "content": text},))
    assert compute_key(json.loads(json.dumps(asked.content()))) == asked.key()
