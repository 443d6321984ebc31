"""The response keeps its tokens before the context does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedistill_serve.encoding import Encoder


@pytest.fixture(scope="module")
def encoder(parts) -> Encoder:
    return Encoder(parts / "tokenizer.json", 12)


def test_a_long_context_is_cut_before_the_response(encoder):
    (encoded,) = encoder.encode([{"question": "why " * 30, "response": "you worked hard"}])
    assert len(encoded.ids) == 12
    assert encoded.type_ids.count(1) == len(["you", "worked", "hard", "[SEP]"])
    assert (encoded.tokens, encoded.truncated) == (3, False)


def test_a_response_that_is_cut_says_so(encoder):
    (encoded,) = encoder.encode([{"response": "hard " * 30}])
    assert (len(encoded.ids), encoded.tokens, encoded.truncated) == (12, 30, True)


def test_marks_that_a_learner_types_are_plain_text(encoder):
    (encoded,) = encoder.encode([{"response": "[SEP]"}])
    assert encoded.ids.count(3) == 1


ROWS = st.lists(
    st.fixed_dictionaries({"response": st.text(max_size=40)}, optional={"question": st.text(max_size=40)}), max_size=5
)


@given(ROWS)
def test_a_row_is_encoded_the_same_alone_and_among_others(encoder, rows):
    rows = [row for row in rows if all(not "\ud800" <= c <= "\udfff" for text in row.values() for c in text)]
    together = encoder.encode(rows)
    assert together == [encoder.encode([row])[0] for row in rows]
    assert all(len(encoded.ids) == len(encoded.type_ids) <= 12 for encoded in together)
