"""Clients with a fake server that fails like real servers and networks."""

import socket
import subprocess
import sys

import pytest

from edgedistill_serve.client import (
    Busy,
    ClientError,
    Refused,
    Retries,
    ServerFailed,
    StrangeAnswer,
    Timeouts,
    Unreachable,
    results,
)

from .conftest import ONE, PROBLEM, Answer

SECRET = "zebraphone"
BUSY = Answer(429, {"detail": "4000 responses are waiting"}, Content_Type=PROBLEM, Retry_After="3")
STARTING = Answer(503, {"detail": "the server is starting"}, Content_Type=PROBLEM)


def test_a_score_has_its_model(server, connect):
    scored = connect().score("x")
    assert (scored.model, scored.version, scored.score.label) == ("praise", "0123456789ab", "process")
    assert scored.score.probabilities == {"process": 0.75, "outcome": 0.25}


def test_the_key_is_sent_with_every_request(server, connect):
    connect(key="eds_secret").score("x")
    connect().score("x")
    (_, with_key, _), (_, without, _) = server.requests
    assert with_key["Authorization"] == "Bearer eds_secret"
    assert "Authorization" not in without


def test_a_busy_server_is_retried_after_its_retry_after(server, connect, waits):
    server.script = [BUSY, BUSY, Answer()]
    assert connect().score("x").score.label == "process"
    assert waits == [3.0, 3.0]


def test_waits_grow_where_the_server_names_none(server, connect, waits):
    server.script = [STARTING, None, STARTING, Answer()]
    connect().score("x")
    assert waits == [0.25, 0.5, 1.0]


def test_waits_differ_between_clients_and_stay_within_their_bounds():
    early, late = Retries(draw=lambda: 0.999, longest_wait=4), Retries(draw=lambda: 0.0, longest_wait=4)
    assert [round(early.wait(failed), 2) for failed in (1, 2, 3)] == [0.13, 0.25, 0.5]
    assert late.wait(1000) == 4


@pytest.mark.parametrize("retry_after", ["Wed, 21 Oct 2026 07:28:00 GMT", "-1", "nan", "inf", "", "1e999"])
def test_an_invalid_retry_after_is_ignored(server, connect, waits, retry_after):
    server.script = [Answer(429, {}, Content_Type=PROBLEM, Retry_After=retry_after), Answer()]
    connect().score("x")
    assert waits == [0.25]


def test_a_server_that_stays_busy_is_an_error_after_all_attempts(server, connect, waits):
    server.script = [BUSY]
    with pytest.raises(Busy, match=r"/v1/score: the server had no capacity \(429\), tried 3 times") as caught:
        connect(retries=Retries(tries=3)).score("x")
    assert (len(server.requests), len(waits), caught.value.status) == (3, 2, 429)


def test_a_retry_after_beyond_the_longest_wait_ends_the_retries(server, connect, waits):
    server.script = [Answer(503, {}, Content_Type=PROBLEM, Retry_After="3600")]
    with pytest.raises(Busy, match="tried once"):
        connect().score("x")
    assert waits == []


def test_a_connection_that_breaks_is_tried_again(server, connect):
    server.script = [None, Answer(cut=True), Answer()]
    assert connect().score("x").score.label == "process"
    assert len(server.requests) == 3


def test_no_server_at_all_is_named_with_its_address(connect, waits):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
    with pytest.raises(Unreachable, match=rf"{url}/v1/score: there was no answer \(ConnectError\), tried 5 times"):
        connect(url).score("x")
    assert len(waits) == 4


def test_a_silent_server_is_an_error_after_the_timeout(server, connect):
    server.script = ["hang"]
    with pytest.raises(Unreachable, match="ReadTimeout"):
        connect(timeouts=Timeouts(answer=0.2), retries=Retries(tries=1)).score("x")


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, Refused), (401, Refused), (404, Refused), (413, Refused), (422, Refused), (500, ServerFailed)],
)
def test_a_refusal_has_the_servers_reason_and_is_not_retried(server, connect, status, kind):
    server.script = [Answer(status, {"title": "No", "detail": "it is blue. Paint it."}, Content_Type=PROBLEM)]
    with pytest.raises(kind, match=rf"it is blue. Paint it \({status}\)$") as caught:
        connect().score("x")
    assert (caught.value.status, len(server.requests)) == (status, 1)


@pytest.mark.parametrize(
    "answer",
    [
        Answer(200, b"<html>zebraphone</html>", Content_Type="text/html"),
        Answer(200, {"model": "praise"}),
        Answer(200, [SECRET]),
        Answer(200, {**ONE, "probability": SECRET}),
        Answer(200, b'{"model": "\xff"}'),
        Answer(200, b"[" * 100_000),
        Answer(302, b"", Location=f"http://127.0.0.1:1/{SECRET}"),
        Answer(404, f"no {SECRET} here".encode()),
        Answer(500, f"no {SECRET} here".encode()),
    ],
)
def test_an_answer_of_another_server_is_not_quoted(server, connect, answer):
    server.script = [answer]
    with pytest.raises(StrangeAnswer) as caught:
        connect().score(SECRET)
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None
    assert len(server.requests) == 1


@pytest.mark.parametrize("script", [[BUSY], [None], [Answer(422, {"detail": "no"}, Content_Type=PROBLEM)]])
def test_no_error_contains_the_text(server, connect, script):
    server.script = script
    for ask in ("score", "score_many", "score_stream"):
        with pytest.raises(ClientError) as caught:
            list(getattr(connect(), ask)([SECRET] if ask != "score" else SECRET))
        assert SECRET not in repr(caught.value)


@pytest.mark.parametrize("url", ["", "127.0.0.1:8000", "ftp://127.0.0.1", "http://", "http://x:y"])
def test_an_invalid_address_is_refused_before_anything_is_sent(connect, url):
    with pytest.raises(Refused, match="this is not the address of a server"):
        connect(url)


def test_a_key_that_cannot_be_sent_is_refused_without_being_shown(connect):
    with pytest.raises(Refused, match="the API key contains spaces") as caught:
        connect(key=f"{SECRET}\nX-Other: 1")
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("response", [5, None, {"response": object()}, "\ud800", b"x"])
def test_a_response_that_is_not_a_text_is_refused_before_anything_is_sent(server, connect, response):
    with pytest.raises(Refused, match="response 1: the response is neither a string nor a mapping of strings"):
        connect().score(response)
    assert server.requests == []


def test_the_environment_sends_no_text_to_a_proxy(server, connect, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    assert connect().score("x").score.label == "process"


def test_the_error_tree_is_drawn_with_every_error():
    tree = [name for name, kind in vars(results).items() if isinstance(kind, type) and issubclass(kind, ClientError)]
    assert [name for name in tree if f"{name}  " not in results.__doc__] == []
    assert len(tree) == 7


def test_without_httpx_the_error_names_the_install_command():
    code = "import sys; sys.modules['httpx'] = None; import edgedistill_serve.client"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (
        ended.stderr.strip()
        .splitlines()[-1]
        .endswith('httpx is not installed. Install it: pip install "edgedistill-serve[client]".')
    )
