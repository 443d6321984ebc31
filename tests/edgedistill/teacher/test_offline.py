"""Labelling from the cache alone."""

from pathlib import Path
from typing import Any

import pytest

from edgedistill.errors import (
    AnswersMissing,
)
from edgedistill.teacher import AnswerCache, export_jsonl, import_jsonl

from .codings import labelled
from .stand_in import Reply, StandIn, coded, completion, text_of


def test_offline_sends_nothing_and_names_what_is_missing(tmp_path: Path) -> None:
    with StandIn(coded("process")) as teacher:
        labelled(tmp_path, teacher, "a", "b", votes=2)
        with pytest.raises(AnswersMissing, match=r"14 answers for 7 responses .*: r4, r5, r6, r7, r8 and 2 more"):
            labelled(tmp_path, teacher, *"abcdefghi", votes=2, offline=True)
    assert len(teacher.bodies) == 4


def test_offline_sets_the_same_rows_aside(tmp_path: Path) -> None:
    def script(body: dict[str, Any], _before: int) -> Reply:
        return completion("") if text_of(body) == "b" else coded("process")

    with StandIn(script) as teacher:
        online = labelled(tmp_path, teacher, *"abc", votes=2, tries=1)
        offline = labelled(tmp_path, teacher, *"abc", votes=2, offline=True)
    assert offline.labels == online.labels
    assert [(row.id, row.reason) for row in offline.set_aside] == [(row.id, row.reason) for row in online.set_aside]


def test_an_imported_cache_gives_the_same_labels_offline(tmp_path: Path) -> None:
    with StandIn(lambda body, _before: coded(("process", "outcome", "none")[len(text_of(body)) % 3])) as teacher:
        online = labelled(tmp_path / "one", teacher, "a", "bb", "ccc", votes=3)
        with AnswerCache(tmp_path / "one") as one, AnswerCache(tmp_path / "two") as two:
            export_jsonl(one, tmp_path / "answers.jsonl")
            import_jsonl(two, tmp_path / "answers.jsonl")
        offline = labelled(tmp_path / "two", teacher, "a", "bb", "ccc", votes=3, offline=True)
    assert offline.labels == online.labels
    assert len(teacher.bodies) == 9
