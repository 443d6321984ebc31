"""The best student of a trial and of a whole search, kept aside so that they outlive a kill.

A pointer, `best.json`, names a folder beside it and its merit. The folder is written first and the pointer put in its
place in one step, so that the pointer always names a whole checkpoint.
"""

import json
import os
import shutil
from pathlib import Path
from typing import Any, TypeAlias
from uuid import uuid4

from safetensors import SafetensorError

from edgedistill.errors import SearchBrokenOff
from edgedistill.student.types import Epoch

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
        mend="Make room there, or give write permission; the trials that are over are kept.",
    )
