"""Dispatch modes: estimates before anything is paid for, and Batch API files exchanged by hand."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given as any_of
from hypothesis import strategies as st

from edgedistill.errors import AnswersMissing, DataError, Paused, RunError
from edgedistill.project.teacher import PricesSection
from edgedistill.teacher import (
    AnswerCache,
    Budget,
    CostEstimate,
    DispatchMode,
    EstimateOnly,
    Labelling,
    ReadBatchFile,
    SendNow,
    SpendingLog,
    SubmitBatches,
    WriteBatchFile,
    label_responses,
)
from edgedistill.teacher.batch import read_results, split_into_files
from edgedistill.teacher.spending import estimate_tokens

from .batch_stand_in import BatchStandIn
from .codings import CODEBOOK, request, responses, section
from .stand_in import StandIn, coded

PRICES = PricesSection(input_usd_per_million=1.0, output_usd_per_million=2.0)
NOWHERE = "http://127.0.0.1:9/v1"


class Stopped(Exception):
    """Simulates a run that is stopped while it waits."""


def stop(_seconds: float) -> None:
    """Stop a run."""
    raise Stopped


def label(
    folder: Path, dispatch: DispatchMode | None, *texts: str, base_url: str = NOWHERE, **fields: Any
) -> Labelling:
    given = section(base_url, **fields)
    with AnswerCache(folder) as cache:
        budget = Budget.from_section(given, SpendingLog(folder, "p"), "label")
        return label_responses(responses(*texts), CODEBOOK, given, cache, budget=budget, api_key="k", dispatch=dispatch)


def estimated(folder: Path, *texts: str, **fields: Any) -> dict[str, Any]:
    """Return the estimate as `--estimate --json` prints it."""
    with pytest.raises(Paused) as stop:
        label(folder, EstimateOnly(), *texts, **fields)
    assert stop.value.exit_code == 0
    found: dict[str, Any] = stop.value.result["estimate"]
    return found


def test_an_estimate_sends_nothing_and_counts_every_vote(tmp_path: Path) -> None:
    with StandIn(coded("process")) as teacher:
        found = estimated(tmp_path, "a", "b", base_url=teacher.base_url, votes=3, max_output_tokens=50)
        assert teacher.bodies == []
    assert (found["requests"], found["most_output_tokens"]) == (6, 300)
    assert found["rule"] == "estimated as UTF-8 bytes / 3.5"
    assert found["most_nano_dollars"] is None


def test_an_estimate_in_dollars_is_whole_nano_dollars(tmp_path: Path) -> None:
    found = estimated(tmp_path, "a", prices=PRICES, max_output_tokens=50)
    assert found["input_nano_dollars"] == found["input_tokens"] * 1000
    assert found["most_nano_dollars"] == found["input_tokens"] * 1000 + 50 * 2000


def test_without_prices_the_estimate_gives_tokens_only(tmp_path: Path) -> None:
    with pytest.raises(Paused, match="no prices set: tokens only"):
        label(tmp_path, EstimateOnly(), "a")


def test_what_is_cached_is_not_in_the_estimate(tmp_path: Path) -> None:
    with StandIn(coded("process")) as teacher:
        label(tmp_path, None, "a", base_url=teacher.base_url, prices=PRICES)
        assert estimated(tmp_path, "a", "b", base_url=teacher.base_url)["requests"] == 1
        with pytest.raises(Paused, match="all answers are in the cache"):
            label(tmp_path, EstimateOnly(), "a", base_url=teacher.base_url)


def test_after_the_first_answers_the_estimate_uses_their_mean(tmp_path: Path) -> None:
    with StandIn(coded("process")) as teacher:
        label(tmp_path, None, "a", "b", base_url=teacher.base_url)
        assert estimated(tmp_path, *"abcdef", base_url=teacher.base_url)["likely_output_tokens"] == 4 * 5


def test_the_estimate_is_reported_before_the_first_request(tmp_path: Path) -> None:
    seen: list[tuple[CostEstimate, int]] = []
    with StandIn(coded("process")) as teacher:
        dispatch = SendNow(lambda found: seen.append((found, len(teacher.bodies))))
        label(tmp_path, dispatch, "a", "b", base_url=teacher.base_url)
        label(tmp_path, dispatch, "a", "b", base_url=teacher.base_url)
    assert [(found.requests, before) for found, before in seen] == [(2, 0)]


def test_an_estimate_names_its_teacher_if_there_are_several(tmp_path: Path) -> None:
    expected = r"large: estimate: 1 requests, about \d+ input tokens \(estimated as UTF-8 bytes / 3.5, from 1 "
    with pytest.raises(Paused, match=expected) as stop:
        label(tmp_path, EstimateOnly("large"), "a")
    assert stop.value.result["teacher"] == "large"


@pytest.mark.parametrize(
    "dispatch", [SendNow(lambda _: None), WriteBatchFile(Path("never.jsonl"))], ids=["live", "by hand"]
)
def test_requests_in_a_submitted_batch_are_not_sent_in_another_mode(tmp_path: Path, dispatch: DispatchMode) -> None:
    with BatchStandIn(coded("process")) as teacher:
        with pytest.raises(Stopped):
            label(
                tmp_path, SubmitBatches(lambda _: None, lambda _: None, sleep=stop), *"abc", base_url=teacher.base_url
            )
        with pytest.raises(
            RunError, match=r"2 of these requests are in the submitted batch .*--batch.*batches/ed-\w+\.jsonl"
        ):
            label(tmp_path, dispatch, *"abcd", base_url=teacher.base_url)
        assert len(teacher.bodies) == 1
        for file in (tmp_path / "batches").glob("*.jsonl"):
            file.unlink()
        done = label(tmp_path, SendNow(lambda _: None), *"abcd", base_url=teacher.base_url)
    assert len(done.labels) == 4


def test_tokens_are_estimated_from_bytes() -> None:
    assert [estimate_tokens(text) for text in ("", "1234567", "12345678", "ü" * 7)] == [0, 2, 3, 4]


def results(requests: Path, **answers: Any) -> list[bytes]:
    """Return the lines of a provider's results file."""
    body = json.loads(coded("process").body)
    return [
        json.dumps(
            {
                "custom_id": json.loads(line)["custom_id"],
                "response": {"status_code": 200, "body": body},
                "error": None,
                **answers,
            }
        ).encode()
        for line in requests.read_bytes().splitlines()
    ]


