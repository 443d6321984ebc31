"""No answer can stop a run: the time to read it grows with its length, and none of its JSON crashes anything."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedistill.generation.prompts import parse_samples
from edgedistill.teacher.codebook import AnswerShape
from edgedistill.teacher.parsing import compute_label_probabilities, parse_label, parse_labels
from edgedistill.teacher.strict_json import InvalidJson, read_json
from edgedistill.teacher.voting import parse_votes

from ...growth import assert_costs_at_most, cpu_seconds, loop_seconds

LABELS = ("process", "outcome", "no praise", "2")
SEVERAL = AnswerShape(LABELS, multiple_responses=True)
READERS: dict[str, Callable[[dict[str, Any]], object]] = {
    "one label": lambda answer: parse_label(answer, LABELS),
    "several labels": lambda answer: parse_labels(answer, LABELS),
    "several responses": lambda answer: parse_votes(answer, SEVERAL),
    "samples": parse_samples,
}
PIECES = [
    "```",
    " ",
    "\t\n",
    "{",
    "}",
    "[",
    "]",
    '"',
    "'",
    "\\",
    '\\"',
    "\n",
    "<think>",
    "</think>",
    "<",
    "<|",
    "</",
    "{{",
]
PIECES += ["}}", ",", ", ", "|", "*", "**", "(", "- ", "- a\n", ". ", "_", "a", "1: ", "k73: process\n", "<|message|>"]
PIECES += [
    '{"label": "process"}',
    '{"label": ',
    "Label: ",
    "label:\n",
    "process\n",
    "process ",
    "no ",
    '[{"',
    "{'a':",
    "\\'",
    "None,",
    '{"a":',
    "::",
]


def completion(content: str) -> dict[str, Any]:
    return {"choices": [{"message": {"content": content}, "finish_reason": "stop"}]}


@pytest.mark.parametrize("reader", READERS)
def test_a_character_of_a_long_answer_costs_little_time_whatever_it_repeats(reader: str) -> None:
    length, steps = 20_000, 8_000  # 1,500 where this was written; a quadratic pattern needs 30,000, a cubic one years

    def check(answer: dict[str, Any]) -> None:
        assert_costs_at_most(
            lambda: cpu_seconds(READERS[reader], answer), (length * steps / 10_000, lambda: loop_seconds(10_000))
        )

    for piece in PIECES:
        for before, after in (("", ""), ("```", "x"), ("{", "}"), ("", '"}')):
            check(completion(before + piece * (length // len(piece)) + after))


HOSTILE = [
    "NaN",
    "-Infinity",
    "1e999",
    "1" + "0" * 400,
    "1" * 5000,
    "[" * 900 + "]" * 900,
    "[" * 99_999,
    '{"a": 1, "a": 2}',
]
HOSTILE += ['"\\ud800"', '"\ud800"', '{"\\udfff": 1}', "nul", "{", '{"a": 01}', "\u2028", "{}{}"]


@pytest.mark.parametrize("text", HOSTILE)
def test_what_is_no_strict_json_is_refused_with_a_reason(text: str) -> None:
    for given_text in (text, f'{{"label": "process", "x": {text}}}', f"[{text}]"):
        with pytest.raises(InvalidJson, match=r"\w"):
            read_json(given_text)
    assert not isinstance(parse_label(completion(f'{{"label": "process", "x": {text}}}'), LABELS), str)


SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(SCALARS | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))


@given(VALUES)
def test_strict_json_is_read_as_it_was_written(value: Any) -> None:
    assert read_json(json.dumps(value)) == value
    assert read_json(json.dumps(value, ensure_ascii=False).encode()) == value
    assert read_json("\ufeff" + json.dumps(value, indent=1)) == value


@pytest.mark.parametrize(
    "token",
    [
        {"token": "process", "logprob": float("nan")},
        {"token": "process", "logprob": float("inf")},
        {"token": "process", "logprob": 10**400},
        {"token": "process", "logprob": 800.0},
        {"token": "process", "logprob": -0.1, "bytes": 10**12},
        {"token": "process", "logprob": -0.1, "bytes": [999]},
        {"token": "\ud800", "logprob": -0.1},
        {"token": "process", "logprob": -0.1, "top_logprobs": [{"token": "outcome", "logprob": 1e9}]},
        {"token": "process", "logprob": -0.1, "top_logprobs": [{"token": "outcome", "logprob": float("nan")}]},
    ],
)
def test_log_probabilities_that_are_none_are_left_out(token: dict[str, Any]) -> None:
    assert compute_label_probabilities({"choices": [{"logprobs": {"content": [token]}}]}, ["process"], LABELS) == [None]


def test_probabilities_of_another_label_than_the_one_that_was_read_are_left_out() -> None:
    token = {"token": '{"label": "outcome"}', "logprob": -0.1}
    given_answer = {"choices": [{"logprobs": {"content": [token]}}]}
    assert compute_label_probabilities(given_answer, ["process"], LABELS) == [None]
    assert compute_label_probabilities(given_answer, ["outcome"], LABELS) != [None]
