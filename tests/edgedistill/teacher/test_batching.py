"""The Batch API over a real socket: nothing is submitted twice, and every line of a result is accounted for."""

import json
from pathlib import Path
from typing import Any

import pytest

from edgedistill.errors import BudgetReached, CacheDamaged, RunError, TeacherError, TeacherRefusedKey
from edgedistill.project.teacher import BudgetSection, PricesSection, TeacherSection
from edgedistill.teacher import AnswerCache
from edgedistill.teacher.dispatch import SubmitBatches
from edgedistill.teacher.parsing import parse_label
from edgedistill.teacher.runner import PendingRequest, run_requests
from edgedistill.teacher.spending import Budget, CostEstimate, SpendingLog, Usage

from .batch_stand_in import BatchStandIn
from .codings import CODEBOOK, NO_WAIT, request_builder, section
from .stand_in import Reply, coded, error, text_of

TEXTS = [f"text {number}" for number in range(12)]


class Stopped(Exception):
    """Simulates a run that is stopped while it waits."""


class Stage:
    """Runs requests as a stage does and records what it sees."""

    def __init__(self) -> None:
        self.results: dict[str, Any] = {}
        self.messages: list[str] = []
        self.estimates: list[CostEstimate] = []

    def run(self, folder: Path, given: TeacherSection, *texts: str, sleep: Any = lambda _: None) -> Usage:
        """Send the texts in batches."""
        requests = [
            PendingRequest(
                request_builder(given, text), on_result=lambda found, text=text: self.results.__setitem__(text, found)
            )
            for text in texts
        ]
        with AnswerCache(folder) as cache:
            return run_requests(
                requests,
                lambda answer: parse_label(answer, CODEBOOK.names),
                given,
                cache,
                api_key="k",
                budget=Budget.from_section(given, SpendingLog(folder, "p"), "label"),
                retry_policy=NO_WAIT,
                dispatch=SubmitBatches(self.messages.append, self.estimates.append, poll_seconds=0.0, sleep=sleep),
            )


def stop(_seconds: float) -> None:
    raise Stopped


def test_every_request_but_the_first_is_in_one_batch(tmp_path: Path) -> None:
    with BatchStandIn(coded("process")) as teacher:
        stage = Stage()
        usage = stage.run(tmp_path, section(teacher.base_url), *TEXTS)
    assert stage.results == dict.fromkeys(TEXTS, "process")
    assert len(teacher.batches) == 1
    assert [text_of(body) for body in teacher.bodies] == TEXTS[:1]
    assert [text_of(line["body"]) for line in teacher.batched] == TEXTS[1:]
    assert usage.asked == len(TEXTS)
    assert [found.requests for found in stage.estimates] == [len(TEXTS)]


def test_answers_are_stored_with_the_keys_of_ordinary_requests(tmp_path: Path) -> None:
    with BatchStandIn(coded("process")) as teacher:
        given = section(teacher.base_url)
        Stage().run(tmp_path, given, *TEXTS)
        names = {line["custom_id"] for line in teacher.batched}
        with AnswerCache(tmp_path) as cache:
            found = {entry.key for entry in cache.entries()}
            assert cache.verify().damaged == ()
    assert names < found
    assert len(found) == len(TEXTS)


def test_a_run_that_is_stopped_while_it_waits_continues_with_the_same_batch(tmp_path: Path) -> None:
    with BatchStandIn(coded("process")) as teacher:
        given, stage = section(teacher.base_url), Stage()
        with pytest.raises(Stopped):
            stage.run(tmp_path, given, *TEXTS, sleep=stop)
        stage.run(tmp_path, given, *TEXTS)
    assert stage.results == dict.fromkeys(TEXTS, "process")
    assert len(teacher.batches) == 1
    assert len(teacher.bodies) == 1


def test_a_batch_whose_acknowledgement_was_lost_is_found_and_not_submitted_again(tmp_path: Path) -> None:
    with BatchStandIn(coded("process"), forgets=1) as teacher:
        stage = Stage()
        stage.run(tmp_path, section(teacher.base_url), *TEXTS)
    assert stage.results == dict.fromkeys(TEXTS, "process")
    assert len(teacher.batches) == 1


def test_an_acknowledgement_lost_with_the_process_is_found_by_the_next_run(tmp_path: Path) -> None:
    with BatchStandIn(coded("process")) as teacher:
        given, stage = section(teacher.base_url), Stage()
        with pytest.raises(Stopped):
            stage.run(tmp_path, given, *TEXTS, sleep=stop)
        lines = (tmp_path / "batches.jsonl").read_text().splitlines(keepends=True)
        assert json.loads(lines[-1])["state"] == "submitted"
        (tmp_path / "batches.jsonl").write_text("".join(lines[:-1]))  # killed before that line was written
        stage.run(tmp_path, given, *TEXTS)
    assert stage.results == dict.fromkeys(TEXTS, "process")
    assert len(teacher.batches) == 1


