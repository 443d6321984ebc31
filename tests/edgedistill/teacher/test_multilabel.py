"""A teacher that may give any number of labels: what it is asked, what it may answer, and how its votes are counted."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedistill.data.types import CodedResponse, Response, SetAside, TeacherLabel
from edgedistill.teacher import AnswerCache, Codebook, Labelling, Usage, build_coding_messages, combine_labellings
from edgedistill.teacher.codebook import AnswerFormat, AnswerShape, response_format
from edgedistill.teacher.labelling import label_responses
from edgedistill.teacher.parsing import Failure, FailureCause, parse_labels
from edgedistill.teacher.voting import Vote, count_multilabel_votes, parse_votes
from edgedistill_serve.task.task import Label, Task, split_labels

from .codings import NO_WAIT, responses, section
from .stand_in import StandIn, completion

LABELS = ("cause", "effect", "worked example")
TASK = Task(kind="multilabel", labels=tuple(map(Label, LABELS)), inputs=("response",))
CODEBOOK = Codebook("Code the explanation.", TASK.labels, TASK.inputs, multilabel=True)


def answer(content: str) -> dict[str, Any]:
    return {"choices": [{"message": {"content": content}, "finish_reason": "stop"}]}


def coded(*votes: str, ties: str = "set_aside") -> TeacherLabel | None:
    return count_multilabel_votes("r", votes, "first_vote" if ties == "first_vote" else "set_aside", "m", TASK)


def test_the_schema_requires_a_list_of_the_codebook_s_labels() -> None:
    shape = AnswerShape(LABELS, multilabel=True)
    answer_format = response_format(AnswerFormat.SCHEMA, shape)
    assert answer_format is not None
    schema = answer_format["json_schema"]["schema"]
    assert schema["properties"] == {"labels": {"type": "array", "items": {"type": "string", "enum": list(LABELS)}}}
    assert schema["required"] == ["labels"]


@pytest.mark.parametrize(
    ("answer_format", "sentence"),
    [
        (AnswerFormat.JSON, '{"labels": ["…"]}, the labels being all of these that hold, or an empty list'),
        (AnswerFormat.TEXT, "the labels that hold and nothing else, semicolons between them, or none"),
    ],
)
def test_the_prompt_allows_any_number_of_labels(answer_format: AnswerFormat, sentence: str) -> None:
    system = build_coding_messages(CODEBOOK, {"response": "x"}, answer_format=answer_format)[0]["content"]
    assert sentence in system
    assert '"worked example"' in system


@pytest.mark.parametrize(
    ("code", "answer_format", "shown"),
    [
        ("cause;effect", AnswerFormat.SCHEMA, '{"labels": ["cause", "effect"]}'),
        ("none", AnswerFormat.SCHEMA, '{"labels": []}'),
        ("cause;effect", AnswerFormat.TEXT, "cause;effect"),
        ("none", AnswerFormat.TEXT, "none"),
    ],
)
def test_an_example_shows_its_labels_in_the_requested_answer_format(
    code: str, answer_format: AnswerFormat, shown: str
) -> None:
    example = CodedResponse(Response("e", {"response": "seen"}, "h.csv", 2), code)
    assert build_coding_messages(CODEBOOK, {"response": "x"}, [example], answer_format)[2]["content"] == shown


@pytest.mark.parametrize(
    ("content", "code"),
    [
        ('{"labels": ["effect", "cause"]}', "cause;effect"),
        ('{"labels": []}', "none"),
        ('{"labels": ["none"]}', "none"),
        ('{"labels": ["Cause", " worked  example ", "cause"]}', "cause;worked example"),
        ('{"labels": "cause; effect"}', "cause;effect"),
        ('{"label": ["effect"]}', "effect"),
        ('["effect"]', "effect"),
        ("effect; cause", "cause;effect"),
        ("None.", "none"),
        ('```json\n{"labels": ["effect"]}\n```', "effect"),
    ],
)
def test_labels_are_read_in_every_form_that_teachers_give(content: str, code: str) -> None:
    assert parse_labels(answer(content), LABELS) == code


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        ('{"labels": ["cause", "reason"]}', FailureCause.NO_SUCH_LABEL),
        ('{"labels": ["cause", "none"]}', FailureCause.NO_SUCH_LABEL),
        ('{"labels": [""]}', FailureCause.NO_SUCH_LABEL),
        ('{"labels": [1]}', FailureCause.NO_SUCH_LABEL),
        ('{"labels": null}', FailureCause.UNREADABLE),
        ('{"why": "x"}', FailureCause.UNREADABLE),
        ("It names a cause.", FailureCause.UNREADABLE),
    ],
)
def test_an_answer_with_an_unknown_label_is_refused(content: str, cause: FailureCause) -> None:
    failure = parse_labels(answer(content), LABELS)
    assert isinstance(failure, Failure)
    assert failure.cause is cause


@pytest.mark.parametrize(
    ("content", "code"),
    [
        *(("Labels: A*", "A*"), ("Labels: A", "A"), ("labels: A *", None), ("A *; B", None), ("Labels: B, A*", "A*;B")),
        *(("Labels: A; A*", "A;A*"), ("**Labels:** A*", None), ("A\\*; B", "A*;B"), ('{"labels": ["A *"]}', None)),
        *(("- A*\n- B", "A*;B"), ("* A\n* B", "A;B"), ('{"labels": "A*, B"}', "A*;B")),
    ],
)
def test_what_is_stripped_turns_no_label_of_a_set_into_another(content: str, code: str | None) -> None:
    found = parse_labels(answer(content), ("A", "A*", "B"))
    assert isinstance(found, Failure) if code is None else found == code


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda each: st.lists(each, max_size=3)))
def test_no_answer_makes_the_multilabel_parser_fail(value: Any) -> None:
    found = parse_labels(answer(json.dumps({"labels": value})), LABELS)
    assert isinstance(found, Failure) or found == "none" or split_labels(found, TASK)


@pytest.mark.parametrize(
    "content",
    [
        '{"codings": [{"id": "k73", "labels": ["cause", "effect"]}, {"id": "b22", "labels": []}]}',
        '[{"id": "K73", "labels": ["cause", "effect"]}, {"id": "b22", "labels": []}]',
        'Here it is: {"k73": ["cause", "effect"], "b22": []}',
        "k73: cause; effect\nb22: none",
    ],
)
def test_labels_of_several_responses_are_read_from_one_answer(content: str) -> None:
    shape = AnswerShape(LABELS, multiple_responses=True, multilabel=True)
    votes = parse_votes(answer(content), shape)
    assert not isinstance(votes, Failure)
    assert votes.assign(["k73", "b22"]) == [Vote("cause;effect"), Vote("none")]


def test_an_answer_that_codes_only_one_of_several_responses_gives_no_vote() -> None:
    shape = AnswerShape(LABELS, multiple_responses=True, multilabel=True)
    votes = parse_votes(answer('{"id": "k73", "labels": ["cause"]}'), shape)
    assert not isinstance(votes, Failure)
    assert votes.assign(["k73", "b22"]) == [None, None]
    assert votes.assign(["k73"]) == [Vote("cause")]


def test_with_a_reason_in_plain_text_the_labels_are_in_the_last_line() -> None:
    shape = AnswerShape(LABELS, reasoning=True, multilabel=True)
    votes = parse_votes(answer("It says why.\nLabels: Cause; effect"), shape)
    assert not isinstance(votes, Failure)
    assert [vote for _, vote in votes.entries] == [Vote("cause;effect")]


def test_a_label_holds_where_more_than_half_of_the_votes_name_it() -> None:
    label = coded("cause", "cause;effect", "effect;cause")
    assert label is not None
    assert label.label == "cause;effect"
    assert label.shares == {"cause": 1.0, "effect": pytest.approx(2 / 3)}


def test_consistency_is_the_share_of_votes_that_name_just_the_labels_that_hold() -> None:
    same = coded("cause;effect", "cause;effect", "cause")
    none_of_them = coded("cause;effect", "cause;worked example", "effect;worked example")
    assert same is not None
    assert none_of_them is not None
    assert same.consistency == pytest.approx(2 / 3)
    assert (none_of_them.label, none_of_them.consistency) == ("cause;effect;worked example", 0.0)


def test_votes_without_a_common_label_give_no_label() -> None:
    label = coded("cause", "effect", "none")
    assert label is not None
    assert label.label == "none"


def test_a_tie_over_one_label_sets_the_response_aside() -> None:
    assert coded("cause", "cause;effect") is None


def test_a_tie_over_a_label_can_go_as_the_first_vote_says() -> None:
    with_it, without = coded("cause;effect", "cause", ties="first_vote"), coded("cause", "effect", ties="first_vote")
    assert with_it is not None
    assert without is not None
    assert (with_it.label, without.label) == ("cause;effect", "cause")


def test_labels_come_from_an_endpoint_and_from_the_cache_alike(tmp_path: Path) -> None:
    by_seed = (["effect", "cause"], ["cause"], ["cause", "effect"])

    def coding(again: bool) -> Labelling:
        with AnswerCache(tmp_path) as cache:
            given = section(teacher.base_url, votes=3)
            return label_responses(responses("a"), CODEBOOK, given, cache, offline=again, retry_policy=NO_WAIT)

    with StandIn(lambda body, _: completion(json.dumps({"labels": by_seed[body["seed"]]}))) as teacher:
        first, again = coding(False), coding(True)
    (label,) = first.labels
    assert label.votes == ("cause;effect", "cause", "cause;effect")
    assert (label.label, label.consistency) == ("cause;effect", pytest.approx(2 / 3))
    assert again.labels == first.labels


def test_a_label_that_half_of_the_votes_name_sets_aside_with_the_votes_as_detail(tmp_path: Path) -> None:
    by_seed = (["effect"], [])
    with (
        StandIn(lambda body, _: completion(json.dumps({"labels": by_seed[body["seed"]]}))) as teacher,
        AnswerCache(tmp_path) as cache,
    ):
        found = label_responses(
            responses("a"), CODEBOOK, section(teacher.base_url, votes=2), cache, retry_policy=NO_WAIT
        )
    assert found.labels == ()
    assert [(row.reason, row.detail) for row in found.set_aside] == [("the votes tie", "effect, none")]


def opinion(label: str) -> Labelling:
    shares = dict.fromkeys(split_labels(label, TASK), 1.0)
    return Labelling((TeacherLabel("r2", label, 1.0, shares, (label,), "m"),), (), Usage())


def joint(weights: dict[str, float], **teachers: str) -> TeacherLabel | SetAside:
    labellings = {name: opinion(label) for name, label in teachers.items()}
    found = combine_labellings(responses("text"), labellings, weights, TASK)
    (row,) = (*found.labels, *found.set_aside)
    return row


def test_several_teachers_give_each_label_that_most_of_them_give() -> None:
    row = joint(dict.fromkeys("xyz", 1.0), x="cause", y="cause;effect", z="effect;worked example")
    assert isinstance(row, TeacherLabel)
    assert row.label == "cause;effect"
    assert row.shares == {name: pytest.approx(share) for name, share in zip(LABELS, (2 / 3, 2 / 3, 1 / 3), strict=True)}
    assert row.consistency == pytest.approx(1 / 3)


def test_teachers_of_equal_weight_who_differ_over_a_label_tie() -> None:
    row = joint({"x": 1.0, "y": 1.0}, x="cause", y="cause;effect")
    assert isinstance(row, SetAside)
    assert (row.reason, row.detail) == ("the teachers tie", "x: cause, y: cause;effect")


def test_a_teacher_with_more_weight_decides() -> None:
    row = joint({"x": 0.7, "y": 0.6}, x="none", y="effect")
    assert isinstance(row, TeacherLabel)
    assert row.label == "none"
