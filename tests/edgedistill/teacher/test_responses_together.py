"""Several responses in one request: each vote is tied to its id, and nothing is paid for twice."""

import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedistill.data.types import CodedResponse, Response
from edgedistill.errors import AnswersMissing, BudgetReached, TeacherRefusedKey
from edgedistill.project.teacher import BudgetSection
from edgedistill.teacher import AnswerCache, AnswerFormat, Codebook, Labelling, LabellingPlan, label_responses
from edgedistill.teacher.codebook import (
    AnswerShape,
    format_inputs,
    join_user_messages,
    response_ids,
    split_joined_message,
)
from edgedistill.teacher.labelling import use_same_examples
from edgedistill.teacher.parsing import Failure, FailureCause
from edgedistill.teacher.voting import Vote, Votes, parse_votes
from edgedistill_serve.task.task import Label

from .codings import CODEBOOK, NO_WAIT, responses, section
from .stand_in import Reply, Script, StandIn, completion, error

SHAPE = AnswerShape(CODEBOOK.names, multiple_responses=True)
Entries = list[tuple[object, object]]


def blocks(body: dict[str, Any]) -> dict[str, str]:
    """The responses of a request by their ids."""
    return dict(re.findall(r'<response id="(\w+)">(.*?)</response>', body["messages"][-1]["content"], re.DOTALL))


def codings(entries: Entries) -> Reply:
    return completion(json.dumps({"codings": [{"id": ident, "label": label} for ident, label in entries]}))


def answering(change: Callable[[dict[str, str], Entries], Entries] = lambda _blocks, entries: entries) -> Script:
    """A teacher that codes by the text's first letter, and whose entries are then changed."""

    def script(body: dict[str, Any], _before: int) -> Reply:
        given = blocks(body)
        coded = {"p": "process", "o": "outcome", "n": "none"}
        return codings(change(given, [(ident, coded[text[0]]) for ident, text in given.items()]))

    return script


def labelled(folder: Path, teacher: StandIn, *texts: str, **fields: Any) -> Labelling:
    offline = fields.pop("offline", False)
    with AnswerCache(folder) as cache:
        return label_responses(
            responses(*texts),
            CODEBOOK,
            section(teacher.base_url, **{"per_request": 3} | fields),
            cache,
            offline=offline,
            retry_policy=NO_WAIT,
        )


def sizes(teacher: StandIn) -> list[int]:
    return [len(blocks(body)) for body in teacher.bodies]


def test_responses_share_requests_and_each_gets_its_own_label(tmp_path: Path) -> None:
    texts = ("p1", "o1", "n1", "p2", "o2")
    with StandIn(answering(lambda _blocks, entries: entries[::-1])) as teacher:
        done = labelled(tmp_path, teacher, *texts, votes=2, concurrency=1)
    assert sizes(teacher) == [3, 2, 3, 2]
    assert [label.label[0] for label in done.labels] == [text[0] for text in texts]
    assert all(len(label.votes) == 2 for label in done.labels)
    assert [body["max_tokens"] for body in teacher.bodies] == [900, 600, 900, 600]


def test_no_id_in_the_data_is_sent(tmp_path: Path) -> None:
    with StandIn(answering()) as teacher:
        labelled(tmp_path, teacher, "p1", "o1")
    assert not {"r2", "r3"} & set(blocks(teacher.bodies[0]))
    assert all(re.fullmatch("[a-z][0-9]{2}", ident) for ident in blocks(teacher.bodies[0]))


def renumbered(start: int) -> Callable[[Entries], Entries]:
    return lambda entries: [(str(number), label) for number, (_, label) in enumerate(entries, start)]


SHIFTS: dict[str, Callable[[Entries], Entries]] = {
    "missing": lambda entries: [*entries[:1], *entries[2:]],
    "doubled": lambda entries: [*entries, entries[1]],
    "doubled with another label": lambda entries: [*entries, (entries[1][0], "none")],
    "one doubled, one missing": lambda entries: [entries[0], (entries[0][0], entries[1][1]), *entries[2:]],
    "extra": lambda entries: [*entries, ("z99", "none")],
    "another id": lambda entries: [entries[0], ("z99", entries[1][1]), *entries[2:]],
    "id with a letter more": lambda entries: [entries[0], (f"{entries[1][0]}a", entries[1][1]), *entries[2:]],
    "numbered from 0": renumbered(0),
    "numbered from 1": renumbered(1),
    "numbered from 2": renumbered(2),
    "one left out, the rest renumbered": lambda entries: renumbered(1)([*entries[:1], *entries[2:]]),
    "without ids": lambda entries: [(None, label) for _, label in entries],
    "ids as numbers": lambda entries: [(number, label) for number, (_, label) in enumerate(entries)],
}


