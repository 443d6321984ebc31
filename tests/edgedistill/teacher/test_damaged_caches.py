"""A cache that is empty, cut, or another program's is damage that is named, never an empty cache."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from edgedistill.errors import CacheDamaged
from edgedistill.teacher import AnswerCache, CacheEntry, repair_database

from .codings import ANSWER, database, request


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    with AnswerCache(tmp_path) as cache:
        asked = [request(vote=vote) for vote in range(50)]
        cache.add_entries([CacheEntry(each.key(), each.content(), ANSWER) for each in asked])
    return tmp_path


@pytest.mark.parametrize("length", [0, 1, 15, 16, 99, 100, 101, 511, 512, 513, 4095, 4096, 4097, 8192, 20_000])
def test_a_cache_that_was_cut_is_damaged_and_repair_starts_again(filled: Path, length: int) -> None:
    whole = database(filled).read_bytes()
    database(filled).write_bytes(whole[:length])
    with (
        pytest.raises(CacheDamaged, match=r"cache\.db.*edgedistill cache verify PROJECT --repair"),
        AnswerCache(filled) as cache,
    ):
        cache.verify()
    assert database(filled).stat().st_size == length  # nothing is written into it
    repair_database(filled)
    with AnswerCache(filled) as cache:
        cache.put(request(vote=99), ANSWER)
        assert cache.verify().damaged == ()


def test_a_log_without_its_database_is_damage(filled: Path) -> None:
    database(filled).unlink()
    (filled / "cache.db-wal").write_bytes(b"x" * 5000)
    with pytest.raises(CacheDamaged, match="the database is missing"):
        AnswerCache(filled)
    assert not database(filled).exists()


def test_a_database_of_another_program_is_refused_and_stays_as_it_is(tmp_path: Path) -> None:
    with closing(sqlite3.connect(database(tmp_path))) as connection, connection:
        connection.execute("CREATE TABLE bookmarks (address TEXT)")
        connection.execute("INSERT INTO bookmarks VALUES ('https://example.org')")
    before = database(tmp_path).read_bytes()
    with pytest.raises(CacheDamaged, match=r"is not a cache of answers.*Set teacher\.cache to another folder"):
        AnswerCache(tmp_path)
    with pytest.raises(CacheDamaged, match="is not a cache of answers"):
        repair_database(tmp_path)
    assert database(tmp_path).read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["cache.db"]


@pytest.mark.parametrize("content", [b"%PDF-1.7 " * 300, b"PK\3\4" * 500, b'{"key": 1}\n' * 200])
def test_a_file_that_is_no_database_is_damage(tmp_path: Path, content: bytes) -> None:
    database(tmp_path).write_bytes(content)
    with pytest.raises(CacheDamaged, match="the database is damaged"):
        AnswerCache(tmp_path)
    assert database(tmp_path).read_bytes() == content


def test_a_new_database_has_its_name_only_once_it_is_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.link", full)
    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(CacheDamaged, match="No space left on device"):
        AnswerCache(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_repair_that_fails_leaves_the_database_where_it_was(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, real = database(filled).read_bytes(), Path.rename

    def failing(self: Path, target: Path) -> Path:
        if self.parent != filled:
            raise OSError(28, "No space left on device")
        return real(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(CacheDamaged, match=r"cannot be repaired: .*No space left on device"):
        repair_database(filled)
    assert database(filled).read_bytes() == before
