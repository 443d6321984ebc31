from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedistill.teacher.parsing import Failure, FailureCause, parse_label

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
    assert parse_label(answer(content), LABELS) == label


@pytest.mark.parametrize(
    ("given", "cause"),
    [
        (answer(None, refusal="I can't help with that."), FailureCause.REFUSED),
        (answer("", finish_reason="content_filter"), FailureCause.REFUSED),
        (answer('{"label": "pro', finish_reason="length"), FailureCause.TRUNCATED),
        (answer('{"label": "process"}', finish_reason="length"), FailureCause.TRUNCATED),
        (answer(None), FailureCause.EMPTY),
        (answer(""), FailureCause.EMPTY),
        (answer('Sure! Here you go: {"label": "process"'), FailureCause.UNREADABLE),
        (answer('Sure! {"label": "process"}'), FailureCause.UNREADABLE),
        (answer("process or outcome"), FailureCause.UNREADABLE),
        (answer('{"code": "process"}'), FailureCause.UNREADABLE),
        (answer('{"label": null}'), FailureCause.UNREADABLE),
        (answer('{"label": true}'), FailureCause.UNREADABLE),
        (answer([{"type": "text"}]), FailureCause.UNREADABLE),
        (answer('{"label": "no-such-label"}'), FailureCause.NO_SUCH_LABEL),
        ({"choices": []}, FailureCause.UNREADABLE),
        ({}, FailureCause.UNREADABLE),
        ({"choices": [{"message": None}]}, FailureCause.UNREADABLE),
    ],
)
def test_an_answer_without_a_label_is_a_failure_with_its_cause_and_the_answer(
    given: dict[str, Any], cause: FailureCause
) -> None:
    failure = parse_label(given, LABELS)
    assert isinstance(failure, Failure)
    assert failure.cause is cause
    assert failure.raw.startswith("{")


NAMES = st.sampled_from(["choices", "message", "content", "label", "refusal"])
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(NAMES, inner),
)


@given(ANYTHING)
def test_no_answer_makes_the_parser_fail(value: Any) -> None:
    result = parse_label({"choices": value}, LABELS)
    assert isinstance(result, Failure) or result in LABELS


@given(st.text())
def test_a_text_gives_a_label_of_the_codebook_or_a_failure(content: str) -> None:
    result = parse_label(answer(content), LABELS)
    assert isinstance(result, Failure) or result in LABELS
