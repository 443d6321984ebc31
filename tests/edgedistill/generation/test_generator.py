"""The teacher writes over a real socket: every answer cached, every sample with its lineage, every failure reported."""

from pathlib import Path

import pytest

from edgedistill.errors import AnswersMissing, BudgetReached
from edgedistill.generation import RemovalReason, generate_samples
from edgedistill.project.teacher import BudgetSection
from edgedistill.teacher import AnswerCache, FailureCause

from ..teacher.codings import NO_WAIT
from ..teacher.codings import section as teacher_section
from ..teacher.stand_in import StandIn, completion, error
from .writings import CODEBOOK, LESSON, parse_request, section, writer, wrote


def written(folder: Path, base_url: str, *, offline=False, budget=None, **fields):
    with AnswerCache(folder) as cache:
        return generate_samples(
            LESSON,
            CODEBOOK,
            teacher_section(base_url, budget=budget, concurrency=2),
            section(**fields),
            cache,
            offline=offline,
            retry_policy=NO_WAIT,
        )


def test_every_label_gets_samples_at_every_temperature(tmp_path):
    with StandIn(writer) as teacher:
        done = written(tmp_path, teacher.base_url, temperature=[0.3, 1.2])
    made = [(sample.label, sample.lineage.temperature, sample.lineage.call) for sample in done.samples]
    assert made == [(label, t, call) for label in CODEBOOK.names for t in (0.3, 1.2) for call in (0, 0, 1, 1)]
    assert {body["temperature"] for body in teacher.bodies} == {0.3, 1.2}
    assert (done.requests, done.requested, done.removed, done.failed) == (8, 16, (), ())


def test_a_sample_has_its_lineage(tmp_path):
    with StandIn(writer) as teacher:
        done = written(tmp_path, teacher.base_url, variation="persona", personas=["who hurries"])
    second = done.samples[1]
    with AnswerCache(tmp_path) as cache:
        entry = next(entry for entry in cache.entries() if entry.key == second.lineage.key)
    assert second.text in entry.answer["choices"][0]["message"]["content"]
    shown = entry.request["messages"][-1]["content"]
    texts = {row.response.id: row.response.text for row in LESSON}
    assert [texts[seed] in shown for seed in second.lineage.seeds] == [True, True]
    assert (second.lineage.position, second.lineage.persona, second.lineage.teacher) == (1, "who hurries", "m")


def test_prompts_contain_train_rows_only(tmp_path):
    with StandIn(writer) as teacher:
        written(tmp_path, teacher.base_url)
    for body in teacher.bodies:
        label, _ = parse_request(body)
        shown = body["messages"][-1]["content"]
        assert sum(row.response.text in shown for row in LESSON if row.label == label) == 2
        assert not any(row.response.text in shown for row in LESSON if row.label != label)


def test_cached_samples_are_not_requested_again(tmp_path):
    with StandIn(writer) as teacher:
        first = written(tmp_path, teacher.base_url)
        again = written(tmp_path, teacher.base_url)
        offline = written(tmp_path, teacher.base_url, offline=True)
    assert len(teacher.bodies) == 4
    assert first.samples == again.samples == offline.samples
    assert (again.usage.asked, again.usage.cached) == (0, 4)


def test_equal_requests_differ_only_in_their_seed_and_are_all_cached(tmp_path):
    with StandIn(writer) as teacher:
        done = written(tmp_path, teacher.base_url, examples_per_prompt=0)
    texts = {body["messages"][-1]["content"] for body in teacher.bodies}
    assert len(texts) == 2
    assert len({sample.lineage.key for sample in done.samples}) == 4


def test_fewer_samples_than_requested_are_accepted_and_the_rest_is_missing(tmp_path):
    with StandIn(wrote(["only one"])) as teacher:
        done = written(tmp_path, teacher.base_url)
    assert [sample.text for sample in done.samples] == ["only one"] * 4
    assert done.requested == 8
    assert max(teacher.asked.values()) == 1


