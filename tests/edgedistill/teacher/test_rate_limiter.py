"""The rate limiter: fewer requests in flight after refusals, more after answers, between one and the concurrency."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedistill.teacher.replies import LimitWindow, RateLimits, parse_rate_limits
from edgedistill.teacher.runner import RateLimiter


class Clock:
    """A clock that the test sets."""

    now = 100.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


def acquire_all(limiter: RateLimiter, count: int) -> int:
    """Acquire for several requests; return how many may be sent at once."""

    async def acquire() -> int:
        tasks = [asyncio.ensure_future(limiter.acquire()) for _ in range(count)]
        await asyncio.sleep(0.01)
        sent_at_once = sum(task.done() for task in tasks)
        for task in tasks:
            task.cancel()
        return sent_at_once

    return asyncio.run(acquire())


def past_probing(most: int, clock: Clock) -> RateLimiter:
    """Return a limiter whose first request was answered."""
    limiter = RateLimiter(most, clock)
    limiter.end_probing()
    return limiter


def test_the_first_request_goes_alone() -> None:
    assert acquire_all(RateLimiter(3, Clock()), 5) == 1


def test_after_that_as_many_requests_as_the_project_allows_are_in_flight() -> None:
    assert acquire_all(past_probing(3, Clock()), 5) == 3


def test_a_refusal_halves_the_limit_once_for_requests_in_flight_together() -> None:
    clock = Clock()
    limiter = past_probing(16, clock)
    for _ in range(5):
        limiter.record_refusal(sent_at=99.0 if limiter.limit < 16 else 100.0, retry_after=None)
    assert limiter.limit == 8
    clock.now = 101.0
    limiter.record_refusal(sent_at=100.5, retry_after=None)
    assert limiter.limit == 4


def test_as_many_answers_as_the_limit_raise_it_by_about_one() -> None:
    clock = Clock()
    limiter = past_probing(16, clock)
    for sent in (100.0, 101.0):
        clock.now = sent
        limiter.record_refusal(sent_at=sent, retry_after=None)
    for _ in range(4):
        limiter.record_answer(None, 10)
    assert 4.5 < limiter.limit <= 5.1
    for _ in range(500):
        limiter.record_answer(None, 10)
    assert limiter.limit == 16


def test_a_single_refusal_delays_no_other_request_and_a_second_one_does() -> None:
    limiter = past_probing(4, Clock())
    limiter.record_refusal(sent_at=100.0, retry_after=5.0)
    assert acquire_all(limiter, 1) == 1
    limiter.record_refusal(sent_at=99.0, retry_after=5.0)
    assert acquire_all(limiter, 1) == 0


def test_no_more_requests_are_sent_than_the_quota_allows_until_it_resets() -> None:
    clock = Clock()
    limiter = past_probing(8, clock)
    limiter.record_answer(RateLimits(requests=LimitWindow(2, 30.0), tokens=None), 10)
    assert acquire_all(limiter, 5) == 2
    clock.now += 31
    assert acquire_all(limiter, 5) == 5


def test_a_quota_of_tokens_is_converted_to_requests_of_the_mean_size() -> None:
    limiter = past_probing(8, Clock())
    limiter.record_answer(RateLimits(requests=None, tokens=LimitWindow(350, 30.0)), 100)
    assert acquire_all(limiter, 8) == 3


def test_requests_wait_only_for_the_reset_of_the_exhausted_quota() -> None:
    clock = Clock()
    limiter = past_probing(8, clock)
    limiter.record_answer(RateLimits(requests=LimitWindow(0, 1.0), tokens=LimitWindow(149_984, 360.0)), 10)
    assert acquire_all(limiter, 5) == 0
    clock.now += 2
    assert acquire_all(limiter, 5) == 5


def test_a_waiting_request_is_sent_when_another_one_ends() -> None:
    async def run() -> bool:
        limiter = RateLimiter(1)
        await limiter.acquire()
        waiting = asyncio.ensure_future(limiter.acquire())
        await asyncio.sleep(0.05)
        waited = not waiting.done()
        limiter.release()
        await asyncio.wait_for(waiting, 60)
        return waited

    assert asyncio.run(run())


@given(st.lists(st.sampled_from(["answered", "refused", "later"]), max_size=200), st.integers(1, 1000))
def test_the_limit_stays_between_one_and_the_concurrency(events: list[str], most: int) -> None:
    async def run() -> None:
        clock = Clock()
        limiter = RateLimiter(most, clock)
        for event in events:
            if event == "answered":
                limiter.record_answer(None, 10)
            elif event == "refused":
                limiter.record_refusal(clock.now, None)
            else:
                clock.now += 1
            assert 1 <= limiter.limit <= most

    asyncio.run(run())


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1s", 1), ("6m0s", 360), ("120ms", 0.12), ("2h3m4.5s", 7384.5), ("59.5", 59.5), ("0", 0), ("1d", 86400)],
)
def test_a_reset_is_parsed_in_the_formats_of_endpoints(text: str, seconds: float) -> None:
    found = parse_rate_limits({"x-ratelimit-remaining-requests": "7", "x-ratelimit-reset-requests": text})
    assert found is not None
    assert found == RateLimits(requests=LimitWindow(7, pytest.approx(seconds)), tokens=None)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-ratelimit-remaining-requests": "0"},
        {"x-ratelimit-remaining-requests": "many", "x-ratelimit-reset-requests": "1s"},
        {"x-ratelimit-remaining-requests": "-1", "x-ratelimit-reset-requests": "1s"},
        {"x-ratelimit-remaining-requests": "1", "x-ratelimit-reset-requests": "soon"},
        {"x-ratelimit-remaining-requests": "1", "x-ratelimit-reset-requests": ""},
    ],
)
def test_incomplete_headers_are_ignored(headers: dict[str, str]) -> None:
    assert parse_rate_limits(headers) is None


@given(st.dictionaries(st.sampled_from(["x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"]), st.text()))
def test_no_header_makes_the_parser_fail(headers: dict[str, Any]) -> None:
    found = parse_rate_limits(headers)
    assert found is None or (found.requests is not None and found.requests.reset_seconds >= 0)
