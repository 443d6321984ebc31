"""Many responses: how they are split, sent and joined."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedistill_serve.client import NotScored, Refused, Retries, Scored, StrangeAnswer, Unreachable
from edgedistill_serve.client.core import BULK_BYTES, BULK_ROWS, BatchBuffer, encode_list, split_batches
from edgedistill_serve.client.results import RequestLimits

from .conftest import PROBLEM, SCORE, Answer

LISTING = {"models": [], "limits": {"items": 2, "body_bytes": 400}}


def several(*scores: object) -> Answer:
    return Answer(200, {"model": "praise", "version": "0123456789ab", "scores": list(scores)})


def lines(*scores: object) -> Answer:
    body = b"".join(json.dumps(score).encode() + b"\n" for score in scores)
    return Answer(200, body, Content_Type="application/x-ndjson", X_Model="praise@0123456789ab")


@given(st.lists(st.binary(max_size=40)), st.integers(1, 9), st.integers(280, 600), st.text(max_size=9))
def test_batches_hold_every_response_once_in_order_and_keep_both_limits(items, most, size, model):
    found = list(split_batches(items, RequestLimits(most, size), model))
    assert [item for batch in found for item in batch] == items
    assert all(1 <= len(batch) <= most for batch in found)
    assert all(len(encode_list(batch, model)) <= size or len(batch) == 1 for batch in found)


@given(st.lists(st.binary(max_size=9)), st.integers(1, 4), st.integers(1, 30))
def test_windows_hold_every_response_once_in_order(items, rows, size):
    window = BatchBuffer(rows=rows, size=size)
    found = [batch for item in items for batch in window.add(item)] + list(window.flush())
    assert [item for batch in found for item in batch] == items
    assert all(len(batch) <= rows for batch in found)


def test_a_list_is_split_by_the_servers_limits_and_keeps_its_order(server, connect):
    server.script = [
        Answer(200, LISTING),
        several({**SCORE, "tokens": 1}, {**SCORE, "tokens": 2}),
        several({**SCORE, "tokens": 3}),
    ]
    results = connect().score_many(["a", {"response": "b"}, "c"])
    assert [result.score.tokens for result in results] == [1, 2, 3]
    assert server.paths == ["/v1/models", "/v1/score", "/v1/score"]
    assert json.loads(server.requests[1][2]) == {"responses": ["a", {"response": "b"}]}


def test_the_limits_are_requested_once(server, connect):
    server.script = [Answer(200, LISTING), several(SCORE)]
    client = connect(model="praise")
    client.score_many(["a"])
    client.score_many(["b"])
    assert server.paths.count("/v1/models") == 1
    assert json.loads(server.requests[-1][2]) == {"responses": ["b"], "model": "praise"}


def test_no_response_asks_for_no_score(server, connect):
    server.script = [Answer(200, LISTING)]
    assert connect().score_many([]) == []
    assert list(connect().score_stream([])) == []
    assert "/v1/score" not in server.paths


def test_a_response_that_could_not_be_scored_takes_no_other_with_it(server, connect):
    server.script = [Answer(200, LISTING), several(SCORE, {"error": "the model failed on this response"})]
    scored, failed = connect().score_many(["a", "b"])
    assert isinstance(scored, Scored)
    assert failed == NotScored("praise", "0123456789ab", "the model failed on this response")


def test_a_response_that_is_too_long_fails_alone(server, connect):
    too_large = Answer(413, {"detail": "the body is longer than 400 bytes."}, Content_Type=PROBLEM)
    server.script = [Answer(200, LISTING), several(SCORE), too_large, several(SCORE)]
    first, second, third = connect().score_many(["a", "b" * 999, "c"])
    assert second == NotScored(None, None, "the body is longer than 400 bytes (413)")
    assert isinstance(first, Scored)
    assert isinstance(third, Scored)


def test_a_refused_list_names_the_positions_of_its_responses(server, connect):
    refused = Answer(422, {"detail": "responses[0]: the input 'question' is missing"}, Content_Type=PROBLEM)
    server.script = [Answer(200, LISTING), several(SCORE, SCORE), refused]
    with pytest.raises(Refused, match=r"^responses 3 to 4: .*responses\[0\]: the input 'question' is missing"):
        connect().score_many(["a", "b", "c", "d"])


def test_an_answer_of_another_length_is_an_error(server, connect):
    server.script = [Answer(200, LISTING), several(SCORE)]
    with pytest.raises(StrangeAnswer):
        connect().score_many(["a", "b"])


def test_a_stream_is_sent_in_batches_and_keeps_its_order(server, connect):
    server.script = [lines(*[SCORE] * BULK_ROWS), lines({**SCORE, "tokens": 9}, {"error": "no"})]
    results = list(connect(model="a b").score_stream(f"é{number}" for number in range(BULK_ROWS + 2)))
    assert len(results) == BULK_ROWS + 2
    assert results[-2].score.tokens == 9
    assert results[-1] == NotScored("praise", "0123456789ab", "no")
    assert server.paths == ["/v1/score/bulk?model=a%20b"] * 2
    assert server.requests[1][2] == '"é500"\n"é501"\n'.encode()


def test_a_window_of_a_stream_is_never_longer_than_sockets_hold(server, connect):
    server.script = [lines(SCORE)]
    for _ in connect().score_stream(["x" * (BULK_BYTES - 10)] * 3):
        pass
    assert len(server.requests) == 3


def test_a_stream_takes_no_more_than_a_window_ahead(server, connect):
    taken = []
    server.script = [lines(*[SCORE] * BULK_ROWS)]
    stream = connect().score_stream(taken.append(number) or "x" for number in range(10 * BULK_ROWS))
    next(stream)
    assert len(taken) == BULK_ROWS + 1
    stream.close()


def test_an_incomplete_stream_is_retried(server, connect, waits):
    cut = lines(SCORE, {"error": "the server is draining; this row and those after it were not scored"})
    server.script = [cut, Answer(200, b'{"lab', Content_Type="application/x-ndjson"), lines(SCORE, SCORE, SCORE)]
    assert len(list(connect().score_stream(list("abc")))) == 3
    assert waits == [0.25, 0.5]


def test_a_stream_that_the_server_ended_at_the_last_row_is_retried(server, connect, waits):
    server.script = [lines(SCORE, {"error": "the server is draining", "ended": True}), lines(SCORE, SCORE)]
    assert all(isinstance(result, Scored) for result in connect().score_stream(list("ab")))
    assert waits == [0.25]


def test_lines_that_say_nothing_are_no_answer(server, connect):
    server.script = [Answer(200, b"\n\n", Content_Type="application/x-ndjson")]
    with pytest.raises(StrangeAnswer):
        list(connect().score_stream(list("ab")))


def test_a_stream_that_is_always_incomplete_is_an_error(server, connect):
    server.script = [lines(SCORE)]
    with pytest.raises(Unreachable, match="the answer was incomplete"):
        list(connect(retries=Retries(tries=2)).score_stream(list("ab")))