DAMAGES: dict[str, Any] = {
    "removed": lambda _: None,
    "empty": lambda _: b"",
    "zero bytes": lambda data: b"\0" * len(data),
    "another text": lambda data: data + b"nothing\n",
    "a missing key": lambda data: data + b'{"name": "ed-x"}\n',
    "without its first half": lambda data: data[len(data) // 2 :],
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_log_of_batches_submits_nothing_again(tmp_path: Path, damage: Any) -> None:
    with BatchStandIn(coded("process")) as teacher:
        given, stage, log = section(teacher.base_url), Stage(), tmp_path / "batches.jsonl"
        with pytest.raises(Stopped):
            stage.run(tmp_path, given, *TEXTS, sleep=stop)
        damaged = damage(log.read_bytes())
        log.unlink() if damaged is None else log.write_bytes(damaged)
        with pytest.raises(CacheDamaged, match="it may be paid for"):
            stage.run(tmp_path, given, *TEXTS)
    assert len(teacher.batches) == 1


def test_if_batches_cannot_be_listed_a_lost_acknowledgement_stops_the_run(tmp_path: Path) -> None:
    with BatchStandIn(coded("process"), forgets=1, lists=False) as teacher:
        given, stage = section(teacher.base_url), Stage()
        for _ in range(2):
            with pytest.raises(RunError, match=r"it is unknown whether .* remove .*batches/ed-\w+\.jsonl"):
                stage.run(tmp_path, given, *TEXTS)
        assert len(teacher.batches) == 1
        for file in (tmp_path / "batches").glob("*.jsonl"):
            file.unlink()
        stage.run(tmp_path, given, *TEXTS)
    assert stage.results == dict.fromkeys(TEXTS, "process")
    assert len(teacher.batches) == 2


def test_requests_of_a_planned_but_never_submitted_batch_go_into_a_new_one(tmp_path: Path) -> None:
    with BatchStandIn(coded("process")) as teacher:
        given = section(teacher.base_url, budget=BudgetSection(tokens=3_000))
        stage = Stage()
        with pytest.raises(BudgetReached, match="the batch of 11 requests could cost"):
            stage.run(tmp_path, given, *TEXTS)
        assert teacher.batches == {}
        stage.run(tmp_path, section(teacher.base_url), *TEXTS)
    assert len(teacher.batches) == 1
    assert stage.results == dict.fromkeys(TEXTS, "process")


def test_requests_that_fail_in_a_batch_are_sent_one_by_one(tmp_path: Path) -> None:
    fails: set[str] = {TEXTS[3], TEXTS[7]}

    def script(body: dict[str, Any], _before: int) -> Reply:
        if text_of(body) in fails:
            fails.discard(text_of(body))
            return error(500) if text_of(body) == TEXTS[3] else coded("no-such-label")
        return coded("process")

    with BatchStandIn(script) as teacher:
        stage = Stage()
        stage.run(tmp_path, section(teacher.base_url), *TEXTS)
    assert stage.results == dict.fromkeys(TEXTS, "process")
    assert len(teacher.batches) == 1
    assert sorted(text_of(body) for body in teacher.bodies) == [TEXTS[0], TEXTS[3], TEXTS[7]]
    assert any("11 requests = 9 answers + 2 unusable + 0 without a result" in line for line in stage.messages)


def test_damaged_unknown_and_duplicate_lines_are_counted_and_named(tmp_path: Path) -> None:
    def edit(lines: list[bytes]) -> list[bytes]:
        unknown = json.dumps(json.loads(lines[0]) | {"custom_id": "somebody else's"}).encode()
        return [b"{", *lines[:4], unknown, lines[1], *lines[5:]]

    with BatchStandIn(coded("process"), edit=edit) as teacher:
        stage = Stage()
        stage.run(tmp_path, section(teacher.base_url), *TEXTS)
    assert stage.results == dict.fromkeys(TEXTS, "process")
    assert any(
        "skipped 1 damaged lines (1); 1 unknown lines (6); 1 duplicate lines (7)" in line for line in stage.messages
    )
    assert any("10 answers + 0 unusable + 1 without a result" in line for line in stage.messages)


def test_a_batch_that_fails_as_a_whole_is_a_one_line_error_and_costs_nothing(tmp_path: Path) -> None:
    with BatchStandIn(coded("process"), ends="failed") as teacher:
        given = section(teacher.base_url, budget=BudgetSection(tokens=10**6))
        with pytest.raises(TeacherError, match=r"the batch batch_1 failed at the provider \(token_limit_exceeded\)"):
            Stage().run(tmp_path, given, *TEXTS)
    spending_log = SpendingLog(tmp_path, "p")
    spending_log.catch_up()
    assert spending_log.stages()["label"].held.requests == 0


def test_a_wrong_key_costs_one_request_and_no_batch(tmp_path: Path) -> None:
    with BatchStandIn(error(401)) as teacher, pytest.raises(TeacherRefusedKey):
        Stage().run(tmp_path, section(teacher.base_url), *TEXTS)
    assert teacher.files == {}
    assert len(teacher.bodies) == 1


def test_the_cost_of_a_batch_is_in_the_usage_and_in_the_spending_log(tmp_path: Path) -> None:
    prices = PricesSection(input_usd_per_million=1.0, output_usd_per_million=2.0)
    with BatchStandIn(coded("process")) as teacher:
        usage = Stage().run(tmp_path, section(teacher.base_url, prices=prices), *TEXTS)
    assert (usage.input_tokens, usage.output_tokens) == (1200, 60)
    assert usage.nano_dollars == 1200 * 1000 + 60 * 2000
    spending_log = SpendingLog(tmp_path, "p")
    spending_log.catch_up()
    known = spending_log.stages()["label"].known
    assert (known.requests, known.nano_dollars) == (12, usage.nano_dollars)
    assert spending_log.stages()["label"].held.requests == 0