def write_requests(folder: Path, *texts: str, **fields: Any) -> Path:
    with pytest.raises(Paused, match="wrote"):
        label(folder, WriteBatchFile(folder / "out.jsonl"), *texts, **fields)
    return folder / "out.jsonl"


def test_requests_are_written_to_a_file_and_answers_are_read_from_one_without_a_connection(tmp_path: Path) -> None:
    requests = write_requests(tmp_path, *"abc", votes=2)
    lines = [json.loads(line) for line in requests.read_bytes().splitlines()]
    assert len(lines) == 6
    assert {(line["method"], line["url"]) for line in lines} == {("POST", "/v1/chat/completions")}
    assert all(line["body"]["model"] == "m" and line["body"]["max_tokens"] == 300 for line in lines)
    (tmp_path / "in.jsonl").write_bytes(b"\n".join(results(requests)))
    messages: list[str] = []
    done = label(tmp_path, ReadBatchFile([tmp_path / "in.jsonl"], messages.append), *"abc", votes=2, prices=PRICES)
    assert [row.label for row in done.labels] == ["process"] * 3
    assert messages[0].endswith("in.jsonl: 6 answers added, 0 already cached, 0 unusable")
    assert (done.usage.asked, done.usage.nano_dollars) == (6, 600 * 1000 + 30 * 2000)
    assert len(messages) == 1
    assert done.labels == label(tmp_path, None, *"abc", votes=2).labels


