import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from edgedistill.data.types import CodedResponse, Response
from edgedistill.errors import (
    DataError,
)
from edgedistill.project.teacher import PricesSection
from edgedistill.teacher import AnswerCache, Labelling, LabellingProgress, label_responses

from .codings import CODEBOOK, labelled, responses, section
from .stand_in import Reply, Script, StandIn, coded, completion, error, text_of


def by_seed(*labels: str) -> Script:
    return lambda body, _before: coded(labels[body["seed"]])


def test_every_response_gets_the_configured_number_of_votes(tmp_path: Path) -> None:
    with StandIn(by_seed("process", "outcome", "process")) as teacher:
        done = labelled(tmp_path, teacher, "a", "b", votes=3)
    assert [(label.id, label.label, label.votes) for label in done.labels] == [
        ("r2", "process", ("process", "outcome", "process")),
        ("r3", "process", ("process", "outcome", "process")),
    ]
    assert done.set_aside == ()
    assert sorted((text_of(body), body["seed"]) for body in teacher.bodies) == [
        (text, seed) for text in "ab" for seed in range(3)
    ]


def test_a_request_says_what_the_project_file_says(tmp_path: Path) -> None:
    with StandIn(coded("process")) as teacher:
        labelled(tmp_path, teacher, "a", temperature=0.2, max_output_tokens=7, api_key="secret")
    (body,), (headers,) = teacher.bodies, teacher.headers
    assert (body["model"], body["temperature"], body["max_tokens"], body["seed"]) == ("m", 0.2, 7, 0)
    assert body["response_format"]["type"] == "json_schema"
    assert headers["authorization"] == "Bearer secret"


def test_cached_answers_are_not_requested_again(tmp_path: Path) -> None:
    with StandIn(coded("process")) as teacher:
        labelled(tmp_path, teacher, "a", "b", votes=2)
        again = labelled(tmp_path, teacher, "a", "b", "c", votes=3)
    assert again.usage.cached == 4
    assert again.usage.asked == 5
    assert max(teacher.asked.values()) == 1


def test_responses_with_the_same_inputs_are_sent_once(tmp_path: Path) -> None:
    with StandIn(coded("process")) as teacher:
        done = labelled(tmp_path, teacher, "same", "other", "same")
    assert len(teacher.bodies) == 2
    assert [label.id for label in done.labels] == ["r2", "r3", "r4"]


def test_examples_are_shown_in_every_prompt(tmp_path: Path) -> None:
    example = CodedResponse(responses("well done")[0], "outcome")
    with StandIn(coded("process")) as teacher:
        labelled(tmp_path, teacher, "a", "b", examples=[example])
    for body in teacher.bodies:
        assert body["messages"][1]["content"] == "<response>well done</response>"
        assert body["messages"][2] == {"role": "assistant", "content": '{"label": "outcome"}'}


def test_a_tie_is_set_aside(tmp_path: Path) -> None:
    with StandIn(by_seed("process", "outcome")) as teacher:
        done = labelled(tmp_path, teacher, "a", votes=2)
    assert done.labels == ()
    (row,) = done.set_aside
    assert (row.id, row.file, row.row, row.reason) == ("r2", "responses.csv", 2, "the votes tie")


def test_a_tie_goes_to_the_first_vote_where_the_project_says_so(tmp_path: Path) -> None:
    with StandIn(by_seed("outcome", "process")) as teacher:
        done = labelled(tmp_path, teacher, "a", votes=2, ties="first_vote")
    assert [label.label for label in done.labels] == ["outcome"]


FAILURES = {
    "the teacher refused to answer": completion(None, refusal="I can't."),
    "the teacher's answer was cut short": completion('{"lab', finish="length"),
    "the teacher's answer was empty": completion(""),
    "the teacher's answer could not be read": completion("Sure! {"),
    "the teacher's answer is not a label of the codebook": coded("no-such-label"),
    "the recorded teacher has no answer": error(404, "no recorded vote", "recording_missing"),
    "the endpoint rejected the request": error(400, "too odd"),
    "the endpoint's content filter refused the response": error(400, "flagged", "content_filter"),
    "the endpoint allowed no more requests": error(429),
    "the endpoint failed": error(500),
    "the connection broke": Reply(drop=True),
}
REFUSALS = {
    "the recorded teacher has no answer",
    "the endpoint rejected the request",
    "the endpoint's content filter refused the response",
}
"""Unchanged, these requests would be refused again."""


