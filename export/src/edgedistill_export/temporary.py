"""Temporary folders, whose removal never hides the error that ended the work in them."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgedistill_serve.errors import DataError


@contextmanager
def temporary_folder(purpose: str) -> Iterator[Path]:
    """Yield a new folder for temporary files and remove it at the end.

    Args:
        purpose: A word for its name.

    Raises:
        DataError: It cannot be created.
    """
    try:
        folder = Path(tempfile.mkdtemp(prefix=f"edgedistill-{purpose}-"))
    except OSError as error:
        raise DataError(
            f"no temporary folder can be created ({error.strerror})",
            hint="Free disk space, or set TMPDIR to a folder with write permission.",
        ) from None
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