def test_damaged_unknown_and_duplicate_lines_of_a_file_are_counted_and_named(tmp_path: Path) -> None:
    requests = write_requests(tmp_path, *"abc")
    good = results(requests)
    lines = [good[0], b"\xff{", good[0], json.dumps({"custom_id": "x", "response": {}}).encode(), b"", b"[]", *good[1:]]
    (tmp_path / "in.jsonl").write_bytes(b"\n".join(lines))
    messages: list[str] = []
    done = label(tmp_path, ReadBatchFile([tmp_path / "in.jsonl"], messages.append), *"abc")
    assert len(done.labels) == 3
    assert messages[0].endswith("skipped: 2 damaged lines (2, 6); 1 unknown lines (4); 1 duplicate lines (3)")


def test_answers_of_an_incomplete_file_are_saved_and_the_missing_ones_are_counted(tmp_path: Path) -> None:
    requests = write_requests(tmp_path, *"abcd")
    good = results(requests)
    failed = json.dumps(json.loads(good[3]) | {"response": {"status_code": 500, "body": {"error": {}}}}).encode()
    (tmp_path / "in.jsonl").write_bytes(b"\n".join([*good[:2], failed]))
    messages: list[str] = []
    with pytest.raises(AnswersMissing, match="2 of 4 requests have no answer yet"):
        label(tmp_path, ReadBatchFile([tmp_path / "in.jsonl"], messages.append), *"abcd")
    assert "2 answers added, 0 already cached, 1 unusable" in messages[0]
    again = write_requests(tmp_path, *"abcd")
    assert len(again.read_bytes().splitlines()) == 2
    (tmp_path / "rest.jsonl").write_bytes(b"\n".join(results(again)))
    files = [tmp_path / "in.jsonl", tmp_path / "rest.jsonl"]
    assert len(label(tmp_path, ReadBatchFile(files, messages.append), *"abcd").labels) == 4


def test_reading_a_file_twice_changes_nothing_and_costs_nothing(tmp_path: Path) -> None:
    requests = write_requests(tmp_path, *"abc")
    (tmp_path / "in.jsonl").write_bytes(b"\n".join(results(requests)[:2]))
    for _ in range(2):
        with pytest.raises(AnswersMissing):
            label(tmp_path, ReadBatchFile([tmp_path / "in.jsonl"], lambda _: None), *"abc")
    spending_log = SpendingLog(tmp_path, "p")
    spending_log.catch_up()
    assert spending_log.stages()["label"].known.requests == 2


def test_a_missing_results_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.jsonl: the file cannot be read"):
        label(tmp_path, ReadBatchFile([tmp_path / "nowhere.jsonl"], lambda _: None), "a")


def test_files_stay_within_the_limits_of_the_batch_api() -> None:
    requests = [request(vote=vote) for vote in range(10)]
    by_count = list(split_into_files(requests, "max_tokens", max_requests=4))
    assert [len(each) for each in by_count] == [4, 4, 2]
    size = len(by_count[0][0][1])
    by_size = list(split_into_files(requests, "max_tokens", max_bytes=3 * size + 10))
    assert all(sum(len(line) for _, line in each) <= 3 * size + 10 for each in by_size)
    assert [asked for each in by_size for asked, _ in each] == requests


def test_two_requests_with_one_key_are_one_line() -> None:
    assert [len(each) for each in split_into_files([request(), request()], "max_tokens")] == [1]


FIELDS = st.none() | st.text() | st.dictionaries(st.text(), st.integers())
OBJECTS = st.dictionaries(st.sampled_from(["custom_id", "response", "error"]), FIELDS)
VALUES = OBJECTS | st.recursive(st.none() | st.text() | st.integers(), st.lists)


@any_of(st.lists(st.binary() | VALUES.map(lambda value: json.dumps(value).encode())))
def test_every_line_of_a_results_file_is_accounted_for(lines: list[bytes]) -> None:
    found = read_results(lines, {"", "a"})
    counted = len(found.results) + len(found.damaged) + len(found.unknown) + len(found.duplicate)
    assert counted == sum(bool(line.strip()) for line in lines)
