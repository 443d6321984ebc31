import pickle
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from diskcache.core import MODE_BINARY, MODE_PICKLE

from edgedistill.errors import CacheDamaged
from edgedistill.teacher import AnswerCache

from ...processes import Process
from .codings import ANSWER, database, request


def change(folder: Path, statement: str, *values: Any) -> None:
    with closing(sqlite3.connect(database(folder))) as connection, connection:
        connection.execute(statement, values)


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.mkdir, (self.folder,)


def test_an_answer_is_read_as_it_was_written(tmp_path: Path) -> None:
    with AnswerCache(tmp_path) as cache:
        assert cache.get(request()) is None
        cache.put(request(), ANSWER)
    with AnswerCache(tmp_path) as cache:
        assert cache.get(request()) == ANSWER


def test_the_first_stored_answer_is_kept(tmp_path: Path) -> None:
    with AnswerCache(tmp_path) as cache:
        cache.put(request(), ANSWER)
        assert cache.put(request(), {"choices": ["another"]}) == ANSWER
        assert cache.get(request()) == ANSWER


def test_an_unusable_answer_can_be_replaced(tmp_path: Path) -> None:
    with AnswerCache(tmp_path) as cache:
        cache.put(request(), {"choices": []})
        cache.put(request(), ANSWER, replace=True)
        assert cache.get(request()) == ANSWER


def test_an_entry_contains_its_request(tmp_path: Path) -> None:
    with AnswerCache(tmp_path) as cache:
        cache.put(request(), ANSWER)
        (entry,) = cache.entries()
    assert (entry.key, entry.request, entry.answer) == (request().key(), request().content(), ANSWER)


def test_a_value_is_stored_in_the_database_as_plain_json(tmp_path: Path) -> None:
    with AnswerCache(tmp_path) as cache:
        cache.put(request(), {"choices": ["x" * 2_000_000]})
    with closing(sqlite3.connect(database(tmp_path))) as connection:
        ((value, filename),) = connection.execute("SELECT value, filename FROM Cache").fetchall()
    assert value.startswith(b'{"request":{')
    assert filename is None


def test_nothing_is_ever_evicted(tmp_path: Path) -> None:
    with AnswerCache(tmp_path):
        pass
    change(tmp_path, "UPDATE Settings SET value = 1 WHERE key = 'size_limit'")
    with AnswerCache(tmp_path) as cache:  # opening it puts its own settings back
        for vote in range(50):
            cache.put(request(vote=vote), ANSWER)
        assert cache.stats().entries == 50
    with closing(sqlite3.connect(database(tmp_path))) as connection:
        settings = dict(connection.execute("SELECT key, value FROM Settings"))
    assert (settings["eviction_policy"], settings["cull_limit"]) == ("none", 0)
    assert settings["size_limit"] > 2**40


def test_more_than_the_default_limit_of_one_gibibyte_is_kept(tmp_path: Path) -> None:
    with AnswerCache(tmp_path) as cache:
        cache.put(request(vote=0), ANSWER)
        change(tmp_path, "UPDATE Settings SET value = ? WHERE key = 'size'", 2**31)  # as if 2 GiB lay there
    with AnswerCache(tmp_path) as cache:
        for vote in range(1, 30):
            cache.put(request(vote=vote), ANSWER)
        assert all(cache.get(request(vote=vote)) for vote in range(30))


def test_every_commit_is_synced_to_disk(tmp_path: Path) -> None:
    with AnswerCache(tmp_path):
        pass
    with closing(sqlite3.connect(database(tmp_path))) as connection:
        settings = dict(connection.execute("SELECT key, value FROM Settings"))
    assert (settings["sqlite_synchronous"], settings["sqlite_journal_mode"]) == (2, "wal")


@pytest.mark.parametrize("beside", [False, True])
def test_a_planted_pickle_is_refused_and_never_loaded(tmp_path: Path, beside: bool) -> None:
    loaded = tmp_path / "loaded"
    planted = pickle.dumps(Bomb(loaded))
    with AnswerCache(tmp_path / "cache") as cache:
        cache.put(request(), ANSWER)
        (tmp_path / "cache" / "a.val").write_bytes(planted)
        row = (MODE_PICKLE, "a.val", None) if beside else (MODE_PICKLE, None, planted)
        change(tmp_path / "cache", "UPDATE Cache SET mode = ?, filename = ?, value = ?", *row)
        with pytest.raises(CacheDamaged, match="not in the format of answers"):
            cache.get(request())
        with pytest.raises(CacheDamaged):
            list(cache.entries())
        assert len(cache.verify().damaged) == 1
    assert not loaded.exists()