def test_more_samples_than_requested_are_removed(tmp_path):
    with StandIn(wrote(["one", "two", "three", 4])) as teacher:
        done = written(tmp_path, teacher.base_url)
    assert len(done.samples) == 8
    assert [(removal.reason, removal.detail) for removal in done.removed] == [
        (RemovalReason.EXTRA, "2 were requested")
    ] * 8


def test_samples_that_are_not_strings_are_removed_and_the_others_kept(tmp_path):
    with StandIn(wrote([None, " fine "])) as teacher:
        done = written(tmp_path, teacher.base_url)
    assert {sample.text for sample in done.samples} == {"fine"}
    assert {removal.reason for removal in done.removed} == {RemovalReason.NO_STRING}
    assert len(done.samples) == len(done.removed) == 4


@pytest.mark.parametrize(
    ("reply", "cause"),
    [
        (completion(None, refusal="I can't."), FailureCause.REFUSED),
        (completion('{"responses": ["a'), FailureCause.UNREADABLE),
        (completion('{"responses": ["a"', finish="length"), FailureCause.TRUNCATED),
        (wrote([]), FailureCause.UNREADABLE),
        (wrote([1, 2]), FailureCause.UNREADABLE),
        (error(400, "flagged", "content_filter"), FailureCause.FILTERED),
    ],
)
def test_a_request_that_always_fails_is_reported_and_the_others_continue(tmp_path, reply, cause):
    def script(body, before):
        return reply if parse_request(body)[0] == "outcome" and body["seed"] == 0 else writer(body, before)

    with StandIn(script) as teacher:
        online = written(tmp_path, teacher.base_url)
        asked = len(teacher.bodies)
        offline = written(tmp_path, teacher.base_url, offline=True)
    assert len(teacher.bodies) == asked == 3 + (1 if cause is FailureCause.FILTERED else 3)
    assert [(call.label, call.size, call.cause) for call in online.failed] == [("outcome", 2, cause)]
    assert len(online.samples) == 6
    assert offline.samples == online.samples
    assert [call.cause for call in offline.failed] == [cause]
    assert "failures.jsonl" in online.failed[0].detail


def test_a_temporary_failure_is_retried_and_loses_no_sample(tmp_path):
    with StandIn(lambda body, before: writer(body, before) if before else completion("")) as teacher:
        done = written(tmp_path, teacher.base_url)
    assert len(done.samples) == 8
    assert dict(done.usage.retries) == {"the teacher's answer was empty": 4}


def test_offline_without_answers_names_their_labels(tmp_path):
    with StandIn(writer) as teacher:
        pass
    with pytest.raises(AnswersMissing, match=r"4 requests for samples are not in the cache, for the labels process, o"):
        written(tmp_path, teacher.base_url, offline=True)


def test_the_budget_stops_the_run_and_saves_the_samples(tmp_path):
    with StandIn(writer) as teacher:
        with pytest.raises(BudgetReached):
            written(tmp_path, teacher.base_url, budget=BudgetSection(tokens=4500), per_label=40)
        spent = len(teacher.bodies)
        done = written(tmp_path, teacher.base_url, per_label=40)
    assert 0 < spent < 40
    assert (done.usage.cached, done.usage.asked) == (spent, 40 - spent)


def test_an_endpoint_without_answer_formats_gets_prompts_for_plain_lines(tmp_path):
    def script(body, _before):
        if "response_format" in body:
            return error(400, "response_format is not supported")
        return completion("1. first line\n2. second line")

    with StandIn(script) as teacher:
        done = written(tmp_path, teacher.base_url, per_label=2)
        again = written(tmp_path, teacher.base_url, per_label=2, offline=True)
    assert [sample.text for sample in done.samples] == ["first line", "second line"] * 2
    assert again.samples == done.samples
