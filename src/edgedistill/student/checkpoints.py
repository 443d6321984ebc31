"""Checkpoint folders: written to a temporary folder and moved into place; the best one so far is kept.

A pointer, `best.json`, names a folder beside it and its merit. The folder is written first and the pointer put in its
place in one step, so that the pointer always names a whole checkpoint.
"""

import glob
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias
from uuid import uuid4

from filelock import FileLock, Timeout
from safetensors import SafetensorError

from edgedistill.errors import SearchBrokenOff, TrainingFailed
from edgedistill.student.types import Epoch

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
            "it holds something else than a student", where=str(folder), hint="Name an empty or a new folder."
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


Merit: TypeAlias = tuple[float, float]
"""As `Epoch.merit`: the greater is the better."""

_POINTER = "best.json"


class Kept:
    """The best checkpoint so far, in a folder of its own.

    Args:
        folder: Where the pointer and the checkpoint lie; made when something is first kept.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def merit(self) -> Merit | None:
        """Of the checkpoint; None where nothing is kept."""
        return pointer[0] if (pointer := self._pointer()) else None

    @property
    def checkpoint(self) -> Path | None:
        """The folder of the checkpoint; None where nothing is kept."""
        return pointer[1] if (pointer := self._pointer()) else None

    def beats(self, merit: Merit) -> bool:
        """Whether what is kept is as good or better: of equals the first stays."""
        kept = self.merit
        return kept is not None and kept >= merit

    def write(self, epoch: Epoch, model: Any) -> None:
        """Write a model in the place of what is kept.

        Raises:
            SearchBrokenOff: No room, or no permission.
        """
        place = self._new_place()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            # One file, whatever the size: the exporter reads no shards.
            model.save_pretrained(place, max_shard_size="100GB")
            # safetensors writes for its owner alone; the student is as readable as its config.
            shutil.copymode(place / "config.json", place / "model.safetensors")
            self._point(epoch.merit, place)
        except (OSError, SafetensorError) as error:
            shutil.rmtree(place, ignore_errors=True)
            raise unwritable(self.folder, error) from error

    def adopt(self, other: "Kept") -> None:
        """Take another's checkpoint over if it is better.

        Raises:
            SearchBrokenOff: No permission.
        """
        merit, checkpoint = other.merit, other.checkpoint
        if merit is None or checkpoint is None or self.beats(merit):
            return
        place = self._new_place()
        try:
            checkpoint.rename(place)
            self._point(merit, place)
        except OSError as error:
            raise unwritable(self.folder, error) from error

    def _new_place(self) -> Path:
        return self.folder / f"student-{uuid4().hex[:12]}"

    def _pointer(self) -> tuple[Merit, Path] | None:
        try:
            told = json.loads((self.folder / _POINTER).read_text("utf-8"))
            macro_f1, minus_loss = told["merit"]
            merit, place = (float(macro_f1), float(minus_loss)), self.folder / Path(told["folder"]).name
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return (merit, place) if (place / "model.safetensors").is_file() else None

    def _point(self, merit: Merit, place: Path) -> None:
        aside = self.folder / f"{_POINTER}.part"
        aside.write_text(json.dumps({"merit": merit, "folder": place.name}) + "\n", "utf-8")
        aside.replace(self.folder / _POINTER)
        for other in self.folder.glob("student-*"):
            if other != place:
                shutil.rmtree(other, ignore_errors=True)


def copy_files(checkpoint: Path, folder: Path) -> None:
    """Copy a checkpoint's files; where the file system can, as a second name for the same bytes.

    Raises:
        SearchBrokenOff: No room, or no permission.
    """
    try:
        for file in filter(Path.is_file, checkpoint.iterdir()):
            _link(file, folder / file.name)
    except OSError as error:
        raise unwritable(folder, error) from error


def _link(file: Path, to: Path) -> None:
    try:
        os.link(file, to)
    except OSError:
        shutil.copy(file, to)


def unwritable(folder: Path, error: Exception) -> SearchBrokenOff:
    """Say that a student cannot be written."""
    return SearchBrokenOff(
        f"the student cannot be written ({getattr(error, 'strerror', None) or error})",
        where=str(folder),
        hint="Make room there, or give write permission; the trials that are over are kept.",
    )