@pytest.mark.parametrize("reason", FAILURES)
def test_a_response_that_only_fails_is_set_aside_after_the_tries_and_the_others_are_labelled(
    tmp_path: Path, reason: str
) -> None:
    def script(body: dict[str, Any], _before: int) -> Reply:
        return FAILURES[reason] if text_of(body) == "bad text" else coded("process")

    with StandIn(script) as teacher:
        done = labelled(tmp_path, teacher, "a", "bad text", "b", tries=3, concurrency=1)
    assert [label.id for label in done.labels] == ["r2", "r4"]
    (row,) = done.set_aside
    assert (row.id, row.reason) == ("r3", reason)
    assert "bad text" not in row.detail
    assert [text_of(body) for body in teacher.bodies].count("bad text") == (1 if reason in REFUSALS else 3)
    with AnswerCache(tmp_path) as cache:
        assert cache.stats().entries == 2


@pytest.mark.parametrize("reason", [reason for reason in FAILURES if reason not in REFUSALS])
def test_a_temporary_failure_is_retried_and_only_the_answer_is_cached(tmp_path: Path, reason: str) -> None:
    with StandIn(lambda _body, _: coded("process") if len(teacher.bodies) == 3 else FAILURES[reason]) as teacher:
        done = labelled(tmp_path, teacher, "a", tries=3)
    assert [label.label for label in done.labels] == ["process"]
    assert done.usage.asked == 3
    assert dict(done.usage.retries) == {reason: 2}
    with AnswerCache(tmp_path) as cache:
        assert [entry.answer["choices"][0]["message"]["content"] for entry in cache.entries()] == [
            '{"label": "process"}'
        ]


def test_the_reply_for_a_set_aside_row_is_in_the_failure_log(tmp_path: Path) -> None:
    with StandIn(coded("sarcasm")) as teacher:
        (row,) = labelled(tmp_path, teacher, "a").set_aside
    (line,) = (tmp_path / "failures.jsonl").read_text().splitlines()
    kept = json.loads(line)
    assert kept["key"][:16] in row.detail
    assert "sarcasm" in kept["raw"]


def test_a_set_aside_response_is_sent_again_by_the_next_run(tmp_path: Path) -> None:
    with StandIn(completion("")) as teacher:
        assert len(labelled(tmp_path, teacher, "a").set_aside) == 1
        address = int(teacher.base_url.split(":")[2].removesuffix("/v1"))
    with StandIn(coded("process"), port=address) as teacher:
        assert len(labelled(tmp_path, teacher, "a").labels) == 1


def test_the_other_votes_of_a_response_that_failed_are_not_paid_for(tmp_path: Path) -> None:
    with StandIn(completion("")) as teacher:
        labelled(tmp_path, teacher, "a", votes=5, tries=2, concurrency=1)
    assert len(teacher.bodies) == 2


def test_a_text_that_cannot_be_sent_is_set_aside(tmp_path: Path) -> None:
    with StandIn(coded("process")) as teacher:
        done = labelled(tmp_path, teacher, "broken \ud800", "fine")
    assert [label.id for label in done.labels] == ["r3"]
    assert [(row.id, row.reason) for row in done.set_aside] == [("r2", "it contains characters that are not text")]


def test_a_missing_input_names_its_row(tmp_path: Path) -> None:
    bare = Response("r1", {"question": "?"}, "human.csv", 7)
    with AnswerCache(tmp_path) as cache, pytest.raises(DataError, match=r"human.csv, row 7: .*'response' is missing"):
        label_responses([bare], CODEBOOK, section("http://127.0.0.1:9/v1"), cache)


def test_no_more_requests_are_in_flight_than_the_project_allows(tmp_path: Path) -> None:
    with StandIn(coded("process", delay=0.02)) as teacher:
        labelled(tmp_path, teacher, *map(str, range(40)), concurrency=4)
    assert teacher.most_at_once == 4