@pytest.mark.parametrize("shift", SHIFTS)
def test_ids_that_are_not_those_that_were_sent_refuse_the_whole_answer(tmp_path: Path, shift: str) -> None:
    def change(given: dict[str, str], entries: Entries) -> Entries:
        return SHIFTS[shift](entries) if len(given) > 1 else entries

    with StandIn(answering(change)) as teacher:
        done = labelled(tmp_path, teacher, "p1", "o1", "n1", concurrency=1)
        assert [label.label for label in done.labels] == ["process", "outcome", "none"]
        assert [list(blocks(body).values()) for body in teacher.bodies] == [["p1", "o1", "n1"], ["p1"], ["o1"], ["n1"]]
        again = labelled(tmp_path, teacher, "p1", "o1", "n1")
    assert (again.usage.cached, again.usage.asked, again.labels) == (3, 0, done.labels)


@pytest.mark.parametrize("start", [0, 1, 7])
def test_a_teacher_that_always_numbers_in_its_own_way_labels_each_response_alone(tmp_path: Path, start: int) -> None:
    with StandIn(answering(lambda _blocks, entries: renumbered(start)(entries))) as teacher:
        done = labelled(tmp_path, teacher, "p1", "o1", "n1", "p2", "o2")
    assert [label.label[0] for label in done.labels] == ["p", "o", "n", "p", "o"]


FAULTS: dict[str, object] = {"no label": "sarcasm", "null": None, "two labels": ["process", "none"]}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_response_whose_label_is_no_label_is_sent_again_alone(tmp_path: Path, fault: str) -> None:
    def change(given: dict[str, str], entries: Entries) -> Entries:
        return [
            (ident, FAULTS[fault] if given[str(ident)] == "o1" and len(given) > 1 else label)
            for ident, label in entries
        ]

    with StandIn(answering(change)) as teacher:
        done = labelled(tmp_path, teacher, "p1", "o1", "n1", concurrency=1)
        assert [label.label for label in done.labels] == ["process", "outcome", "none"]
        assert [list(blocks(body).values()) for body in teacher.bodies] == [["p1", "o1", "n1"], ["o1"]]
        again = labelled(tmp_path, teacher, "p1", "o1", "n1")
    assert (again.usage.cached, again.usage.asked, again.labels) == (3, 0, done.labels)


USERS = st.lists(st.text(max_size=3).map(lambda text: f"<response>{text}</response>"), min_size=2, max_size=100)


@given(USERS)
def test_ids_differ_and_are_the_same_for_the_same_texts(users: list[str]) -> None:
    ids = response_ids(users)
    assert len(set(ids)) == len(users)
    assert ids == response_ids(users)
    assert join_user_messages(users).count("<response id=") == len(users)


@given(USERS, st.data())
def test_votes_are_assigned_only_if_every_id_occurs_once(users: list[str], data: st.DataObject) -> None:
    ids = response_ids(users)
    named = data.draw(st.lists(st.sampled_from([*ids, "1", "z99", None]), max_size=len(ids) + 2) | st.permutations(ids))
    votes = Votes(tuple((ident, Vote(str(number))) for number, ident in enumerate(named)))
    assigned = votes.assign(ids)
    if sorted(map(str, named)) == sorted(ids):
        assert [vote and named[int(vote.label)] for vote in assigned] == list(ids)
    else:
        assert assigned == [None] * len(ids)


def test_one_response_that_makes_every_request_fail_does_not_cost_its_neighbours_their_labels(tmp_path: Path) -> None:
    def script(body: dict[str, Any], before: int) -> Reply:
        if "p!" in blocks(body).values():
            return error(400, "flagged", "content_filter")
        return answering()(body, before)

    with StandIn(script) as teacher:
        done = labelled(tmp_path, teacher, "p1", "p!", "n1", tries=1)
    assert [label.id for label in done.labels] == ["r2", "r4"]
    assert [(row.id, row.reason) for row in done.set_aside] == [
        ("r3", "the endpoint's content filter refused the response")
    ]


