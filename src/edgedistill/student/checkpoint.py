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
_TURNS = 20


def expect_replaceable(folder: Path) -> None:
    """Refuse a folder whose place a student cannot take.

    Raises:
        TrainingFailed: It holds something that is no checkpoint.
    """
    if not _may_be_replaced(folder):
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
        aside, lock = _locked_aside(folder)
    except OSError as error:
        raise _unwritable(folder, error) from error
    try:
        yield aside / "new"
    finally:
        lock.release()
        shutil.rmtree(aside, ignore_errors=True)


def _locked_aside(folder: Path) -> tuple[Path, FileLock]:
    for turn in range(_TURNS):
        aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        lock = FileLock(aside / _LOCK)
        try:
            lock.acquire()
            (aside / "new").mkdir()
        except FileNotFoundError:
            # Between the file's making and its locking, another process may have taken it for abandoned.
            lock.release()
            if turn == _TURNS - 1:
                raise
        else:
            break
    return aside, lock


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
    old = new.with_name("old")
    for turn in range(_TURNS):
        try:
            if folder.exists():
                shutil.rmtree(old, ignore_errors=True)
                folder.rename(old)
            new.rename(folder)
        except OSError as error:
            # Another process that shares the search may have put its student there, the same one, at this moment.
            if turn == _TURNS - 1:
                if old.exists() and not folder.exists():
                    old.rename(folder)
                raise _unwritable(folder, error) from error
        else:
            return


def _unwritable(folder: Path, error: OSError) -> TrainingFailed:
    return TrainingFailed(f"the student cannot be written ({error.strerror or error})", where=str(folder))


def _may_be_replaced(folder: Path) -> bool:
    try:
        held = {path.name for path in folder.iterdir()}
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return not held or "config.json" in held
