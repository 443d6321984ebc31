"""A rule that was shown for a closed set of questions sends responses to any other question to a person."""

import re

import msgspec
import pytest

from edgedistill_serve import Bundle, BundleError, Scorer
from edgedistill_serve.bundle.manifest import ReviewRule
from edgedistill_serve.task.contexts import ShownContexts, context_hash, describe_contexts, shown_contexts
from edgedistill_serve.task.task import Label, Task

TASK = Task("nominal", (Label("a"), Label("b")), ("question", "reference_answer", "response"))
ALONE = Task("nominal", (Label("a"), Label("b")), ("response",))
KNOWN = {"question": "Why is the sky blue?", "reference_answer": "It scatters light."}


def row(**changes: str) -> dict[str, str]:
    return KNOWN | {"response": "great job"} | changes


SAME = (
    {"question": "why is the sky BLUE?"},
    {"question": "  Why is\u00a0the\tsky  blue?\n"},
    {"question": "Why is the\u200b sky\ufeff blue?"},
    {"reference_answer": "It\u00ad scatters light."},
    {"response": "something else"},
    {"question": "\uff37hy is the sky blue?"},
    {"question": "WHY\u3000IS THE SKY BLUE\uff1f"},
)
OTHER = (
    {"question": "Why is the sky red?"},
    {"question": "Why is the sky blue"},
    {"question": ""},
    {"reference_answer": "It reflects light."},
    {"reference_answer": ""},
    {"question": "ท้องฟ้า"},
    {"question": "<p>Why is the sky blue?</p>"},
    {"question": "Why is the sky blúe?"},
)


@pytest.mark.parametrize("changes", SAME)
def test_the_same_question_in_another_spelling_has_the_same_hash(changes):
    assert context_hash(row(**changes)) == context_hash(row())


@pytest.mark.parametrize("changes", OTHER)
def test_another_question_or_reference_has_another_hash(changes):
    assert context_hash(row(**changes)) != context_hash(row())


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("How much is 1 1/2?", "How much is 11/2?"),
        ("What is 2³?", "What is 23?"),
        ("Add 1, 2\n3", "Add 1, 23"),
        ("x⁻¹", "x-1"),
        ("3\u200b4", "34"),
    ],
)
def test_numbers_that_only_a_space_or_a_raised_digit_tells_apart_are_other_questions(one, other):
    assert context_hash(row(question=one)) != context_hash(row(question=other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1  +  2 = ?", "1 + 2 =?"),
        ("What is 2³?", "what is 2^3 ?"),
        ("Ärger 5", "A\u0308rger 5"),
        ("add 3 \u00a0 4", "Add 3 4"),
        ("\uff15 \uff16", "5 6"),
    ],
)
def test_numbers_in_another_spelling_are_the_same_question(one, other):
    assert context_hash(row(question=one)) == context_hash(row(question=other))


@pytest.mark.parametrize(
    ("questions", "closed"),
    [(3 * ["a"], True), (2 * ["a"], False), (["a", "a", "a", "a", "b", "b"], True), (["a", "a", "b", "b"], False)],
)
def test_a_set_is_closed_from_three_rows_per_question_on(questions, closed):
    shown = shown_contexts([row(question=each) for each in questions], TASK)
    assert shown is not None
    assert (shown.rows, shown.distinct, shown.closed) == (len(questions), len(set(questions)), closed)
    assert len(shown.hashes) == (shown.distinct if closed else 0)


def test_a_task_without_question_has_no_contexts():
    assert shown_contexts([{"response": "x"}] * 9, ALONE) is None


@pytest.fixture
def scorer(make_bundle, tmp_path):
    """Return a scorer of a bundle whose rule was shown for these rows."""

    def make(rows: list[dict[str, str]], **review: bool) -> Scorer:
        shown = shown_contexts(rows, TASK)
        bundle = make_bundle(tmp_path / "bundle", inputs=TASK.inputs, review=ReviewRule(**review), contexts=shown)
        return Scorer(bundle, threads=1)

    return make


