"""The pace: fewer requests in flight after refusals, more after answers, between one and the concurrency."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedistill.teacher.endpoint import Left, Room, room
from edgedistill.teacher.runner import Pace


class Clock:
    """A clock that a test turns."""

    now = 100.0

    def __call__(self) -> float:
        """Return what it shows."""
        return self.now


def enter_all(pace: Pace, count: int) -> int:
    """Let requests in and return how many came through at once."""

    async def enter() -> int:
        tasks = [asyncio.ensure_future(pace.enter()) for _ in range(count)]
        await asyncio.sleep(0.01)
        through = sum(task.done() for task in tasks)
        for task in tasks:
            task.cancel()
        return through

    return asyncio.run(enter())


def opened(most: int, clock: Clock) -> Pace:
    """A pace whose first request was answered."""
    pace = Pace(most, clock)
    pace.heard()
    return pace


def test_the_first_request_goes_alone() -> None:
    assert enter_all(Pace(3, Clock()), 5) == 1


def test_then_so_many_are_let_through_as_the_project_allows() -> None:
    assert enter_all(opened(3, Clock()), 5) == 3


def test_a_refusal_halves_the_limit_once_for_requests_sent_together() -> None:
    clock = Clock()
    pace = opened(16, clock)
    for _ in range(5):
        pace.refused(sent=99.0 if pace.limit < 16 else 100.0, wait=None)
    assert pace.limit == 8
    clock.now = 101.0
    pace.refused(sent=100.5, wait=None)
    assert pace.limit == 4


def test_as_many_answers_as_the_limit_raise_it_by_about_one() -> None:
    clock = Clock()
    pace = opened(16, clock)
    for sent in (100.0, 101.0):
        clock.now = sent
        pace.refused(sent=sent, wait=None)
    for _ in range(4):
        pace.answered(None, 10)
    assert 4.5 < pace.limit <= 5.1
    for _ in range(500):
        pace.answered(None, 10)
    assert pace.limit == 16


def test_a_lone_refusal_makes_nobody_else_wait_and_a_second_one_does() -> None:
    pace = opened(4, Clock())
    pace.refused(sent=100.0, wait=5.0)
    assert enter_all(pace, 1) == 1
    pace.refused(sent=99.0, wait=5.0)
    assert enter_all(pace, 1) == 0


def test_no_more_are_sent_than_the_headers_have_room_for_until_the_window_ends() -> None:
    clock = Clock()
    pace = opened(8, clock)
    pace.answered(Room(requests=Left(2, 30.0), tokens=None), 10)
    assert enter_all(pace, 5) == 2
    clock.now += 31
    assert enter_all(pace, 5) == 5


def test_room_for_tokens_is_room_for_so_many_requests_of_the_usual_size() -> None:
    pace = opened(8, Clock())
    pace.answered(Room(requests=None, tokens=Left(350, 30.0)), 100)
    assert enter_all(pace, 8) == 3


def test_nobody_waits_for_the_window_of_a_limit_that_has_room() -> None:
    clock = Clock()
    pace = opened(8, clock)
    pace.answered(Room(requests=Left(0, 1.0), tokens=Left(149_984, 360.0)), 10)
    assert enter_all(pace, 5) == 0
    clock.now += 2
    assert enter_all(pace, 5) == 5


def test_who_waits_is_let_through_when_another_leaves() -> None:
    async def run() -> bool:
        pace = Pace(1)
        await pace.enter()
        waiting = asyncio.ensure_future(pace.enter())
        await asyncio.sleep(0.05)
        waited = not waiting.done()
        pace.leave()
        await asyncio.wait_for(waiting, 60)
        return waited

    assert asyncio.run(run())


@given(st.lists(st.sampled_from(["answered", "refused", "later"]), max_size=200), st.integers(1, 1000))
def test_the_limit_stays_between_one_and_the_concurrency(events: list[str], most: int) -> None:
    async def run() -> None:
        clock = Clock()
        pace = Pace(most, clock)
        for event in events:
            if event == "answered":
                pace.answered(None, 10)
            elif event == "refused":
                pace.refused(clock.now, None)
            else:
                clock.now += 1
            assert 1 <= pace.limit <= most

    asyncio.run(run())


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1s", 1), ("6m0s", 360), ("120ms", 0.12), ("2h3m4.5s", 7384.5), ("59.5", 59.5), ("0", 0), ("1d", 86400)],
)
def test_a_reset_is_read_in_the_forms_that_endpoints_use(text: str, seconds: float) -> None:
    found = room({"x-ratelimit-remaining-requests": "7", "x-ratelimit-reset-requests": text})
    assert found is not None
    assert found == Room(requests=Left(7, pytest.approx(seconds)), tokens=None)


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
def test_headers_that_are_not_whole_say_nothing(headers: dict[str, str]) -> None:
    assert room(headers) is None


@given(st.dictionaries(st.sampled_from(["x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"]), st.text()))
def test_no_header_whatever_makes_the_reader_fail(headers: dict[str, Any]) -> None:
    found = room(headers)
    assert found is None or (found.requests is not None and found.requests.seconds >= 0)
