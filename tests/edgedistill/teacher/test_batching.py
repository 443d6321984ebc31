"""The Batch API over a real socket: nothing is submitted twice, and every line of a result is accounted for."""

import json
from pathlib import Path
from typing import Any

import pytest

from edgedistill.errors import BudgetReached, RunError, TeacherError, TeacherRefusedKey
from edgedistill.project.schema import BudgetSection, PricesSection, TeacherSection
from edgedistill.teacher import AnswerCache
from edgedistill.teacher.batch import InBatches
from edgedistill.teacher.parsing import read_label
from edgedistill.teacher.runner import Question, ask_all
from edgedistill.teacher.spending import Budget, Estimate, Ledger, Usage

from .batch_stand_in import BatchStandIn
from .codings import AT_ONCE, CODEBOOK, asking_for, section
from .stand_in import Reply, coded, error, text_of

TEXTS = [f"text {number}" for number in range(12)]


class Stopped(Exception):
    """Stands for a run that is stopped while it waits."""


class Asked:
    """What a stage would see of its questions."""

    def __init__(self) -> None:
        self.taken: dict[str, Any] = {}
        self.said: list[str] = []
        self.announced: list[Estimate] = []

    def ask(self, folder: Path, given: TeacherSection, *texts: str, sleep: Any = lambda _: None) -> Usage:
        """Ask about texts in batches."""
        questions = [
            Question(asking_for(given, text), take=lambda found, text=text: self.taken.__setitem__(text, found))
            for text in texts
        ]
        with AnswerCache(folder) as cache:
            return ask_all(
                questions,
                lambda answer: read_label(answer, CODEBOOK.names),
                given,
                cache,
                api_key="k",
                budget=Budget.of(given, Ledger(folder, "p"), "label"),
                patience=AT_ONCE,
                way=InBatches(self.said.append, self.announced.append, poll_seconds=0.0, sleep=sleep),
            )


def stop(_seconds: float) -> None:
    raise Stopped


def test_every_question_but_the_first_is_asked_in_one_batch(tmp_path: Path) -> None:
    with BatchStandIn(coded("process")) as teacher:
        asked = Asked()
        usage = asked.ask(tmp_path, section(teacher.base_url), *TEXTS)
    assert asked.taken == dict.fromkeys(TEXTS, "process")
    assert len(teacher.batches) == 1
    assert [text_of(body) for body in teacher.bodies] == TEXTS[:1]
    assert [text_of(line["body"]) for line in teacher.batched] == TEXTS[1:]
    assert usage.asked == len(TEXTS)
    assert [found.requests for found in asked.announced] == [len(TEXTS)]


def test_answers_lie_under_the_keys_that_ordinary_requests_have(tmp_path: Path) -> None:
    with BatchStandIn(coded("process")) as teacher:
        given = section(teacher.base_url)
        Asked().ask(tmp_path, given, *TEXTS)
        names = {line["custom_id"] for line in teacher.batched}
        with AnswerCache(tmp_path) as cache:
            found = {entry.key for entry in cache.entries()}
            assert cache.verify().damaged == ()
    assert names < found
    assert len(found) == len(TEXTS)


def test_a_run_that_is_stopped_while_it_waits_goes_on_with_the_same_batch(tmp_path: Path) -> None:
    with BatchStandIn(coded("process")) as teacher:
        given, asked = section(teacher.base_url), Asked()
        with pytest.raises(Stopped):
            asked.ask(tmp_path, given, *TEXTS, sleep=stop)
        asked.ask(tmp_path, given, *TEXTS)
    assert asked.taken == dict.fromkeys(TEXTS, "process")
    assert len(teacher.batches) == 1
    assert len(teacher.bodies) == 1


def test_a_batch_whose_acknowledgement_was_lost_is_found_and_not_submitted_again(tmp_path: Path) -> None:
    with BatchStandIn(coded("process"), forgets=1) as teacher:
        asked = Asked()
        asked.ask(tmp_path, section(teacher.base_url), *TEXTS)
    assert asked.taken == dict.fromkeys(TEXTS, "process")
    assert len(teacher.batches) == 1


def test_an_acknowledgement_lost_with_the_process_is_found_by_the_next_run(tmp_path: Path) -> None:
    with BatchStandIn(coded("process")) as teacher:
        given, asked = section(teacher.base_url), Asked()
        with pytest.raises(Stopped):
            asked.ask(tmp_path, given, *TEXTS, sleep=stop)
        lines = (tmp_path / "batches.jsonl").read_text().splitlines(keepends=True)
        assert json.loads(lines[-1])["state"] == "submitted"
        (tmp_path / "batches.jsonl").write_text("".join(lines[:-1]))  # killed before that line was written
        asked.ask(tmp_path, given, *TEXTS)
    assert asked.taken == dict.fromkeys(TEXTS, "process")
    assert len(teacher.batches) == 1