def test_a_new_question_is_reviewed_with_its_own_reason(scorer):
    scores = scorer([row()] * 3).score([row(**changes) for changes in (*SAME, *OTHER)])
    assert [score.reason for score in scores] == [None] * len(SAME) + ["new question"] * len(OTHER)
    assert {score.decision for score in scores[len(SAME) :]} == {"review"}


def test_what_is_said_first_of_a_response_to_a_new_question(scorer):
    scores = scorer([row()] * 3).score([row(question="new", response=text) for text in ("", "👍", "hard " * 60)])
    assert [score.reason for score in scores] == ["blank", "unreadable", "truncated"]


def test_a_project_may_accept_new_questions(scorer):
    (score,) = scorer([row()] * 3, new_question=False).score([row(question="new")])
    assert score.decision == "accept"


def test_open_questions_are_not_checked(scorer):
    (score,) = scorer([row(question=str(number)) for number in range(9)]).score([row(question="new")])
    assert score.decision == "accept"


def test_texts_that_the_model_reads_alike_have_one_decision_from_the_cache_too(scorer):
    checked = scorer([row(question="a b", reference_answer="c")] * 3)
    given = [row(question="a b", reference_answer="c"), row(question="a", reference_answer="b c")]
    assert [score.reason for score in checked.score(given)] == [None, None]
    assert [score.reason for score in checked.score(given[::-1])] == [None, None]


def test_older_bundles_record_no_questions_and_are_read(answers_bundle):
    assert answers_bundle.manifest.contexts is None
    (score,) = Scorer(answers_bundle).score([row(question="anything")])
    assert score.decision == "accept"


@pytest.mark.parametrize(
    ("contexts", "fault"),
    [
        (ShownContexts(3, 1, True, ()), "one hash for each"),
        (ShownContexts(3, 2, True, ("0" * 32, "0" * 32)), "one hash for each"),
        (ShownContexts(3, 1, False, ("0" * 32,)), "one hash for each"),
        (ShownContexts(3, 1, True, ("x" * 32,)), "hexadecimal"),
        (ShownContexts(0, 0, False, ()), "between 1 and"),
        (ShownContexts(2, 3, False, ()), "between 1 and"),
    ],
)
def test_a_manifest_with_contradictory_questions_is_refused(make_bundle, tmp_path, contexts, fault):
    with pytest.raises(BundleError, match=fault):
        make_bundle(tmp_path / "bundle", inputs=TASK.inputs, contexts=contexts)


def test_questions_of_a_task_without_question_are_refused(make_bundle, tmp_path):
    with pytest.raises(BundleError, match="no input besides the response"):
        make_bundle(tmp_path / "bundle", contexts=ShownContexts(3, 1, True, ("0" * 32,)))


def test_the_hashes_survive_writing_and_the_version_changes_with_them(make_bundle, tmp_path):
    one, other = (
        make_bundle(tmp_path / name, inputs=TASK.inputs, contexts=shown_contexts([row(question=name)] * 3, TASK))
        for name in ("one", "other")
    )
    assert Bundle.load(one.folder).manifest.contexts == one.manifest.contexts
    assert one.manifest.version != other.manifest.version
    assert "one" not in msgspec.json.encode(one.manifest.contexts).decode()


@pytest.mark.parametrize(
    ("contexts", "task", "reviewed", "expected"),
    [
        (None, ALONE, True, "no question"),
        (None, TASK, True, "does not record"),
        (ShownContexts(90, 88, False), TASK, True, "open questions: the 90 validation rows have 88 different"),
        (ShownContexts(90, 1, True, ("0" * 32,)), TASK, True, r"1 question \(90 validation rows\).*sent to a person"),
        (ShownContexts(90, 2, True), TASK, False, r"2 questions .*new_questions: accept"),
    ],
)
def test_it_is_said_for_which_questions_the_rule_was_shown(contexts, task, reviewed, expected):
    assert re.search(expected, describe_contexts(contexts, task, reviewed=reviewed))
