"""Checkpoint folders: written to a temporary folder and moved into place; the best one so far is kept.

`best.json` names the best checkpoint's folder and its selection key. The folder is written first,
and `best.json` replaced atomically, so that it always names a complete checkpoint.
"""

import glob
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeAlias
from uuid import uuid4

from filelock import FileLock, Timeout
from safetensors import SafetensorError

from edgedistill.errors import SearchInterrupted, TrainingFailed
from edgedistill.student.types import Epoch
from edgedistill_serve.bundle.atomic_folder import replace_file

_LOCK = "lock"
_NEW_SECONDS = 3600
_TURNS = 20


def check_replaceable(folder: Path) -> None:
    """Check that a student may replace a folder.

    Raises:
        TrainingFailed: It has content that is not a checkpoint.
    """
    if not _may_be_replaced(folder):
        raise TrainingFailed(
            "has files that are not a student's", where=str(folder), hint="Name an empty or a new folder."
        )


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """Yield an empty folder that replaces ``folder`` when the block succeeds; on an error nothing changes.

    Raises:
        TrainingFailed: ``folder`` has content that is not a checkpoint, or cannot be written.
    """
    check_replaceable(folder)
    with beside(folder) as new:
        yield new
        _move(new, folder)


@contextmanager
def beside(folder: Path) -> Iterator[Path]:
    """Yield an empty temporary folder next to ``folder``; it is removed when the block ends.

    Folders left by killed processes are removed too. A file lock, which dies with its process, distinguishes them from
    those in use.

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
            # Between creating and locking it, another process may have considered the folder abandoned.
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
            # Without a lock it is either being created by another process, or left by an older version.
            if not locked and time.time() - aside.stat().st_mtime < _NEW_SECONDS:
                continue
            with FileLock(aside / _LOCK, timeout=0):
                shutil.rmtree(aside, ignore_errors=True)
        except (Timeout, OSError):
            continue  # another process uses it, or has just removed it


def _move(new: Path, folder: Path) -> None:
    old = new.with_name("old")
    for turn in range(_TURNS):
        try:
            if folder.exists():
                shutil.rmtree(old, ignore_errors=True)
                folder.rename(old)
            new.rename(folder)
        except OSError as error:
            # Another process of the same search may be writing the same student there.
            if turn == _TURNS - 1:
                with suppress(OSError):
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


SelectionKey: TypeAlias = tuple[float, float]
"""As `Epoch.selection_key`: greater is better."""

_POINTER = "best.json"


class BestCheckpoint:
    """The best checkpoint so far, in its own folder.

    Args:
        folder: Folder of the checkpoint and `best.json`; created with the first checkpoint.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def selection_key(self) -> SelectionKey | None:
        """The checkpoint's selection key; None where there is no checkpoint."""
        return pointer[0] if (pointer := self._pointer()) else None

    @property
    def checkpoint(self) -> Path | None:
        """The checkpoint's folder; None where there is no checkpoint."""
        return pointer[1] if (pointer := self._pointer()) else None

    def is_at_least(self, selection_key: SelectionKey) -> bool:
        """Whether the checkpoint is at least as good; ties keep the first."""
        kept = self.selection_key
        return kept is not None and kept >= selection_key

    def write(self, epoch: Epoch, model: Any) -> None:
        """Replace the checkpoint by a model.

        Raises:
            SearchInterrupted: The disk is full, or permission is missing.
        """
        place = self._new_place()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            # A single file of any size: the exporter does not read shards.
            model.save_pretrained(place, max_shard_size="100GB")
            # safetensors restricts the file to its owner; give the weights the config's permissions.
            shutil.copymode(place / "config.json", place / "model.safetensors")
            self._point(epoch.selection_key, place)
        except (OSError, SafetensorError) as error:
            shutil.rmtree(place, ignore_errors=True)
            raise write_error(self.folder, error) from error

    def adopt(self, other: "BestCheckpoint") -> None:
        """Take over another checkpoint if it is better.

        Raises:
            SearchInterrupted: Permission is missing.
        """
        selection_key, checkpoint = other.selection_key, other.checkpoint
        if selection_key is None or checkpoint is None or self.is_at_least(selection_key):
            return
        place = self._new_place()
        try:
            checkpoint.rename(place)
            self._point(selection_key, place)
        except OSError as error:
            raise write_error(self.folder, error) from error

    def _new_place(self) -> Path:
        return self.folder / f"student-{uuid4().hex[:12]}"

    def _pointer(self) -> tuple[SelectionKey, Path] | None:
        try:
            pointer = json.loads((self.folder / _POINTER).read_text("utf-8"))
            macro_f1, minus_loss = pointer["merit"]
            selection_key, place = (float(macro_f1), float(minus_loss)), self.folder / Path(pointer["folder"]).name
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return (selection_key, place) if (place / "model.safetensors").is_file() else None

    def _point(self, selection_key: SelectionKey, place: Path) -> None:
        pointer = {"merit": selection_key, "folder": place.name}
        replace_file(self.folder / _POINTER, f"{json.dumps(pointer)}\n".encode())
        for other in self.folder.glob("student-*"):
            if other != place:
                shutil.rmtree(other, ignore_errors=True)


def copy_files(checkpoint: Path, folder: Path) -> None:
    """Copy a checkpoint's files, as hard links where the file system supports them.

    Raises:
        SearchInterrupted: The disk is full, or permission is missing.
    """
    try:
        for file in filter(Path.is_file, checkpoint.iterdir()):
            _link(file, folder / file.name)
    except OSError as error:
        raise write_error(folder, error) from error


def _link(file: Path, to: Path) -> None:
    try:
        os.link(file, to)
    except OSError:
        shutil.copy(file, to)


def write_error(folder: Path, error: Exception) -> SearchInterrupted:
    """Return the error for a student that cannot be written."""
    return SearchInterrupted(
        f"the student cannot be written ({getattr(error, 'strerror', None) or error})",
        where=str(folder),
        hint="Free disk space, or give write permission; finished trials are kept.",
    )
