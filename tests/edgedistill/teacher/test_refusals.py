"""What an endpoint refuses: one response, or every request alike. The words decide, not the number of the status."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedistill.errors import AnswersMissing, EdgeDistillError, Paused, TeacherError, TeacherRefusedKey
from edgedistill.project.teacher import BudgetSection
from edgedistill.teacher import (
    AnswerCache,
    Budget,
    Labelling,
    ReadBatchFile,
    SpendingLog,
    WriteBatchFile,
    label_responses,
)
from edgedistill.teacher.replies import ChatAnswer, Fatal, Outcome, Rejected, classify_body, classify_status, quote
from edgedistill.teacher.runner import REFUSED, REFUSED_ALIKE

from .codings import CODEBOOK, NO_WAIT, labelled, request, responses, section
from .stand_in import Reply, StandIn, coded, completion, error, text_of

FILTERS: dict[str, tuple[int, Any]] = {
    "OpenAI": (400, {"error": {"message": "Rejected as a result of our safety system.", "code": "content_policy"}}),
    "OpenAI, reasoning": (
        400,
        {
            "error": {
                "message": "Invalid prompt: your prompt was flagged as potentially violating our usage policy.",
                "code": "invalid_prompt",
            }
        },
    ),
    "Azure": (
        400,
        {
            "error": {
                "message": "The response was filtered due to the prompt triggering the content management policy.",
                "type": None,
                "param": "prompt",
                "code": "content_filter",
                "status": 400,
                "innererror": {"code": "ResponsibleAIPolicyViolation", "content_filter_result": {"hate": {}}},
            }
        },
    ),
    "OpenRouter": (
        403,
        {"error": {"code": 403, "message": "Your input was flagged", "metadata": {"reasons": ["harassment"]}}},
    ),
    "OpenRouter, moderated model": (
        403,
        {
            "error": {
                "code": 403,
                "message": 'Your chosen model requires moderation and your input was flagged for "x".',
            }
        },
    ),
    "Gemini": (400, [{"error": {"code": 400, "message": "Blocked.", "details": [{"reason": "PROHIBITED_CONTENT"}]}}]),
    "Gemini, no candidates": (200, {"choices": [], "promptFeedback": {"blockReason": "SAFETY"}}),
    "Alibaba": (400, {"error": {"code": "data_inspection_failed", "message": "Input data may be unsuitable."}}),
    "Zhipu": (400, {"error": {"code": "1301", "message": "系统检测到输入或生成内容可能包含不安全或敏感内容"}}),
    "Bedrock": (400, {"message": "The request was blocked because of the guardrail.", "__type": "ValidationException"}),
    "Mistral": (422, {"object": "error", "message": "Input violates our content policy", "type": "invalid_request"}),
    "vLLM behind a proxy": (
        422,
        {"detail": [{"loc": ["body"], "msg": "flagged by moderation", "type": "value_error"}]},
    ),
    "an error with status 200": (200, {"error": {"code": "content_filter", "message": "filtered"}}),
    "plain text": (400, "Request blocked due to content policy"),
}
SHARED: dict[str, tuple[int, Any]] = {
    "OpenAI's key": (401, {"error": {"message": "Incorrect API key provided", "code": "invalid_api_key"}}),
    "Gemini's key": (
        400,
        [
            {
                "error": {
                    "code": 400,
                    "message": "API key not valid. Please pass a valid API key.",
                    "status": "INVALID_ARGUMENT",
                    "details": [{"reason": "API_KEY_INVALID"}],
                }
            }
        ],
    ),
    "a gateway's key": (403, {"message": "Forbidden"}),
    "a country": (403, {"error": {"message": "Country, region, or territory not supported"}}),
    "an account": (403, {"error": {"message": "Your account has been flagged and disabled."}}),
    "credit": (400, {"error": {"message": "Your credit balance is too low to access the API."}}),
    "a model": (400, {"error": {"message": "model `gpt-5o` is not a valid model ID", "code": 400}}),
    "roles": (400, {"object": "error", "message": "System role not supported", "type": "BadRequestError"}),
    "a template's roles": (400, {"message": "Conversation roles must alternate user/assistant/user/assistant/..."}),
    "logprobs, forbidden": (403, {"error": {"message": "You are not allowed to request logprobs from this model"}}),
    "logprobs": (400, {"error": {"message": "logprobs is not supported by this model", "code": 400}}),
    "some parameter": (404, {"error": {"message": "No endpoints found that support the requested parameters."}}),
    "an address": (404, {"error": {"message": "Unknown path /v1/v1/chat/completions"}}),
}


def reply(status: int, body: Any) -> Reply:
    return Reply(status, body.encode() if isinstance(body, str) else json.dumps(body).encode())


def message(body: Any) -> str:
    """The endpoint's sentence in the body of an error."""
    body = body[0] if isinstance(body, list) else body
    found: str = body.get("error", body)["message"]
    return found.rstrip(".")