def test_where_batches_cannot_be_listed_a_lost_acknowledgement_is_for_a_person(tmp_path: Path) -> None:
    with BatchStandIn(coded("process"), forgets=1, lists=False) as teacher:
        given, asked = section(teacher.base_url), Asked()
        for _ in range(2):
            with pytest.raises(RunError, match=r"nobody can tell whether .* remove .*batches/ed-\w+\.jsonl"):
                asked.ask(tmp_path, given, *TEXTS)
        assert len(teacher.batches) == 1
        for file in (tmp_path / "batches").glob("*.jsonl"):
            file.unlink()
        asked.ask(tmp_path, given, *TEXTS)
    assert asked.taken == dict.fromkeys(TEXTS, "process")
    assert len(teacher.batches) == 2


def test_a_batch_that_was_written_down_but_never_submitted_is_put_into_a_new_one(tmp_path: Path) -> None:
    with BatchStandIn(coded("process")) as teacher:
        given = section(teacher.base_url, budget=BudgetSection(tokens=3_000))
        asked = Asked()
        with pytest.raises(BudgetReached, match="the batch of 11 requests could cost"):
            asked.ask(tmp_path, given, *TEXTS)
        assert teacher.batches == {}
        asked.ask(tmp_path, section(teacher.base_url), *TEXTS)
    assert len(teacher.batches) == 1
    assert asked.taken == dict.fromkeys(TEXTS, "process")


def test_what_fails_in_a_batch_is_asked_one_by_one(tmp_path: Path) -> None:
    fails: set[str] = {TEXTS[3], TEXTS[7]}

    def script(body: dict[str, Any], _before: int) -> Reply:
        if text_of(body) in fails:
            fails.discard(text_of(body))
            return error(500) if text_of(body) == TEXTS[3] else coded("no-such-label")
        return coded("process")

    with BatchStandIn(script) as teacher:
        asked = Asked()
        asked.ask(tmp_path, section(teacher.base_url), *TEXTS)
    assert asked.taken == dict.fromkeys(TEXTS, "process")
    assert len(teacher.batches) == 1
    assert sorted(text_of(body) for body in teacher.bodies) == [TEXTS[0], TEXTS[3], TEXTS[7]]
    assert any("11 requests = 9 answers + 2 that cannot be used + 0 without a result" in line for line in asked.said)


def test_damaged_foreign_and_doubled_lines_are_counted_and_named(tmp_path: Path) -> None:
    def edit(lines: list[bytes]) -> list[bytes]:
        foreign = json.dumps(json.loads(lines[0]) | {"custom_id": "somebody else's"}).encode()
        return [b"{", *lines[:4], foreign, lines[1], *lines[5:]]

    with BatchStandIn(coded("process"), edit=edit) as teacher:
        asked = Asked()
        asked.ask(tmp_path, section(teacher.base_url), *TEXTS)
    assert asked.taken == dict.fromkeys(TEXTS, "process")
    assert any("1 lines damaged (1); 1 lines foreign (6); 1 lines doubled (7)" in line for line in asked.said)
    assert any("10 answers + 0 that cannot be used + 1 without a result" in line for line in asked.said)


def test_a_batch_that_fails_as_a_whole_is_one_line_and_costs_nothing(tmp_path: Path) -> None:
    with BatchStandIn(coded("process"), ends="failed") as teacher:
        given = section(teacher.base_url, budget=BudgetSection(tokens=10**6))
        with pytest.raises(TeacherError, match=r"failed the batch batch_1 \(token_limit_exceeded\)"):
            Asked().ask(tmp_path, given, *TEXTS)
    ledger = Ledger(tmp_path, "p")
    ledger.catch_up()
    assert ledger.stages()["label"].held.requests == 0


def test_a_wrong_key_costs_one_request_and_no_batch(tmp_path: Path) -> None:
    with BatchStandIn(error(401)) as teacher, pytest.raises(TeacherRefusedKey):
        Asked().ask(tmp_path, section(teacher.base_url), *TEXTS)
    assert teacher.files == {}
    assert len(teacher.bodies) == 1


def test_what_a_batch_cost_is_in_the_usage_and_in_the_ledger(tmp_path: Path) -> None:
    prices = PricesSection(input_usd_per_million=1.0, output_usd_per_million=2.0)
    with BatchStandIn(coded("process")) as teacher:
        usage = Asked().ask(tmp_path, section(teacher.base_url, prices=prices), *TEXTS)
    assert (usage.input_tokens, usage.output_tokens) == (1200, 60)
    assert usage.nano_dollars == 1200 * 1000 + 60 * 2000
    ledger = Ledger(tmp_path, "p")
    ledger.catch_up()
    known = ledger.stages()["label"].known
    assert (known.requests, known.nano_dollars) == (12, usage.nano_dollars)
    assert ledger.stages()["label"].held.requests == 0
