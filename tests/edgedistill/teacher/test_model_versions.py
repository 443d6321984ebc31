"""A model that changed behind the same name is named, with counts and days."""

from pathlib import Path
from typing import Any

from edgedistill.teacher import AnswerCache, changed

from .codings import ANSWER, request

MARCH, JUNE = 1_741_000_000, 1_749_500_000  # 2025-03-03 and 2025-06-09


def kept(folder: Path, *answers: dict[str, Any]) -> None:
    with AnswerCache(folder) as cache:
        for vote, answer in enumerate(answers):
            cache.put(request(vote=vote), ANSWER | answer)


def test_answers_of_one_model_are_no_change(tmp_path: Path) -> None:
    kept(tmp_path, *[{"model": "m-1", "system_fingerprint": "f", "created": MARCH}] * 3)
    with AnswerCache(tmp_path) as cache:
        stats = cache.stats()
    assert [(voice.answered_as, voice.answers) for voice in stats.voices] == [("m-1", 3)]
    assert changed(stats.voices) == []


def test_another_model_behind_the_same_name_is_one_line_with_counts_and_days(tmp_path: Path) -> None:
    old = {"model": "m-1", "system_fingerprint": "f", "created": MARCH}
    kept(tmp_path, old, old, {"model": "m-2", "created": JUNE})
    with AnswerCache(tmp_path) as cache:
        (line,) = changed(cache.voices("m"))
    assert line == (
        "note: the answers of m at https://api.example/v1 are not all of one model: "
        "2 by m-1, f (2025-03-03); 1 by m-2 (2025-06-09)"
    )


def test_another_fingerprint_is_another_voice(tmp_path: Path) -> None:
    kept(tmp_path, *({"model": "m-1", "system_fingerprint": mark, "created": MARCH} for mark in "fg"))
    with AnswerCache(tmp_path) as cache:
        assert len(cache.voices()) == 2


def test_models_and_addresses_are_counted_apart(tmp_path: Path) -> None:
    with AnswerCache(tmp_path) as cache:
        cache.put(request(model="m"), ANSWER)
        cache.put(request(model="n", base_url="https://other.example/v1"), ANSWER)
        stats = cache.stats()
        assert changed(stats.voices) == []
    assert dict(stats.addresses) == {"https://api.example/v1": 1, "https://other.example/v1": 1}


def test_answers_that_say_nothing_or_nonsense_of_themselves_do_no_harm(tmp_path: Path) -> None:
    kept(tmp_path, {"model": 7, "created": "soon"}, {"model": None, "created": 1}, {"system_fingerprint": ["x"]})
    with AnswerCache(tmp_path) as cache:
        assert sum(voice.answers for voice in cache.voices()) == 3