def test_retry_after_is_waited_for(tmp_path: Path) -> None:
    busy = error(429, headers={"retry-after": "1"})
    with StandIn(lambda _body, before: coded("process") if before else busy) as teacher:
        labelled(tmp_path, teacher, "a")
    first, second = teacher.times
    assert 1.0 <= second - first < 10


def test_a_timeout_is_retried(tmp_path: Path) -> None:
    with StandIn(lambda _body, before: coded("process", delay=0.0 if before else 2.5)) as teacher:
        done = labelled(tmp_path, teacher, "a", timeout_seconds=1.0)
    assert dict(done.usage.retries) == {"the endpoint took too long": 1}
    assert done.usage.unmetered == 1


def test_progress_counts_every_vote(tmp_path: Path) -> None:
    seen: list[LabellingProgress] = []
    with StandIn(coded("process")) as teacher:
        labelled(tmp_path, teacher, "a", "b")
        labelled(tmp_path, teacher, "a", "b", "c", on_progress=seen.append)
    assert [(progress.done, progress.total) for progress in seen] == [(2, 3), (3, 3)]


def test_tokens_and_cost_are_counted_failed_answers_included(tmp_path: Path) -> None:
    prices = PricesSection(input_usd_per_million=2.5, output_usd_per_million=10.0)
    with StandIn(lambda _body, before: coded("process") if before else coded("nothing")) as teacher:
        usage = labelled(tmp_path, teacher, "a", prices=prices).usage
    assert (usage.asked, usage.input_tokens, usage.output_tokens) == (2, 200, 10)
    assert usage.nano_dollars == 200 * 2500 + 10 * 10_000


def test_without_prices_the_cost_is_unknown(tmp_path: Path) -> None:
    with StandIn(coded("process")) as teacher:
        assert labelled(tmp_path, teacher, "a").usage.nano_dollars is None


def test_an_endpoint_without_schemas_gets_json_mode_requests_from_then_on(tmp_path: Path) -> None:
    def script(body: dict[str, Any], _before: int) -> Reply:
        known = body["response_format"]["type"] == "json_object"
        return coded("process") if known else error(400, "response_format json_schema is not supported")

    with StandIn(script) as teacher:
        done = labelled(tmp_path, teacher, *"abcdef", concurrency=2, tries=1)
        again = labelled(tmp_path, teacher, *"abcdef", offline=True)
    assert len(done.labels) == 6
    refused = [body for body in teacher.bodies if body["response_format"]["type"] == "json_schema"]
    assert 1 <= len(refused) <= 2
    assert again.labels == done.labels


def test_an_endpoint_without_answer_formats_gets_plain_text_requests(tmp_path: Path) -> None:
    def script(body: dict[str, Any], _before: int) -> Reply:
        return error(422, "unknown field response_format") if "response_format" in body else completion("Outcome.")

    with StandIn(script) as teacher:
        done = labelled(tmp_path, teacher, *"abc", concurrency=1)
        again = labelled(tmp_path, teacher, *"abc", concurrency=1)
    assert [label.label for label in done.labels] == ["outcome"] * 3
    assert done.usage.asked == 5
    assert (again.usage.asked, again.labels) == (0, done.labels)


def test_the_newer_name_of_the_token_limit_is_used_if_the_endpoint_requires_it(tmp_path: Path) -> None:
    def script(body: dict[str, Any], _before: int) -> Reply:
        newer = "max_completion_tokens" in body
        return coded("process") if newer else error(400, "Use 'max_completion_tokens' instead of 'max_tokens'.")

    with StandIn(script) as teacher:
        done = labelled(tmp_path, teacher, *"abcdef", concurrency=3, tries=1)
    assert len(done.labels) == 6


def test_it_runs_where_an_event_loop_runs_already(tmp_path: Path) -> None:
    async def notebook() -> Labelling:
        with StandIn(coded("process")) as teacher:
            return labelled(tmp_path, teacher, "a")

    assert len(asyncio.run(notebook()).labels) == 1
