"""What is cleaned up after an error never hides the error."""

from pathlib import Path

import pytest

from edgedistill.errors import DataError, RunError
from edgedistill.pipeline.folder import RunFolder
from edgedistill.teacher.cache import open_atomically
from edgedistill_export.temporary import temporary_folder


def failing(reason: str) -> object:
    def fail(*_: object, **__: object) -> None:
        raise OSError(30, reason)

    return fail


def test_a_file_of_the_run_that_cannot_be_written_is_named_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "replace", failing("Read-only file system"))
    with pytest.raises(RunError, match="Read-only file system"):
        RunFolder(tmp_path).write_text("labels.jsonl", "a learner's words")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("stage", ["replace", "open"])
def test_the_first_error_is_reported_if_the_part_of_a_file_cannot_be_removed_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    monkeypatch.setattr(Path, stage, failing("the first error"))
    monkeypatch.setattr(Path, "unlink", failing("a later error"))
    with pytest.raises(OSError, match="the first error"), open_atomically(tmp_path / "answers.jsonl") as out:
        out.write(b"x")


def test_a_temporary_folder_that_cannot_be_created_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.mkdtemp", failing("Read-only file system"))
    with pytest.raises(DataError, match=r"Read-only file system.*TMPDIR"), temporary_folder("test"):
        pass


def test_a_temporary_folder_that_cannot_be_removed_does_not_hide_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.rmdir", failing("a later error"))
    with pytest.raises(ValueError, match="the first error"), temporary_folder("test"):
        raise ValueError("the first error")
