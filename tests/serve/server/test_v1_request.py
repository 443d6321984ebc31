"""The body of a score request matches the schema, or is an error of the client."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedistill_serve import NotJson, RequestError, RequestTooLarge, WrongShape
from edgedistill_serve.server.protocols.scoring_request import parse_score_request


def read(body: bytes):
    return parse_score_request(body, max_items=3)


def test_one_response_is_a_request_for_one_score():
    request = read(b'{"response": "x", "question": "y", "model": "praise"}')
    assert request.is_list is False
    assert request.model == "praise"
    assert request.responses == ({"response": "x", "question": "y", "model": "praise"},)


def test_a_list_is_a_request_for_a_list():
    request = read(b'{"responses": ["x", {"response": "y"}]}')
    assert (request.is_list, request.model) == (True, None)
    assert request.responses == ("x", {"response": "y"})


def test_an_empty_list_is_a_request_for_an_empty_list():
    assert read(b'{"responses": []}').responses == ()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"hello",
        b"{",
        b"NaN",
        b'{"response": NaN}',
        b'{"response": "x"} more',
        b'{"response": "\xff"}',
        b'{"response": "\\ud800"}',
        b'{"response": "\\udc00 and more"}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        2 * b"\xef\xbb\xbf" + b"{}",
        b'{"response": "x", "response": "x"}',
        b'{"response": 1e999}',
    ],
)
def test_invalid_json_and_invalid_schema_are_different_errors(body):
    with pytest.raises(NotJson):
        read(body)


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b'"x"',
        b"null",
        b"{}",
        b'{"text": "x"}',
        b'{"response": "x", "responses": []}',
        b'{"responses": "x"}',
        b'{"responses": {"0": "x"}}',
        b'{"response": "x", "model": 3}',
    ],
)
def test_another_shape_is_refused(body):
    with pytest.raises(WrongShape):
        read(body)


def test_too_many_items_are_refused():
    with pytest.raises(RequestTooLarge, match="the list has 4 responses, the limit is 3"):
        read(b'{"responses": ["a", "b", "c", "d"]}')


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["response", "responses", "model", "x"]), inner),
    max_leaves=12,
)


@given(JSON.map(msgspec.json.encode) | st.binary())
def test_any_body_is_a_request_or_an_error_of_the_client(body):
    try:
        request = read(body)
    except RequestError:
        return
    assert len(request.responses) <= 3
