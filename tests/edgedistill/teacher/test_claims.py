"""Simultaneous runs with one cache: no answer is paid for twice, whatever happens to one of the runs."""

import signal
import time
from pathlib import Path

import pytest

from edgedistill.teacher import AnswerCache, label_responses
from edgedistill.teacher.claims import Claims

from ...processes import Process
from .codings import CODEBOOK, responses, section
from .stand_in import StandIn, coded
from .test_crashes import CHILD, TEXTS


def test_runs_that_start_together_on_a_new_cache_send_every_request_once(tmp_path: Path) -> None:
    with StandIn(coded("process", delay=0.01)) as teacher:
        children = [Process("-c", CHILD, tmp_path, teacher.base_url) for _ in range(3)]
        assert [child.communicate() for child in children] == [("", "")] * 3
        assert [child.wait() for child in children] == [0] * 3
        assert sorted(teacher.asked.values()) == [1] * len(TEXTS)
    assert not list(tmp_path.glob("claims-*.lock"))


def test_a_killed_run_keeps_no_claim(tmp_path: Path) -> None:
    with StandIn(coded("process", delay=0.5)) as teacher:
        killed = Process("-c", CHILD, tmp_path, teacher.base_url)
        while len(teacher.bodies) < 3:  # several are in flight
            assert killed.poll() is None
            time.sleep(0.01)
        killed.send_signal(signal.SIGKILL)
        killed.communicate()
        with AnswerCache(tmp_path) as cache:
            texts = TEXTS[:5]
            done = label_responses(responses(*texts), CODEBOOK, section(teacher.base_url, concurrency=5), cache)
    assert len(done.labels) == 5
    assert not list(tmp_path.glob("claims-*.lock"))


class Clock:
    """A clock that the test sets."""

    now = 1000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


def test_a_claim_of_another_run_holds_until_it_is_released(tmp_path: Path) -> None:
    with Claims(tmp_path) as one, Claims(tmp_path) as other:
        assert one.acquire("a", 60)
        assert not other.acquire("a", 60)
        assert not one.acquire("a", 60)  # nor twice by the same run
        assert other.acquire("b", 60)
        one.release("a")
        assert other.acquire("a", 60)


def test_a_claim_ends_after_its_time_and_is_then_not_extended(tmp_path: Path) -> None:
    clock = Clock()
    with Claims(tmp_path, clock) as stopped, Claims(tmp_path, clock) as other:
        assert stopped.acquire("a", 60)
        clock.now += 50
        assert stopped.extend("a", 60)
        clock.now += 50
        assert not other.acquire("a", 60)
        clock.now += 20
        assert other.acquire("a", 60)
        assert not stopped.extend("a", 60)
        stopped.release("a")
        assert not stopped.acquire("a", 60)


def test_the_end_of_a_run_releases_its_claims(tmp_path: Path) -> None:
    with Claims(tmp_path) as one:
        assert one.acquire("a", 1e6)
    with Claims(tmp_path) as other:
        assert other.acquire("a", 60)


@pytest.mark.parametrize("content", [b"", b"x", b"\0" * 5000, b"SQLite format 3\0" + b"\xff" * 9000])
def test_a_damaged_file_of_claims_is_started_again(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "claims.db").write_bytes(content)
    with Claims(tmp_path) as claims, Claims(tmp_path) as other:
        assert claims.acquire("a", 60)
        assert not other.acquire("a", 60)
