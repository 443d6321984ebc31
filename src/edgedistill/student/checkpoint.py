"""A student's folder, written aside and moved into place when it is whole."""

import glob
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from edgedistill.errors import TrainingFailed

_LOCK = "lock"
_NEW_SECONDS = 3600


def expect_replaceable(folder: Path) -> None:
    """Refuse a folder whose place a student cannot take.

    Raises:
        TrainingFailed: It holds something that is no checkpoint.
    """
    if folder.exists() and not _may_be_replaced(folder):
        raise TrainingFailed(
            "it holds something else than a student", where=str(folder), mend="Name an empty or a new folder."
        )


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """Hand out an empty folder that takes the place of ``folder`` when the block ends well; else nothing changes.

    Raises:
        TrainingFailed: ``folder`` holds something that is no checkpoint, or cannot be written.
    """
    expect_replaceable(folder)
    with beside(folder) as new:
        yield new
        _move(new, folder)


@contextmanager
def beside(folder: Path) -> Iterator[Path]:
    """Hand out an empty folder beside another, which is removed when the block ends.

    What trainings that were killed left there is removed too. A lock that dies with its process tells it from what
    others are at work on.

    Raises:
        TrainingFailed: It cannot be written.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(folder)
        aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        lock = FileLock(aside / _LOCK)
        lock.acquire()
        (aside / "new").mkdir()
    except OSError as error:
        raise _unwritable(folder, error) from error
    try:
        yield aside / "new"
    finally:
        lock.release()
        shutil.rmtree(aside, ignore_errors=True)


def _remove_abandoned(folder: Path) -> None:
    for aside in folder.parent.glob(f".{glob.escape(folder.name)}-*/"):
        try:
            locked = (aside / _LOCK).exists()
            # Without a lock it was made a moment ago by another process, or by an older version long ago.
            if not locked and time.time() - aside.stat().st_mtime < _NEW_SECONDS:
                continue
            with FileLock(aside / _LOCK, timeout=0):
                shutil.rmtree(aside, ignore_errors=True)
        except (Timeout, OSError):
            continue  # another process is at work on it, or has just removed it


def _move(new: Path, folder: Path) -> None:
    try:
        if folder.exists():
            folder.rename(new.with_name("old"))
        new.rename(folder)
    except OSError as error:
        raise _unwritable(folder, error) from error


def _unwritable(folder: Path, error: OSError) -> TrainingFailed:
    return TrainingFailed(f"the student cannot be written ({error.strerror or error})", where=str(folder))


def _may_be_replaced(folder: Path) -> bool:
    return folder.is_dir() and (not any(folder.iterdir()) or (folder / "config.json").is_file())
