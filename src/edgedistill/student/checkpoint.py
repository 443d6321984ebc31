"""The best student so far, kept aside, and moved into place when training is over."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from edgedistill.errors import TrainingFailed
from edgedistill.student.types import Epoch


class BestStudent:
    """Keeps the weights of the best epoch over all trials.

    Args:
        aside: The folder that becomes the checkpoint.
    """

    def __init__(self, aside: Path) -> None:
        self.folder = aside
        self._merit: tuple[float, float] | None = None

    def offer(self, epoch: Epoch, model: Any) -> None:
        """Write the model if its epoch beats every one before; of equals the first stays.

        Raises:
            TrainingFailed: It cannot be written.
        """
        if self._merit is None or epoch.merit > self._merit:
            self._merit = epoch.merit
            try:
                # One file, whatever the size: the exporter reads no shards.
                model.save_pretrained(self.folder, max_shard_size="100GB")
                # safetensors writes for its owner alone; the student is as readable as its config.
                shutil.copymode(self.folder / "config.json", self.folder / "model.safetensors")
            except (OSError, SafetensorError) as error:
                raise TrainingFailed(f"the student cannot be written ({error})", where=str(self.folder)) from error


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """Hand out an empty folder that takes the place of ``folder`` when the block ends well; else nothing changes.

    Raises:
        TrainingFailed: ``folder`` holds something that is no checkpoint, or cannot be written.
    """
    if folder.exists() and not _may_be_replaced(folder):
        raise TrainingFailed(
            "it holds something else than a student", where=str(folder), mend="Name an empty or a new folder."
        )
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        (aside / "new").mkdir()
    except OSError as error:
        raise _unwritable(folder, error) from error
    try:
        yield aside / "new"
        _move(aside, folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _move(aside: Path, folder: Path) -> None:
    try:
        if folder.exists():
            folder.rename(aside / "old")
        (aside / "new").rename(folder)
    except OSError as error:
        raise _unwritable(folder, error) from error


def _unwritable(folder: Path, error: OSError) -> TrainingFailed:
    return TrainingFailed(f"the student cannot be written ({error.strerror or error})", where=str(folder))


def _may_be_replaced(folder: Path) -> bool:
    return folder.is_dir() and (not any(folder.iterdir()) or (folder / "config.json").is_file())