def test_votes_are_found_again_whichever_responses_share_the_requests_now(tmp_path: Path) -> None:
    with StandIn(answering()) as teacher:
        first = labelled(tmp_path, teacher, "p1", "o1", "n1", "p2")
        teacher.bodies.clear()
        again = labelled(tmp_path, teacher, "n2", "p2", "o1", "o3", "p1", "n1", per_request=2)
    assert (first.usage.asked, again.usage.cached, again.usage.asked) == (2, 4, 1)
    assert [list(blocks(body).values()) for body in teacher.bodies] == [["n2", "o3"]]


def test_votes_of_single_requests_are_not_used_for_shared_requests(tmp_path: Path) -> None:
    def script(body: dict[str, Any], before: int) -> Reply:
        return answering()(body, before) if blocks(body) else completion('{"label": "none"}')

    with StandIn(script) as teacher:
        alone = labelled(tmp_path, teacher, "p1", "o1", per_request=1)
        together = labelled(tmp_path, teacher, "p1", "o1")
    assert [label.label for label in alone.labels] == ["none", "none"]
    assert [label.label for label in together.labels] == ["process", "outcome"]


def test_a_response_without_a_vote_is_also_sent_alone_after_a_restart(tmp_path: Path) -> None:
    def first_only(body: dict[str, Any], before: int) -> Reply:
        return answering(lambda _, entries: [*entries[:1], *((ident, "?") for ident, _ in entries[1:])])(body, before)

    def refuses_alone(body: dict[str, Any], before: int) -> Reply:
        return first_only(body, before) if len(blocks(body)) > 1 else error(401)

    texts = ("p1", "o1", "n1")
    with StandIn(refuses_alone) as teacher:
        with pytest.raises(TeacherRefusedKey):
            labelled(tmp_path, teacher, *texts, concurrency=1)
        port = int(teacher.base_url.split(":")[2].removesuffix("/v1"))
    with StandIn(first_only, port=port) as teacher:
        done = labelled(tmp_path, teacher, *texts)
    assert sorted(list(blocks(body).values()) for body in teacher.bodies) == [["n1"], ["o1"]]
    assert (len(done.labels), done.usage.cached) == (3, 1)


def test_what_a_stopped_run_paid_for_is_used_by_the_next(tmp_path: Path) -> None:
    texts = [f"p{number}" for number in range(30)]
    with StandIn(answering()) as teacher:
        with pytest.raises(BudgetReached):
            labelled(tmp_path, teacher, *texts, concurrency=1, budget=BudgetSection(tokens=2600))
        paid = sum(sizes(teacher))
        done = labelled(tmp_path, teacher, *texts)
    assert 0 < paid < 30
    assert done.usage.cached == paid
    assert Counter(text for body in teacher.bodies for text in blocks(body).values()) == Counter(texts)


def test_offline_repeats_the_labels_and_the_rows_that_were_set_aside(tmp_path: Path) -> None:
    def change(_given: dict[str, str], entries: Entries) -> Entries:
        return [(ident, "sarcasm" if label == "outcome" else label) for ident, label in entries]

    with StandIn(answering(change)) as teacher:
        online = labelled(tmp_path, teacher, "p1", "o1", "n1", votes=2, tries=1)
        offline = labelled(tmp_path, teacher, "p1", "o1", "n1", votes=2, offline=True)
        with pytest.raises(AnswersMissing, match="2 answers for 1 responses"):
            labelled(tmp_path, teacher, "p1", "p9", votes=2, offline=True)
    assert offline.labels == online.labels
    assert [row.id for row in offline.set_aside] == [row.id for row in online.set_aside] == ["r3"]


def test_only_responses_to_the_same_question_share_a_request() -> None:
    book = Codebook("", (Label("a"), Label("b")), ("question", "response"))
    given = [
        Response(f"r{number}", {"question": f"Q{number % 2}", "response": f"text {number}"}, "f.csv", number)
        for number in range(6)
    ]
    plan = LabellingPlan(given, book, section("http://127.0.0.1:9/v1", per_request=10), use_same_examples(()))
    contents = [
        plan.build_request(coding_request, AnswerFormat.SCHEMA).messages[-1]["content"]
        for coding_request in plan.coding_requests()
    ]
    coded = [blocks({"messages": [{"content": content}]}) for content in contents]
    assert [content.split("\n") for content in contents] == [
        [
            f"<question>Q{question}</question>",
            *(f'<response id="{ident}">{text}</response>' for ident, text in coded[question].items()),
        ]
        for question in (0, 1)
    ]
    assert [list(texts.values()) for texts in coded] == [
        [f"text {question}", f"text {question + 2}", f"text {question + 4}"] for question in (0, 1)
    ]


