"""Model versions: a changed model behind the same name is reported, with counts and dates."""

from pathlib import Path
from typing import Any

from edgedistill.teacher import AnswerCache, describe_model_changes

from .codings import ANSWER, request

MARCH, JUNE = 1_741_000_000, 1_749_500_000  # 2025-03-03 and 2025-06-09


def store(folder: Path, *answers: dict[str, Any]) -> None:
    with AnswerCache(folder) as cache:
        for vote, answer in enumerate(answers):
            cache.put(request(vote=vote), ANSWER | answer)


def test_answers_of_one_model_are_not_a_change(tmp_path: Path) -> None:
    store(tmp_path, *[{"model": "m-1", "system_fingerprint": "f", "created": MARCH}] * 3)
    with AnswerCache(tmp_path) as cache:
        stats = cache.stats()
    assert [(version.served_model, version.answers) for version in stats.model_versions] == [("m-1", 3)]
    assert describe_model_changes(stats.model_versions) == []


def test_another_model_behind_the_same_name_is_one_line_with_counts_and_dates(tmp_path: Path) -> None:
    old = {"model": "m-1", "system_fingerprint": "f", "created": MARCH}
    store(tmp_path, old, old, {"model": "m-2", "created": JUNE})
    with AnswerCache(tmp_path) as cache:
        (line,) = describe_model_changes(cache.model_versions("m"))
    assert line == (
        "note: the answers of m at https://api.example/v1 come from several model versions: "
        "2 by m-1, f (2025-03-03); 1 by m-2 (2025-06-09)"
    )


def test_another_fingerprint_is_another_model_version(tmp_path: Path) -> None:
    store(tmp_path, *({"model": "m-1", "system_fingerprint": fingerprint, "created": MARCH} for fingerprint in "fg"))
    with AnswerCache(tmp_path) as cache:
        assert len(cache.model_versions()) == 2


def test_models_and_addresses_are_counted_apart(tmp_path: Path) -> None:
    with AnswerCache(tmp_path) as cache:
        cache.put(request(model="m"), ANSWER)
        cache.put(request(model="n", base_url="https://other.example/v1"), ANSWER)
        stats = cache.stats()
        assert describe_model_changes(stats.model_versions) == []
    assert dict(stats.addresses) == {"https://api.example/v1": 1, "https://other.example/v1": 1}


def test_answers_with_missing_or_invalid_model_names_are_tolerated(tmp_path: Path) -> None:
    store(tmp_path, {"model": 7, "created": "soon"}, {"model": None, "created": 1}, {"system_fingerprint": ["x"]})
    with AnswerCache(tmp_path) as cache:
        assert sum(version.answers for version in cache.model_versions()) == 3
