import json
from pathlib import Path
from typing import Any

import pytest

from edgedistill.errors import DataError
from edgedistill.teacher import AnswerCache, CacheEntry, export_jsonl, import_jsonl
from edgedistill.teacher.cache import compute_key

from .codings import ANSWER, request


def exported(folder: Path, votes: range, name: str = "answers.jsonl") -> Path:
    with AnswerCache(folder / f"cache-{name}") as cache:
        requests = {vote: request(vote=vote) for vote in votes}
        cache.add_entries(
            [
                CacheEntry(each.key(), each.content(), ANSWER | {"id": f"{name}-{vote}"})
                for vote, each in requests.items()
            ]
        )
        assert export_jsonl(cache, folder / name) == len(votes)
    return folder / name


def test_an_export_is_one_line_of_key_request_and_answer_per_entry(tmp_path: Path) -> None:
    lines = [json.loads(line) for line in exported(tmp_path, range(3)).read_text().splitlines()]
    assert [line["key"] for line in lines] == sorted(request(vote=vote).key() for vote in range(3))
    assert all(set(line) == {"key", "request", "answer"} for line in lines)


def test_an_import_brings_every_answer_back(tmp_path: Path) -> None:
    file = exported(tmp_path, range(1200))
    with AnswerCache(tmp_path / "other") as cache:
        done = import_jsonl(cache, file)
        assert (done.added, done.present, done.invalid) == (1200, 0, ())
        assert cache.verify().entries == 1200
        assert export_jsonl(cache, tmp_path / "again.jsonl") == 1200
    assert (tmp_path / "again.jsonl").read_bytes() == file.read_bytes()


def test_two_exports_merge_and_what_was_there_stays(tmp_path: Path) -> None:
    first, second = exported(tmp_path, range(3), "a"), exported(tmp_path, range(2, 5), "b")
    with AnswerCache(tmp_path / "both") as cache:
        import_jsonl(cache, first)
        done = import_jsonl(cache, second)
        assert (done.added, done.present) == (2, 1)
        answer = cache.get(request(vote=2))
        assert answer is not None
        assert answer["id"] == "a-2"


@pytest.mark.parametrize(
    "strange", [{}, {"messages": []}, {"messages": ["a"]}, {"messages": [{}]}, {"vote": "0"}, {"model": None}]
)
def test_an_invalid_request_is_refused_although_its_key_matches(tmp_path: Path, strange: dict[str, Any]) -> None:
    content = {**request().content(), **strange} if strange else {}
    line = {"key": compute_key(content), "request": content, "answer": ANSWER}
    (tmp_path / "in.jsonl").write_text(json.dumps(line))
    with AnswerCache(tmp_path / "cache") as cache:
        done = import_jsonl(cache, tmp_path / "in.jsonl")
        assert [bad.fault for bad in done.invalid] == ["its request is not valid"]
        cache.add_entries([CacheEntry(compute_key(content), content, ANSWER)])  # as an import did before it looked
        assert [key for key, _ in cache.verify().damaged] == [compute_key(content)]


def test_invalid_lines_are_refused_by_number_and_the_valid_ones_are_imported(tmp_path: Path) -> None:
    good = exported(tmp_path, range(2)).read_text().splitlines()
    forged = json.loads(good[0])
    forged["request"]["vote"] = 9
    hollow = json.loads(good[0]) | {"answer": {}}
    lines = [good[0], "{", "", json.dumps(forged), json.dumps(hollow), "[]", '"text"', good[1]]
    (tmp_path / "mixed.jsonl").write_text("\n".join(lines))
    with AnswerCache(tmp_path / "other") as cache:
        done = import_jsonl(cache, tmp_path / "mixed.jsonl")
        assert cache.verify().entries == 2
    assert done.added == 2
    assert [line.line for line in done.invalid] == [2, 4, 5, 6, 7]
    assert done.invalid[1].fault == "its key does not match its request"


def test_a_line_that_is_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bytes.jsonl").write_bytes(b"\xff\xfe\x00\n")
    with AnswerCache(tmp_path / "other") as cache:
        assert [line.line for line in import_jsonl(cache, tmp_path / "bytes.jsonl").invalid] == [1]


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with AnswerCache(tmp_path / "cache") as cache, pytest.raises(DataError, match=r"nowhere\.jsonl"):
        import_jsonl(cache, tmp_path / "nowhere.jsonl")


def test_an_export_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    file = exported(tmp_path, range(1))
    before = file.read_bytes()
    (tmp_path / "answers.jsonl.part").mkdir()
    with AnswerCache(tmp_path / "cache-answers.jsonl") as cache, pytest.raises(DataError, match="cannot be written"):
        export_jsonl(cache, file)
    assert file.read_bytes() == before
