"""`edgedistill cache` as a user runs it, on a cache of three answers."""

import json

import pytest
from typer.testing import CliRunner

from edgedistill.cli.commands import app
from edgedistill.errors import CacheDamaged, DataError
from edgedistill.teacher import AnswerCache

from ..teacher.codings import ANSWER, request


@pytest.fixture
def folder(tmp_path):
    with AnswerCache(tmp_path / "cache") as cache:
        for vote in range(3):
            cache.put(request(vote=vote), ANSWER)
    return tmp_path / "cache"


def run(*words):
    return CliRunner().invoke(app, ["cache", *map(str, words)])


def test_stats_counts_answers_by_model(folder):
    found = json.loads(run("stats", folder, "--json").stdout)
    assert found["entries"] == 3
    assert sum(found["models"].values()) == 3
    assert "3 answers" in run("stats", folder).stdout


def test_answers_are_exported_and_imported_into_another_cache(folder, tmp_path):
    (tmp_path / "other").mkdir()
    assert run("export", folder, tmp_path / "a.jsonl").exit_code == 0
    first, second = (
        json.loads(run("import", tmp_path / "other", tmp_path / "a.jsonl", "--json").stdout) for _ in range(2)
    )
    assert (first["added"], first["present"]) == (3, 0)
    assert (second["added"], second["present"]) == (0, 3)


def test_a_line_with_another_key_is_refused_and_the_others_are_imported(folder, tmp_path):
    (tmp_path / "other").mkdir()
    run("export", folder, tmp_path / "a.jsonl")
    lines = (tmp_path / "a.jsonl").read_text().splitlines()
    forged = json.loads(lines[1])
    forged["request"]["vote"] = 7
    (tmp_path / "a.jsonl").write_text("\n".join([lines[0], json.dumps(forged), "{", lines[2]]))
    done = run("import", tmp_path / "other", tmp_path / "a.jsonl")
    assert "2 answers added, 0 already there, 2 lines refused" in done.stdout
    assert isinstance(done.exception, DataError)
    assert "line 2" in str(done.exception)


def test_verify_names_a_damaged_database_and_repair_recovers_readable_answers(folder):
    assert "3 answers are intact, 0 are damaged" in run("verify", folder).stdout
    database = folder / "cache.db"
    for part in ("-wal", "-shm"):
        (folder / f"cache.db{part}").unlink(missing_ok=True)
    database.write_bytes(b"no database" * 100)
    assert isinstance(run("verify", folder).exception, CacheDamaged)
    assert "0 answers recovered; the others will be requested again" in run("verify", folder, "--repair").stdout
    assert run("verify", folder).exit_code == 0


def test_the_deprecated_name_of_repair_still_works_with_a_note(folder):
    (folder / "cache.db").write_bytes(b"no database" * 100)
    done = run("verify", folder, "--mend")
    assert "0 answers recovered" in done.stdout
    assert done.stderr == "edgedistill: --mend is deprecated; use --repair\n"
    assert "--mend" not in run("verify", "--help").stdout


def test_for_a_folder_without_a_cache_a_hint_says_how_to_create_one(tmp_path):
    done = run("stats", tmp_path)
    assert isinstance(done.exception, DataError)
    assert "cache import" in str(done.exception)