def test_a_planted_pickled_key_is_refused_and_never_loaded(tmp_path: Path) -> None:
    loaded = tmp_path / "loaded"
    with AnswerCache(tmp_path / "cache") as cache:
        cache.put(request(), ANSWER)
        change(tmp_path / "cache", "UPDATE Cache SET raw = 0, key = ?", pickle.dumps(Bomb(loaded)))
        assert [fault for _, fault in cache.verify(drop_damaged=True).damaged] == ["a key is pickled"]
        assert cache.verify().damaged == ()
    assert not loaded.exists()


def test_a_row_that_names_a_file_is_refused_and_the_file_is_left_alone(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"{}")
    with AnswerCache(tmp_path / "cache") as cache:
        cache.put(request(), ANSWER)
        change(tmp_path / "cache", "UPDATE Cache SET mode = ?, filename = '../outside', value = NULL", MODE_BINARY)
        with pytest.raises(CacheDamaged):
            cache.get(request())
        cache.put(request(), ANSWER, replace=True)
        assert cache.get(request()) == ANSWER
    assert outside.exists()


@pytest.mark.parametrize(
    "value", [b"", b"{", b"[]", b"\xff\xfe", b'{"request":{},"answer":{}}', b'{"request":1,"answer":{}}', "text", 7]
)
def test_a_damaged_entry_is_named_and_the_others_are_kept(tmp_path: Path, value: object) -> None:
    with AnswerCache(tmp_path) as cache:
        cache.put(request(vote=0), ANSWER)
        cache.put(request(vote=1), ANSWER)
        key = request(vote=0).key()
        change(tmp_path, "UPDATE Cache SET value = ? WHERE key = ?", value, key)
        with pytest.raises(CacheDamaged, match=f"cache.db: the entry {key} is damaged.*--repair"):
            cache.get(request(vote=0))
        assert cache.get(request(vote=1)) == ANSWER
        found = cache.verify(drop_damaged=True)
        assert (found.entries, [name for name, _ in found.damaged]) == (1, [key])
        assert cache.get(request(vote=0)) is None


def test_an_entry_whose_request_was_changed_is_damaged(tmp_path: Path) -> None:
    with AnswerCache(tmp_path) as cache:
        cache.put(request(), ANSWER)
        change(tmp_path, "UPDATE Cache SET value = CAST(replace(value, '0.7', '0.9') AS BLOB)")
        assert cache.verify().damaged == ((request().key(), "its request has another key"),)


def test_stats_count_the_answers_of_each_model(tmp_path: Path) -> None:
    with AnswerCache(tmp_path) as cache:
        for model, votes in (("m", 2), ("n", 1)):
            for vote in range(votes):
                cache.put(request(model=model, vote=vote), ANSWER)
        stats = cache.stats()
    assert (stats.entries, dict(stats.models)) == (3, {"m": 2, "n": 1})
    assert stats.bytes > 1000


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CacheDamaged, match=r"file.*: the cache cannot be used.*Set teacher.cache to a folder"):
        AnswerCache(tmp_path / "file")


WRITER = """
import sys
from pathlib import Path
from edgedistill.teacher import AnswerCache, TeacherRequest
first, last = int(sys.argv[2]), int(sys.argv[3])
with AnswerCache(Path(sys.argv[1])) as cache:
    for vote in range(first, last):
        cache.put(TeacherRequest("u", "m", ({"content": "a"},), None, {}, 1, vote), {"choices": [sys.argv[4]]})
"""


def test_processes_that_write_at_once_lose_nothing(tmp_path: Path) -> None:
    spans = [(0, 60, "a"), (30, 90, "b"), (60, 120, "c")]
    writers = [Process("-c", WRITER, tmp_path, *span) for span in spans]
    assert [writer.communicate() for writer in writers] == [("", "")] * 3
    with AnswerCache(tmp_path) as cache:
        found = cache.verify()
    assert (found.entries, found.damaged) == (120, ())