def classified(status: int, body: Any, *, verified: bool) -> Outcome:
    text = reply(status, body).body.decode()
    if status == 200:
        return classify_body(text, verified=verified)
    return classify_status(status, {}, text, formatted=True, verified=verified, sent=("temperature", "logprobs"))


@pytest.mark.parametrize("verified", [False, True])
@pytest.mark.parametrize("provider", FILTERS)
def test_every_providers_content_filter_is_about_one_response(provider: str, verified: bool) -> None:
    outcome = classified(*FILTERS[provider], verified=verified)
    assert isinstance(outcome, Rejected)
    assert outcome.filtered


@pytest.mark.parametrize("finish", ["content_filter", "SAFETY", "prohibited_content"])
def test_an_answer_that_a_filter_ended_is_not_asked_for_again(tmp_path: Path, finish: str) -> None:
    def script(body: dict[str, Any], _before: int) -> Reply:
        return completion(None, finish=finish) if text_of(body) == "b" else coded("process")

    with StandIn(script) as teacher:
        done = labelled(tmp_path, teacher, "a", "b", "c", tries=4)
    assert [row.id for row in done.set_aside] == ["r3"]
    assert [text_of(body) for body in teacher.bodies].count("b") == 1


@pytest.mark.parametrize("provider", [name for name in FILTERS if name != "an error with status 200"])
@pytest.mark.parametrize("place", ["first", "last", "only one that is left"])
def test_a_flagged_response_is_set_aside_and_costs_one_request(tmp_path: Path, provider: str, place: str) -> None:
    def script(body: dict[str, Any], _before: int) -> Reply:
        return reply(*FILTERS[provider]) if text_of(body) == "flagged" else coded("process")

    texts = ["flagged", "a", "b", "c"] if place != "last" else ["a", "b", "c", "flagged"]
    with StandIn(script) as teacher:
        if place == "only one that is left":
            labelled(tmp_path, teacher, *texts[1:], votes=3)
        before = len(teacher.bodies)
        done = labelled(tmp_path, teacher, *texts, votes=3, tries=6)
    assert [row.reason for row in done.set_aside] == ["the endpoint's content filter refused the response"]
    assert len(done.labels) == 3
    sent = [text_of(body) for body in teacher.bodies[before:]]
    assert 1 <= sent.count("flagged") <= 3  # not more than its votes, and none of them twice
    assert max(teacher.asked.values()) == 1


@pytest.mark.parametrize("what", SHARED)
@pytest.mark.parametrize("concurrency", [1, 16])
def test_what_all_requests_share_costs_one_request_and_is_said_in_the_endpoints_words(
    tmp_path: Path, what: str, concurrency: int
) -> None:
    log = SpendingLog(tmp_path, "p")
    with StandIn(reply(*SHARED[what])) as teacher, AnswerCache(tmp_path) as cache:
        used = section(
            teacher.base_url,
            votes=3,
            tries=6,
            logprobs=True,
            concurrency=concurrency,
            budget=BudgetSection(tokens=10**6),
        )
        with pytest.raises(TeacherError) as stopped:
            label_responses(
                responses(*map(str, range(40))),
                CODEBOOK,
                used,
                cache,
                budget=Budget.from_section(used, log, "label"),
                retry_policy=NO_WAIT,
            )
        assert len(teacher.bodies) == 1
    line = str(stopped.value)
    assert message(SHARED[what][1]) in line
    assert "\n" not in line
    assert "codebook" not in line.replace("it holds the codebook", "")
    assert log.stages()["label"].held.requests == 0
    assert log.stages()["label"].known.input_tokens == 0


