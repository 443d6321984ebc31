from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedistill.teacher.parsing import Cause, Failure, read_label

LABELS = ("process", "outcome", "no praise", "2")


def answer(content: Any, **fields: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": content, "refusal": fields.pop("refusal", None)}
    return {"choices": [{"message": message, "finish_reason": "stop"} | fields]}


@pytest.mark.parametrize(
    ("content", "label"),
    [
        ('{"label": "process"}', "process"),
        ('{"label": "no praise", "why": "none given"}', "no praise"),
        ('```json\n{"label": "outcome"}\n```', "outcome"),
        ('<think>It says {"label": "process"}.</think>\n{"label": "outcome"}', "outcome"),
        ('{"label": " Process "}', "process"),
        ('{"label": 2}', "2"),
        ("process", "process"),
        ('"process"', "process"),
        ("**No Praise.**", "no praise"),
        ("2", "2"),
    ],
)
def test_a_label_is_read_in_every_form_that_teachers_give(content: str, label: str) -> None:
    assert read_label(answer(content), LABELS) == label


@pytest.mark.parametrize(
    ("given", "cause"),
    [
        (answer(None, refusal="I can't help with that."), Cause.REFUSED),
        (answer("", finish_reason="content_filter"), Cause.REFUSED),
        (answer('{"label": "pro', finish_reason="length"), Cause.TRUNCATED),
        (answer('{"label": "process"}', finish_reason="length"), Cause.TRUNCATED),
        (answer(None), Cause.EMPTY),
        (answer(""), Cause.EMPTY),
        (answer('Sure! Here you go: {"label": "process"'), Cause.UNREADABLE),
        (answer('Sure! {"label": "process"}'), Cause.UNREADABLE),
        (answer("process or outcome"), Cause.UNREADABLE),
        (answer('{"code": "process"}'), Cause.UNREADABLE),
        (answer('{"label": null}'), Cause.UNREADABLE),
        (answer('{"label": true}'), Cause.UNREADABLE),
        (answer([{"type": "text"}]), Cause.UNREADABLE),
        (answer('{"label": "no-such-label"}'), Cause.NO_SUCH_LABEL),
        ({"choices": []}, Cause.UNREADABLE),
        ({}, Cause.UNREADABLE),
        ({"choices": [{"message": None}]}, Cause.UNREADABLE),
    ],
)
def test_what_gives_no_label_is_a_named_failure_that_keeps_the_answer(given: dict[str, Any], cause: Cause) -> None:
    failure = read_label(given, LABELS)
    assert isinstance(failure, Failure)
    assert failure.cause is cause
    assert failure.raw.startswith("{")


NAMES = st.sampled_from(["choices", "message", "content", "label", "refusal"])
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(NAMES, inner),
)


@given(ANYTHING)
def test_no_answer_whatever_makes_the_reader_fail(value: Any) -> None:
    result = read_label({"choices": value}, LABELS)
    assert isinstance(result, Failure) or result in LABELS


@given(st.text())
def test_a_text_gives_a_label_of_the_codebook_or_a_failure(content: str) -> None:
    result = read_label(answer(content), LABELS)
    assert isinstance(result, Failure) or result in LABELS
