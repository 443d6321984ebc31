"""A finished folder is put into its place, and what a killed writer left behind is repaired.

A bundle is written beside its place, into ``.NAME.TOKEN``. Where the place is taken, the old bundle is first renamed
to ``.NAME.TOKEN.old`` and then the new one to ``NAME``. Both are renames, yet not one step: a writer that is killed
between them leaves ``NAME`` missing and both folders whole. The ``.old`` folder is there only after the new one was
written and checked, so whoever comes next finishes the work.
"""

import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from secrets import token_hex

_OLD = ".old"
_FORGOTTEN_SECONDS = 24 * 60 * 60
"""A folder that was begun so long ago has no writer any more."""


def temporary_sibling(folder: Path) -> Path:
    """Return a new name beside a folder for what shall take its place."""
    return folder.with_name(f".{folder.name}.{token_hex(4)}")


def replace_folder(aside: Path, folder: Path) -> None:
    """Rename a finished folder into its place; what is there is replaced.

    Args:
        aside: The finished folder, named by `temporary_sibling`.
        folder: Its place.

    Raises:
        OSError: It cannot be renamed; the old folder is where it was.
    """
    for inner in (aside, *(path for path in aside.rglob("*") if path.is_dir())):
        _sync(inner)
    if not folder.exists():
        aside.rename(folder)
    else:
        old = aside.with_name(aside.name + _OLD)
        folder.rename(old)
        try:
            aside.rename(folder)
        except OSError:
            # A reader that came between the two renames has finished them already.
            if aside.exists() or not folder.exists():
                old.rename(folder)
                raise
        shutil.rmtree(old, ignore_errors=True)
    _sync(folder.parent)


def finish_replacement(folder: Path) -> None:
    """Finish what a writer that was killed between its two renames has begun.

    Where the folder is missing and an old one lies beside it, the new one is put into its place, or, where there is no
    new one, the old one is put back. Nothing else is touched.

    Raises:
        OSError: It cannot be renamed.
    """
    if folder.exists():
        return
    for old in _beside(folder, _OLD):
        aside = old.with_name(old.name.removesuffix(_OLD))
        # Another reader may be fixing too; whoever is second finds nothing to rename.
        with suppress(FileNotFoundError):
            (aside if aside.exists() else old).rename(folder)
            _sync(folder.parent)
        shutil.rmtree(old, ignore_errors=True)
        return


def remove_leftovers(folder: Path) -> None:
    """Delete what killed writers left beside a folder that is in its place: old folders, and ones begun a day ago."""
    if not folder.exists():
        return
    for old in _beside(folder, _OLD):
        shutil.rmtree(old, ignore_errors=True)
    for aside in _beside(folder, ""):
        with suppress(OSError):
            if time.time() - aside.stat().st_mtime > _FORGOTTEN_SECONDS:
                shutil.rmtree(aside, ignore_errors=True)


def _beside(folder: Path, suffix: str) -> Iterator[Path]:
    named = re.compile(rf"\.{re.escape(folder.name)}\.[0-9a-f]{{8}}{re.escape(suffix)}")
    with suppress(OSError):
        yield from sorted(path for path in folder.parent.iterdir() if named.fullmatch(path.name) and path.is_dir())


def _sync(folder: Path) -> None:
    if os.name == "posix":  # elsewhere a folder cannot be opened
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
