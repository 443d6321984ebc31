import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from edgedistill.errors import CacheDamaged
from edgedistill.teacher import AnswerCache, CacheEntry, repair_database

from .codings import ANSWER, database, request

VOTES = 200
PAGE = 4096


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    with AnswerCache(tmp_path) as cache:
        asked = [request(vote=vote) for vote in range(VOTES)]
        cache.add_entries([CacheEntry(each.key(), each.content(), ANSWER) for each in asked])
    assert not (tmp_path / "cache.db-wal").exists()
    return tmp_path


def overwrite(file: Path, start: int, length: int) -> None:
    with file.open("r+b") as opened:
        opened.seek(start)
        opened.write(os.urandom(length))


def kept(folder: Path) -> int:
    with AnswerCache(folder) as cache:
        found = cache.verify()
        assert found.damaged == ()
        assert found.entries == sum(cache.get(request(vote=vote)) == ANSWER for vote in range(VOTES))
    return found.entries


def test_a_file_that_is_not_a_database_is_named_with_a_hint(filled: Path) -> None:
    overwrite(database(filled), 0, 200)
    with pytest.raises(
        CacheDamaged, match=r"cache.db: the database is damaged.*edgedistill cache verify PROJECT --repair"
    ):
        AnswerCache(filled)


def test_a_damaged_page_is_found_by_verify(filled: Path) -> None:
    middle = database(filled).stat().st_size // 2 // PAGE * PAGE
    overwrite(database(filled), middle, PAGE)
    with pytest.raises(CacheDamaged, match=r"cache.db"), AnswerCache(filled) as cache:
        cache.verify()


def test_a_damaged_page_costs_only_the_answers_on_it(filled: Path) -> None:
    middle = database(filled).stat().st_size // 2 // PAGE * PAGE
    overwrite(database(filled), middle, PAGE)
    saved = repair_database(filled)
    assert VOTES - 20 <= saved.kept < VOTES
    assert kept(filled) == saved.kept
    assert saved.damaged_file.exists()


def test_a_file_that_was_cut_keeps_what_is_before_the_cut(filled: Path) -> None:
    size = database(filled).stat().st_size
    os.truncate(database(filled), size * 2 // 3 // PAGE * PAGE)
    assert repair_database(filled).kept == kept(filled) > VOTES // 3


def test_a_damaged_index_loses_no_answer(filled: Path) -> None:
    with sqlite3.connect(database(filled)) as connection:
        (root,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'Cache_key_raw'")
    overwrite(database(filled), (root[0] - 1) * PAGE, PAGE)
    assert repair_database(filled).kept == kept(filled) == VOTES


@pytest.mark.parametrize("length", [16, PAGE, None])
def test_a_file_that_sqlite_cannot_open_gives_way_to_an_empty_cache(filled: Path, length: int | None) -> None:
    overwrite(database(filled), 0, length or database(filled).stat().st_size)
    saved = repair_database(filled)
    assert saved.kept == kept(filled) == 0
    assert saved.damaged_file.stat().st_size > PAGE


def test_a_sound_cache_loses_nothing_to_salvage(filled: Path) -> None:
    assert repair_database(filled).kept == kept(filled) == VOTES


def test_without_a_cache_nothing_is_created(tmp_path: Path) -> None:
    with pytest.raises(CacheDamaged, match="there is no cache"):
        repair_database(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_database_that_another_process_writes_is_not_repaired(filled: Path) -> None:
    before = sorted(path.name for path in filled.iterdir())
    with closing(sqlite3.connect(database(filled), isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(CacheDamaged, match=r"cache.db: the database cannot be repaired now \(database is locked\)"):
            repair_database(filled)
        other.execute("ROLLBACK")
    assert {name for name in before if not name.endswith(("-wal", "-shm"))} <= {path.name for path in filled.iterdir()}
    assert not list(filled.glob("*.damaged-*"))
    assert kept(filled) == VOTES
