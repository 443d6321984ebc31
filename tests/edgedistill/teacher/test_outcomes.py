import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedistill.teacher.parsing import FailureCause
from edgedistill.teacher.replies import (
    ChatAnswer,
    Fatal,
    FormatUnsupported,
    Outcome,
    Rejected,
    Retryable,
    classify_body,
    classify_status,
    parse_retry_after,
)


def of(status: int, error: Any = None, *, formatted: bool = True, verified: bool = False) -> Outcome:
    body = error if isinstance(error, str) else json.dumps({"error": error or {"message": "no"}})
    return classify_status(status, {}, body, formatted=formatted, verified=verified)


@pytest.mark.parametrize(
    ("status", "cause"),
    [(429, FailureCause.RATE_LIMITED), (500, FailureCause.SERVER_ERROR), (503, FailureCause.SERVER_ERROR)],
)
def test_an_error_of_a_busy_endpoint_is_retryable(status: int, cause: FailureCause) -> None:
    outcome = of(status)
    assert isinstance(outcome, Retryable)
    assert outcome.failure.cause is cause
    assert not outcome.maybe_billed


def test_an_html_error_page_is_classified_by_its_status() -> None:
    assert isinstance(of(502, "<html><h1>502 Bad Gateway</h1></html>"), Retryable)
    assert of(401, "<html>Sign in</html>") == Fatal("key", "HTTP 401")
    assert of(404, "<html>Not Found</html>") == Fatal("address", "HTTP 404")


def test_an_account_without_credit_stops_the_run() -> None:
    assert of(429, {"message": "You exceeded your quota", "code": "insufficient_quota"}) == Fatal(
        "quota", "HTTP 429 insufficient_quota"
    )
    assert of(402, {"message": "Insufficient credits", "code": 402}) == Fatal("quota", "HTTP 402")
    in_a_200 = json.dumps({"error": {"message": "You exceeded your quota", "code": "insufficient_quota"}})
    assert classify_body(in_a_200, verified=True) == Fatal("quota", "HTTP 429 insufficient_quota")


def test_a_forbidden_request_says_nothing_about_the_key_unless_its_message_does() -> None:
    assert isinstance(of(403), Rejected)
    assert isinstance(of(403, "<html>Request blocked</html>"), Rejected)
    assert of(403, {"message": "Forbidden"}) == Fatal("key", "HTTP 403")
    assert isinstance(of(403, {"message": "Forbidden"}, verified=True), Rejected)


@pytest.mark.parametrize(
    "error",
    [
        {"message": "The model `x` does not exist or you do not have access to it.", "code": "model_not_found"},
        {"message": "The model `x` does not exist.", "type": "NotFoundError", "code": 404},
        {"message": 'model "x" not found, try pulling it first', "type": "api_error"},
        "model 'x' not found",
        {"message": "The API deployment for this resource does not exist.", "code": "DeploymentNotFound"},
    ],
)
def test_an_unknown_model_is_recognised_by_the_wording_of_servers(error: Any) -> None:
    body = error if isinstance(error, dict) else json.dumps({"error": error})
    outcome = of(404, body, verified=True)
    assert isinstance(outcome, Fatal)
    assert outcome.kind == "model"


def test_an_answer_that_was_never_recorded_fails_its_response_only() -> None:
    outcome = of(404, {"message": "no recorded vote for 'a model not found'", "code": "recording_missing"})
    assert isinstance(outcome, Rejected)
    assert outcome.failure.cause is FailureCause.NOT_RECORDED


@pytest.mark.parametrize(
    "message",
    [
        "Invalid parameter: 'response_format' of type 'json_schema' is not supported with this model.",
        "Unsupported value: json_object",
        "This model does not support structured outputs",
        "failed to parse grammar",
    ],
)
def test_an_unsupported_answer_format_is_distinguished_from_other_bad_requests(message: str) -> None:
    assert of(400, {"message": message}) == FormatUnsupported()
    assert isinstance(of(400, {"message": message}, formatted=False), Rejected)
    assert isinstance(of(400, {"message": "your text was flagged", "code": "content_filter"}), Rejected)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ('{"choices": [{"message": {}}]}', ChatAnswer),
        ('{"error": {"message": "overloaded", "code": 503}}', Retryable),
        ('{"error": {"message": "slow down", "code": "rate_limit_exceeded"}}', Retryable),
        ('{"error": {"message": "bad", "code": "invalid"}}', Rejected),
        ("<html>Welcome</html>", Retryable),
        ("", Retryable),
        ('{"hello": 1}', Retryable),
        ("[" * 100_000, Retryable),
    ],
)
def test_a_body_with_status_200_is_an_answer_only_with_choices(body: str, kind: type) -> None:
    assert isinstance(classify_body(body, verified=False), kind)


def test_the_body_is_saved_and_only_a_plain_code_is_reported() -> None:
    outcome = of(400, {"message": "secret text", "code": "the learner wrote: secret text"})
    assert isinstance(outcome, Rejected)
    assert "secret text" in outcome.failure.raw
    assert outcome.failure.code == "HTTP 400"


@given(st.integers(300, 599), st.text() | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps))
def test_every_error_reply_is_classified(status: int, body: str) -> None:
    for verified in (False, True):
        outcome = classify_status(status, {}, body, formatted=True, verified=verified)
        assert isinstance(outcome, Retryable | Rejected | FormatUnsupported | Fatal)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "2"}, 2.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
    ],
)
def test_retry_after_is_read_in_seconds(headers: dict[str, str], seconds: float | None) -> None:
    assert parse_retry_after(headers) == seconds


def test_a_refused_request_waits_only_for_the_exhausted_quota() -> None:
    headers = {
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "1s",
        "x-ratelimit-remaining-tokens": "149984",
        "x-ratelimit-reset-tokens": "6m0s",
    }
    outcome = classify_status(429, headers, "{}", formatted=True, verified=True)
    assert isinstance(outcome, Retryable)
    assert outcome.retry_after == 1.0


def test_retry_after_may_be_a_date() -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    assert parse_retry_after({"retry-after": date}) == pytest.approx(30, abs=2)