@pytest.mark.parametrize("status", [400, 403, 413, 422, 451])
def test_the_same_unknown_refusal_of_three_responses_stops_a_run_that_has_no_answer(
    tmp_path: Path, status: int
) -> None:
    def script(body: dict[str, Any], _before: int) -> Reply:
        number = len(text_of(body))
        return reply(status, {"error": {"message": f"Too odd: {number} of {number + 7} wugs (id {number:x}f3)."}})

    with StandIn(script) as teacher, pytest.raises(TeacherError, match="refused 3 responses in a row") as stopped:
        labelled(tmp_path, teacher, *(number * "x" for number in range(1, 60)), votes=3, tries=6, concurrency=16)
    assert len(teacher.bodies) == 3
    assert "Too odd" in str(stopped.value)
    assert isinstance(stopped.value, TeacherRefusedKey) == (status == 403)


def test_flagged_responses_that_stand_together_do_not_stop_a_run(tmp_path: Path) -> None:
    def script(body: dict[str, Any], _before: int) -> Reply:
        return reply(400, {"error": {"message": "odd"}}) if int(text_of(body)) < 15 else coded("process")

    with StandIn(script) as teacher:
        done = labelled(tmp_path, teacher, *map(str, range(40)), concurrency=1)
    assert (len(done.labels), len(done.set_aside)) == (25, 15)


def test_later_twenty_refusals_in_a_row_stop_the_run_and_answers_are_saved(tmp_path: Path) -> None:
    def script(body: dict[str, Any], _before: int) -> Reply:
        return coded("process") if int(text_of(body)) < 5 else reply(400, {"error": {"message": "No more today."}})

    texts = [str(number) for number in range(200)]
    with StandIn(script) as teacher, pytest.raises(TeacherError, match="No more today"):
        labelled(tmp_path, teacher, *texts, concurrency=4)
    assert 25 <= len(teacher.bodies) <= 25 + 4
    with AnswerCache(tmp_path) as cache:
        assert cache.stats().entries == 5


def test_once_there_is_an_answer_a_filter_may_refuse_any_number(tmp_path: Path) -> None:
    def script(body: dict[str, Any], _before: int) -> Reply:
        return coded("process") if text_of(body) == "0" else reply(*FILTERS["Azure"])

    with StandIn(script) as teacher:
        done = labelled(tmp_path, teacher, *map(str, range(60)))
        again = labelled(tmp_path, teacher, *map(str, range(60)))  # only refused ones are left
    assert len(done.labels) == len(again.labels) == 1
    assert len(again.set_aside) == 59


def test_a_filter_that_refuses_everything_stops_the_run(tmp_path: Path) -> None:
    with StandIn(reply(*FILTERS["Azure"])) as teacher, pytest.raises(TeacherError, match="content management policy"):
        labelled(tmp_path, teacher, *map(str, range(60)), concurrency=16)
    assert len(teacher.bodies) == 20


@given(
    text=st.text(st.characters(exclude_categories=["Cs"]), min_size=4, max_size=200),
    before=st.text(max_size=400),
    after=st.text(max_size=400),
)
def test_a_quoted_sentence_is_one_bounded_line_without_the_learners_text(text: str, before: str, after: str) -> None:
    text = " ".join(text.split())
    asked = request(messages=({"role": "user", "content": f"<response>{text}</response>"},))
    quoted = quote(f"{before} {text} {after}", asked)
    assert len(quoted) <= 310
    assert quoted.isprintable()
    if len(text) >= 12:
        assert text.lower() not in quoted.lower()


def test_the_key_is_in_no_message_and_no_file_even_if_the_endpoint_repeats_it(tmp_path: Path) -> None:
    key = "sk-SECRETKEY123"

    def script(body: dict[str, Any], _before: int) -> Reply:
        sent = teacher.headers[-1]["authorization"]
        if text_of(body) == "a":
            return coded("process")
        return reply(400 if text_of(body) == "b" else 401, {"error": {"message": f"bad header {sent}", "code": key}})

    with StandIn(script) as teacher, pytest.raises(TeacherRefusedKey) as stopped:
        labelled(tmp_path, teacher, "a", "b", "c", api_key=key, concurrency=1)
    assert key not in str(stopped.value)
    assert all(key.encode() not in file.read_bytes() for file in tmp_path.iterdir() if file.is_file())
    assert (tmp_path / "failures.jsonl").exists()


@pytest.mark.parametrize(
    "value",
    [
        {},
        [],
        "",
        {"choices": None},
        {"error": []},
        {"error": {"code": {"a": [1, {"b": 2}]}}},
        {"error": {"message": {}}},
    ],
)
def test_an_error_of_any_form_is_classified(value: Any) -> None:
    for verified in (False, True):
        assert not isinstance(classified(400, value, verified=verified), ChatAnswer | Fatal)