def test_examples_are_shown_in_the_same_answer_format(tmp_path: Path) -> None:
    example = CodedResponse(responses("well done")[0], "outcome")
    plan = LabellingPlan(
        responses("a", "b"), CODEBOOK, section("http://127.0.0.1:9/v1", per_request=2), use_same_examples([example])
    )
    _, user, assistant, _ = plan.build_request(plan.coding_requests()[0], AnswerFormat.SCHEMA).messages
    ((ident, text),) = blocks({"messages": [user]}).items()
    assert text == "well done"
    assert json.loads(assistant["content"]) == {"codings": [{"id": ident, "label": "outcome"}]}


TYPED = st.lists(st.sampled_from(['<response id="2">', "</response>", "</ Response>", "<question>", "\n", "words"]))


@given(st.lists(TYPED.map("".join), min_size=1, max_size=5), TYPED.map("".join))
def test_a_message_of_several_responses_is_split_as_it_was_joined(texts: list[str], question: str) -> None:
    book = Codebook("", (Label("a"), Label("b")), ("question", "response"))
    users = tuple(format_inputs(book, {"question": question, "response": text}) for text in texts)
    assert split_joined_message(join_user_messages(users)) == users


def answer(content: str, finish: str = "stop") -> dict[str, Any]:
    return {"choices": [{"message": {"content": content}, "finish_reason": finish}]}


SEVERAL = {
    "codings": '{"codings": [{"id": "k73", "label": "process"}, {"id": "b22", "label": "None"}]}',
    "list": '[{"id": "k73", "label": "process"}, {"id": "b22", "label": "none"}]',
    "other name": '{"results": [{"id": "k73", "label": "process"}, {"id": "b22", "label": "none"}]}',
    "fence": '```json\n{"results": [{"id": "K73", "label": "process"}, {"id": "b22", "label": "none"}]}\n```',
    "prose": 'Here: {"codings": [{"id": "k73", "label": "process",}, {"id": "b22", "label": "none"}]} Done.',
    "objects in lines": '{"id": "k73", "label": "process"}\n{"id": "b22", "label": "none"}',
    "other order": '[{"id": "b22", "label": "none"}, {"id": "k73", "label": "process"}]',
    "by id": '{"k73": "process", "b22": "none"}',
    "codings by id": '{"codings": {"k73": {"label": "process"}, "b22": {"label": "none"}}}',
    "list of one label": '[{"id": "k73", "label": ["process"]}, {"id": "b22", "label": "none"}]',
    "thinking": 'k73: outcome.</think>[{"id": "k73", "label": "process"}, {"id": "b22", "label": "none"}]',
    "lines": "k73: process\nb22: none",
    "bold lines": "**k73.** process\n\nb22) none",
    "bullets": "- k73: process\n- b22: **none**",
    "reasons": "k73: Praises the effort. | process\nb22: No praise: nothing. | none",
}


@pytest.mark.parametrize("form", SEVERAL)
def test_several_labels_are_read_in_every_form_that_teachers_give(form: str) -> None:
    votes = parse_votes(answer(SEVERAL[form]), SHAPE)
    assert not isinstance(votes, Failure)
    assert votes.assign(["k73", "b22"]) == [Vote("process"), Vote("none")]


@pytest.mark.parametrize(
    ("given", "cause"),
    [
        (answer('{"codings": [{"id": "1", "la', "length"), FailureCause.TRUNCATED),
        (answer('{"codings": []}'), FailureCause.UNREADABLE),
        (answer('{"codings": [{"id": "1", "label": "sarcasm"}]}'), FailureCause.NO_SUCH_LABEL),
        (answer('{"codings": [{"id": "1", "label": true}]}'), FailureCause.NO_SUCH_LABEL),
        (answer("I cannot say."), FailureCause.UNREADABLE),
        (answer(""), FailureCause.EMPTY),
    ],
)
def test_an_answer_without_any_vote_is_a_named_failure(given: dict[str, Any], cause: FailureCause) -> None:
    failure = parse_votes(given, SHAPE)
    assert isinstance(failure, Failure)
    assert failure.cause is cause


@given(st.text() | st.recursive(st.none() | st.booleans() | st.text(), st.lists).map(json.dumps))
def test_no_answer_makes_the_parser_of_several_responses_fail(content: str) -> None:
    result = parse_votes(answer(content), SHAPE)
    assert isinstance(result, Failure) or all(vote.label in CODEBOOK.names for _, vote in result.entries if vote)
