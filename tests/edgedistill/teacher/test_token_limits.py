"""A larger token limit requests only the answers that were cut short: one that ended by itself stands for it."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedistill.teacher import AnswerCache
from edgedistill.teacher.parsing import ended_by_itself

from .codings import ANSWER, labelled, request
from .stand_in import Reply, StandIn, coded, completion, text_of


def finished(reason: object) -> dict[str, Any]:
    return {"choices": [{"message": {"content": '{"label": "process"}'}, "finish_reason": reason}]}


@pytest.mark.parametrize("reason", ["stop", "STOP", "end_turn", "eos", "tool_calls"])
def test_an_answer_that_the_teacher_ended_is_found_for_every_larger_limit(tmp_path: Path, reason: str) -> None:
    with AnswerCache(tmp_path) as cache:
        cache.put(request(max_output_tokens=300), finished(reason))
        entry = cache.find(request(max_output_tokens=1200))
        assert entry is not None
        assert (entry.answer, entry.key) == (finished(reason), request(max_output_tokens=300).key())
        assert cache.find(request(max_output_tokens=299)) is None
        assert cache.find(request(max_output_tokens=1200, vote=1)) is None
        assert cache.find(request(max_output_tokens=1200, sampling={"temperature": 0.1})) is None


@pytest.mark.parametrize("reason", ["length", "MAX_TOKENS", "content_filter", "error", None, 7, ["stop"]])
def test_any_other_end_says_nothing_about_a_larger_limit(tmp_path: Path, reason: object) -> None:
    with AnswerCache(tmp_path) as cache:
        cache.put(request(max_output_tokens=300), finished(reason))
        assert cache.find(request(max_output_tokens=1200)) is None
        assert cache.find(request(max_output_tokens=300)) is not None


def test_answers_that_this_run_has_just_written_are_found_too(tmp_path: Path) -> None:
    with AnswerCache(tmp_path) as cache:
        assert cache.find(request(max_output_tokens=900)) is None
        cache.put(request(max_output_tokens=300), ANSWER)
        cache.put_all([(request(max_output_tokens=500), finished("length"))])
        entry = cache.find(request(max_output_tokens=900))
        assert entry is not None
        assert entry.request["max_output_tokens"] == 300


@given(
    st.recursive(
        st.none() | st.text() | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_no_answer_makes_the_question_fail_whether_it_ended(value: Any) -> None:
    assert not ended_by_itself({"choices": value})


def answer(body: dict[str, Any], _before: int) -> Reply:
    if text_of(body) == "long" and body["max_tokens"] < 600:
        return completion('{"label": "proc', finish="length")
    return coded("process")


def test_raising_the_limit_after_truncation_requests_only_what_was_cut_short(tmp_path: Path) -> None:
    texts = ("short", "long", "middle")
    with StandIn(answer) as teacher:
        first = labelled(tmp_path, teacher, *texts, tries=1)
        assert [row.reason for row in first.set_aside] == ["the teacher's answer was cut short"]
        teacher.bodies.clear()
        again = labelled(tmp_path, teacher, *texts, max_output_tokens=600)
    assert [text_of(body) for body in teacher.bodies] == ["long"]
    assert (len(again.labels), again.usage.cached, again.usage.asked) == (3, 2, 1)


def test_raising_it_requests_no_shared_request_again(tmp_path: Path) -> None:
    def codes(body: dict[str, Any], _before: int) -> Reply:
        idents = [block.split('"')[0] for block in body["messages"][-1]["content"].split('<response id="')[1:]]
        return completion(json.dumps({"codings": [{"id": ident, "label": "none"} for ident in idents]}))

    with StandIn(codes) as teacher:
        labelled(tmp_path, teacher, "a", "b", "c", per_request=3)
        again = labelled(tmp_path, teacher, "a", "b", "c", per_request=3, max_output_tokens=600)
    assert (again.usage.asked, again.usage.cached, len(teacher.bodies)) == (0, 3, 1)
