"""Soft labels from log probabilities: all tokens count, and labels with a common beginning are distinguished."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedistill.teacher import AnswerCache, label_responses
from edgedistill.teacher.parsing import compute_label_probabilities
from edgedistill.teacher.voting import Vote, count_votes

from .codings import CODEBOOK, NO_WAIT, responses, section
from .stand_in import Reply, StandIn, coded, completion

LABELS = ("process", "process_specific", "outcome")
Token = tuple[str, float, dict[str, float]]


def token(text: str, probability: float = 1.0, **others: float) -> Token:
    return text, probability, others


def answer(*tokens: Token, spelled: dict[str, str] | None = None) -> dict[str, Any]:
    """A completion with these tokens; `spelled` gives alternatives that are not valid Python names."""
    names = spelled or {}

    def token(text: str, probability: float) -> dict[str, Any]:
        text = names.get(text, text)
        return {"token": text, "bytes": list(text.encode()), "logprob": math.log(probability)}

    content = [
        token(text, probability)
        | {"top_logprobs": [token(other, p) for other, p in ({text: probability} | others).items()]}
        for text, probability, others in tokens
    ]
    text = "".join(names.get(text, text) for text, _, _ in tokens)
    return {
        "choices": [{"message": {"content": text}, "finish_reason": "stop", "logprobs": {"content": content}}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1},
    }


NAMES = {"end": '"}', "also_end": '"', "specific": "_specific"}


def only(given: dict[str, Any], label: str, labels: tuple[str, ...] = LABELS) -> dict[str, float] | None:
    (found,) = compute_label_probabilities(given, [label], labels)
    return None if found is None else dict(found)


def test_a_label_that_begins_another_counts_the_quote_that_ends_it() -> None:
    given = answer(
        token('{"label": "'),
        token("process", 0.8, outcome=0.2),
        token("end", 0.6, specific=0.35, also_end=0.05),
        spelled=NAMES,
    )
    assert only(given, "process") == pytest.approx(
        {"process": 0.8 * 0.65, "process_specific": 0.8 * 0.35, "outcome": 0.2}
    )


def test_a_label_that_continues_another_counts_all_its_tokens() -> None:
    given = answer(
        token('{"label": "'), token("process", 0.8, outcome=0.2), token("specific", 0.25, end=0.75), token("end"),
        spelled=NAMES,
    )  # fmt: skip
    assert only(given, "process_specific") == pytest.approx({"process": 0.6, "process_specific": 0.2, "outcome": 0.2})


def test_an_alternative_that_could_become_several_labels_is_left_out() -> None:
    given = answer(token('{"label": "'), token("outcome", 0.6, pro=0.3, process_s=0.1), token("end"), spelled=NAMES)
    assert only(given, "outcome") == pytest.approx({"outcome": 0.6 / 0.7, "process_specific": 0.1 / 0.7})


def test_a_token_that_includes_the_quote_before_the_label_is_parsed() -> None:
    given = answer(token('{"label":'), token(' "process_', 0.9, **{' "out': 0.1, ' "': 0.0001}), token('specific"}'))
    assert only(given, "process_specific") == pytest.approx({"process_specific": 0.9, "outcome": 0.1})


def test_a_reason_that_mentions_labels_is_not_parsed_as_the_label() -> None:
    content = json.dumps({"reason": 'Not "label": "outcome", since', "label": "process"})
    before, after = content.split('"process"')
    given = answer(token(before), token('"process', 0.7, **{'"outcome': 0.3}), token(f'"{after}'))
    assert only(given, "process") == pytest.approx({"process": 0.7, "outcome": 0.3})


def test_a_bare_label_is_found() -> None:
    assert only(answer(token(" Out", 0.6, none=0.4), token("come")), "outcome", ("outcome", "none")) == pytest.approx(
        {"outcome": 0.6, "none": 0.4}
    )


def test_letters_of_several_bytes_may_be_cut_anywhere() -> None:
    word = "genügend".encode()
    content = [{"token": "?", "bytes": list(part), "logprob": math.log(0.5)} for part in (word[:4], word[4:])]
    given = {"choices": [{"logprobs": {"content": content}}]}
    assert only(given, "genügend", ("genügend", "not")) == pytest.approx({"genügend": 0.25, "not": 0.75})


def test_if_no_other_label_has_a_probability_the_others_share_the_rest() -> None:
    assert only(answer(token("process", 0.7)), "process") == pytest.approx(
        {"process": 0.7, "process_specific": 0.15, "outcome": 0.15}
    )


def test_each_of_several_labels_has_its_own() -> None:
    given = answer(
        token('[{"id": "1", "label": "'), token("outcome", 0.9, process_s=0.1),
        token('"}, {"id": "2", "label": "'), token("outcome", 0.6, process_s=0.4), token('"}]'),
    )  # fmt: skip
    first, second = compute_label_probabilities(given, ["outcome", "outcome"], LABELS)
    assert first == pytest.approx({"outcome": 0.9, "process_specific": 0.1})
    assert second == pytest.approx({"outcome": 0.6, "process_specific": 0.4})


ANYTHING = st.recursive(
    st.none() | st.integers() | st.text(max_size=3) | st.floats(allow_nan=False),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["content", "token", "bytes", "logprob", "top_logprobs"]), inner)
    ),
)


@given(ANYTHING)
def test_no_log_probabilities_make_the_parser_fail(value: Any) -> None:
    found = only({"choices": [{"logprobs": value}]}, "outcome")
    assert found is None or sum(found.values()) == pytest.approx(1)


def votes(*given: tuple[str, dict[str, float] | None]) -> list[Vote]:
    return [Vote(label, probabilities) for label, probabilities in given]


def test_soft_labels_are_the_mean_of_the_votes_probabilities() -> None:
    label = count_votes("r", votes(("a", {"a": 0.9, "b": 0.1}), ("b", {"a": 0.4, "b": 0.6})), "logprobs", "m")
    assert label is not None
    assert (label.label, label.soft, label.consistency) == ("a", "logprobs", 0.5)
    assert label.shares == pytest.approx({"a": 0.65, "b": 0.35})


def test_one_vote_without_probabilities_makes_the_soft_label_one_of_votes() -> None:
    label = count_votes("r", votes(("a", {"a": 0.9, "b": 0.1}), ("a", None), ("b", None)), "set_aside", "m")
    assert label is not None
    assert label.soft == "votes"
    assert label.shares == pytest.approx({"a": 2 / 3, "b": 1 / 3})


@pytest.mark.parametrize("probabilities", [None, {"a": 0.5, "b": 0.5}])
def test_a_tie_that_probabilities_do_not_break_is_set_aside(probabilities: dict[str, float] | None) -> None:
    assert count_votes("r", votes(("a", probabilities), ("b", probabilities)), "logprobs", "m") is None


def test_probabilities_are_requested_and_reported(tmp_path: Path) -> None:
    given = answer(token('{"label": "'), token("process", 0.8, outcome=0.2), token('"}'))
    with StandIn(Reply(body=json.dumps(given).encode())) as teacher, AnswerCache(tmp_path) as cache:
        settings = section(teacher.base_url, logprobs=True, ties="logprobs")
        (label,) = label_responses(responses("x"), CODEBOOK, settings, cache, retry_policy=NO_WAIT).labels
    assert (teacher.bodies[0]["logprobs"], teacher.bodies[0]["top_logprobs"]) == (True, 20)
    assert label.soft == "logprobs"
    assert label.shares == pytest.approx({"process": 0.8, "outcome": 0.2})


def test_an_endpoint_that_gives_no_probabilities_leaves_vote_shares(tmp_path: Path) -> None:
    with StandIn(coded("process")) as teacher, AnswerCache(tmp_path) as cache:
        settings = section(teacher.base_url, logprobs=True)
        (label,) = label_responses(responses("x"), CODEBOOK, settings, cache, retry_policy=NO_WAIT).labels
    assert (label.soft, label.shares) == ("votes", {"process": 1.0})


def test_probabilities_are_not_requested_by_default(tmp_path: Path) -> None:
    with StandIn(completion('{"label": "process"}')) as teacher, AnswerCache(tmp_path) as cache:
        label_responses(responses("x"), CODEBOOK, section(teacher.base_url), cache, retry_policy=NO_WAIT)
    assert not {"logprobs", "top_logprobs"} & set(teacher.bodies[0])