def with_files(folder: Path, lines: list[dict[str, Any]], *texts: str) -> Labelling:
    """Label by exchanged files; each line is the response of one request, in order."""
    given_section = section("http://127.0.0.1:9/v1")
    with AnswerCache(folder) as cache:
        with pytest.raises(Paused):
            label_responses(
                responses(*texts), CODEBOOK, given_section, cache, dispatch=WriteBatchFile(folder / "out.jsonl")
            )
        names = [json.loads(line)["custom_id"] for line in (folder / "out.jsonl").read_bytes().splitlines()]
        written = [{"custom_id": name, "response": line} for name, line in zip(names, lines, strict=True)]
        (folder / "in.jsonl").write_text("\n".join(map(json.dumps, written)))
        reading = ReadBatchFile([folder / "in.jsonl"], lambda _: None)
        return label_responses(responses(*texts), CODEBOOK, given_section, cache, dispatch=reading)


GOOD = {"status_code": 200, "body": json.loads(coded("process").body)}


@pytest.mark.parametrize("provider", ["Azure", "OpenRouter", "Mistral"])
def test_a_flagged_line_of_a_results_file_is_set_aside(tmp_path: Path, provider: str) -> None:
    status, body = FILTERS[provider]
    done = with_files(tmp_path, [GOOD, {"status_code": status, "body": body}, GOOD], "a", "b", "c")
    assert [label.id for label in done.labels] == ["r2", "r4"]
    assert [row.reason for row in done.set_aside] == ["the endpoint's content filter refused the response"]


def test_a_passing_fault_in_a_results_file_leaves_its_request_open(tmp_path: Path) -> None:
    with pytest.raises(AnswersMissing, match="1 of 2 requests"):
        with_files(tmp_path, [GOOD, {"status_code": 500, "body": {}}], "a", "b")


def test_a_results_file_of_nothing_but_refusals_is_an_error_in_the_endpoints_words(tmp_path: Path) -> None:
    refusal = {"status_code": 400, "body": {"error": {"message": "No such deployment for you"}}}
    with pytest.raises(EdgeDistillError, match="No such deployment for you"):
        with_files(tmp_path, [refusal] * 5, *"abcde")


def refuses(part: str, status: int = 400) -> Any:
    """A script that refuses the texts with this part, in words that no filter uses."""

    def script(body: Any, _before: int) -> Reply:
        return error(status, "this input cannot be processed") if part in text_of(body) else coded("process")

    return script


@pytest.mark.parametrize(
    ("place", "refused", "concurrency", "status"),
    [
        ("first", REFUSED_ALIKE, 1, 400),
        ("first", 2 * REFUSED, 4, 422),
        ("last", REFUSED, 1, 403),
        ("between", REFUSED + 1, 4, 400),
        ("first", 2 * REFUSED, 1, 500),
        ("last", REFUSED, 4, 500),
    ],
)
def test_responses_that_always_fail_stop_a_project_only_until_they_are_known(
    tmp_path: Path, place: str, refused: int, concurrency: int, status: int
) -> None:
    good, bad = [f"good {number}" for number in range(6)], [f"odd {number}" for number in range(refused)]
    texts = {"first": bad + good, "last": good + bad, "between": good[:3] + bad + good[3:]}[place]
    with StandIn(refuses("odd", status)) as teacher:
        for _ in range(2 + refused // (REFUSED - 1)):
            try:
                done = labelled(tmp_path, teacher, *texts, concurrency=concurrency, tries=1)
            except TeacherError:
                continue
            break
        else:
            pytest.fail("the same responses stop every run")
        sent = len(teacher.bodies)
        again = labelled(tmp_path, teacher, *texts, concurrency=concurrency, tries=1)
    assert len(done.labels) == len(good) == len(again.labels)
    assert len(done.set_aside) == refused == len(again.set_aside)
    assert len(teacher.bodies) - sent == refused  # nothing that was answered
    assert sum(teacher.answered.values()) == len(good)


def test_an_endpoint_that_refuses_everything_stops_every_run(tmp_path: Path) -> None:
    with StandIn(refuses("odd")) as teacher:
        for _ in range(3):
            with pytest.raises(TeacherError, match="this input cannot be processed"):
                labelled(tmp_path, teacher, *(f"odd {number}" for number in range(30)))
    assert len(teacher.bodies) == 3 * REFUSED_ALIKE
