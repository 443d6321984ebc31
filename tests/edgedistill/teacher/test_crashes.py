"""Faults at realistic rates, kill -9, Ctrl-C: nothing is lost, and no stored answer is requested again."""

import hashlib
import signal
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgedistill.errors import TeacherRefusedKey
from edgedistill.teacher import AnswerCache, label_responses

from ...processes import Process
from .codings import CODEBOOK, NO_WAIT, responses, section
from .stand_in import Reply, StandIn, coded, completion, error, text_of

TEXTS = [f"text {number}" for number in range(60)]
RATES = (
    (error(429, headers={"retry-after": "0.01"}), 0.10),
    (error(500), 0.05),
    (error(503), 0.02),
    (Reply(drop=True), 0.05),
    (completion('{"lab', finish="length"), 0.02),
    (completion("Sure! {"), 0.03),
    (coded("no-such-label"), 0.02),
    (completion(""), 0.02),
    (completion(None, refusal="no"), 0.01),
)


def faulty(body: dict[str, Any], before: int) -> Reply:
    drawn = int(hashlib.sha256(f"{text_of(body)}/{body['seed']}/{before}".encode()).hexdigest()[:8], 16) / 2**32
    for reply, rate in RATES:
        if drawn < rate:
            return reply
        drawn -= rate
    return coded("process" if text_of(body) < "text 3" else "outcome")


def test_under_faults_every_response_is_accounted_for_and_nothing_stored_is_requested_again(tmp_path: Path) -> None:
    rows, good = responses(*TEXTS), Counter[tuple[str, int]]()

    def script(body: dict[str, Any], before: int) -> Reply:
        reply = faulty(body, before)
        good[text_of(body), body["seed"]] += reply in (coded("process"), coded("outcome"))
        return reply

    with StandIn(script) as teacher, AnswerCache(tmp_path) as cache:
        given = section(teacher.base_url, votes=3, tries=3, concurrency=8)
        done = label_responses(rows, CODEBOOK, given, cache, retry_policy=NO_WAIT)
        asked, stored = len(teacher.bodies), cache.stats().entries
        again = label_responses(rows, CODEBOOK, given, cache, retry_policy=NO_WAIT)
        assert again.usage.cached == stored
        assert sum(good.values()) == cache.stats().entries
    assert max(good.values()) == 1
    assert sorted([label.id for label in done.labels] + [row.id for row in done.set_aside]) == sorted(
        row.id for row in rows
    )
    assert asked == done.usage.asked
    assert sum(done.usage.retries.values()) > 30
    assert {label.id: label.label for label in done.labels}.items() <= {
        label.id: label.label for label in again.labels
    }.items()


class SlowCache(AnswerCache):
    """A cache on a slow disk."""

    def put(self, *given: Any, **fields: Any) -> Mapping[str, Any]:
        """Write after a while."""
        time.sleep(0.1)
        return super().put(*given, **fields)


def test_answers_queued_for_writing_when_the_run_stops_are_saved(tmp_path: Path) -> None:
    def script(body: dict[str, Any], _before: int) -> Reply:
        return replace(error(401), delay=0.15) if text_of(body) == "stop" else coded("process")

    rows = responses("a", "b", "c", "d", "stop")
    with StandIn(script) as teacher, SlowCache(tmp_path) as cache:
        with pytest.raises(TeacherRefusedKey):
            label_responses(rows, CODEBOOK, section(teacher.base_url), cache)
        assert cache.stats().entries == 4


CHILD = """
import sys
from pathlib import Path
from edgedistill.project.teacher import TeacherSection
from edgedistill.data.types import Response
from edgedistill.teacher import AnswerCache, Codebook, label_responses
from edgedistill_serve.task.task import Label
labels = (Label("process", "praises effort"), Label("outcome", "praises the result"), Label("none"))
book = Codebook("Code the praise.", labels, ("response",))
rows = [Response(f"r{row}", {"response": f"text {row - 2}"}, "responses.csv", row) for row in range(2, 62)]
section = TeacherSection(base_url=sys.argv[2], model="m", api_key_env=None, votes=1, tries=3, concurrency=4)
with AnswerCache(Path(sys.argv[1])) as cache:
    label_responses(rows, book, section, cache)
"""


def stopped_run(folder: Path, teacher: StandIn, how: signal.Signals) -> Process:
    """Start a run in another process and stop it after a third of the answers."""
    child = Process("-c", CHILD, folder, teacher.base_url)
    while sum(teacher.answered.values()) < len(TEXTS) // 3:
        assert child.poll() is None
        time.sleep(0.005)
    child.send_signal(how)
    child.communicate()
    return child


def test_after_kill_9_only_requests_in_flight_are_sent_again(tmp_path: Path) -> None:
    with StandIn(coded("process", delay=0.05)) as teacher:
        assert stopped_run(tmp_path, teacher, signal.SIGKILL).wait() == -signal.SIGKILL
        time.sleep(0.2)  # the stand-in finishes what it was asked
        before = len(teacher.bodies)
        with AnswerCache(tmp_path) as cache:
            assert cache.verify().damaged == ()
            done = label_responses(responses(*TEXTS), CODEBOOK, section(teacher.base_url, concurrency=4), cache)
    assert len(done.labels) == len(TEXTS)
    assert done.usage.asked == len(TEXTS) - done.usage.cached
    assert before - done.usage.cached <= 4  # the concurrency: no more can have been in flight
    assert sum(times - 1 for times in teacher.asked.values()) <= 4


def test_ctrl_c_leaves_the_cache_intact(tmp_path: Path) -> None:
    with StandIn(coded("process", delay=0.05)) as teacher:
        stopped_run(tmp_path, teacher, signal.SIGINT)
        with AnswerCache(tmp_path) as cache:
            found = cache.verify()
            assert found.damaged == ()
            assert found.entries >= len(TEXTS) // 3 - 4
            done = label_responses(responses(*TEXTS), CODEBOOK, section(teacher.base_url, concurrency=4), cache)
    assert len(done.labels) == len(TEXTS)
    assert sum(times - 1 for times in teacher.asked.values()) <= 4


def test_two_simultaneous_runs_with_one_cache_give_the_same_labels(tmp_path: Path) -> None:
    with StandIn(coded("process", delay=0.01)) as teacher:
        children = [Process("-c", CHILD, tmp_path, teacher.base_url) for _ in range(2)]
        assert [child.communicate() for child in children] == [("", "")] * 2
        assert [child.wait() for child in children] == [0, 0]
        with AnswerCache(tmp_path) as cache:
            done = label_responses(responses(*TEXTS), CODEBOOK, section(teacher.base_url), cache, offline=True)
    assert len(done.labels) == len(TEXTS)
