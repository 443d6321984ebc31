"""Atomic replacement of a folder or a file, and recovery from a writer that was killed in the middle.

A bundle is written into a temporary sibling, ``.NAME.TOKEN``. If ``NAME`` exists, it is first renamed to
``.NAME.TOKEN.old``, and then the new folder is renamed to ``NAME``. These are two steps: a writer that is killed
between them leaves no ``NAME``, but both folders are complete. The ``.old`` folder exists only after the new one was
written and checked, so the next reader or writer can finish the replacement.
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
_ABANDONED_SECONDS = 24 * 60 * 60
"""After this time, a temporary folder has no writer any more."""


def temporary_sibling(path: Path) -> Path:
    """Return a new path in the same parent folder, for the content that will replace ``path``."""
    return path.with_name(f".{path.name}.{token_hex(4)}")


def replace_file(file: Path, content: bytes) -> None:
    """Write a file: after an interruption or an error the old file is there, or the new one, and nothing else.

    Several processes and threads can write the same file; the last one counts.

    Args:
        file: The file, in a folder that exists.
        content: Its bytes.

    Raises:
        OSError: The file cannot be written; an old one is unchanged.
    """
    temporary = temporary_sibling(file)
    try:
        temporary.write_bytes(content)
        temporary.replace(file)
    except BaseException:
        with suppress(OSError):  # the first error is the one to report
            temporary.unlink(missing_ok=True)
        raise


def replace_folder(temporary: Path, folder: Path) -> None:
    """Move a complete folder to its destination, and replace a folder that exists there.

    Args:
        temporary: The complete folder; its name comes from `temporary_sibling`.
        folder: The destination.

    Raises:
        OSError: A folder cannot be renamed; the old folder is unchanged.
    """
    for inner in (temporary, *(path for path in temporary.rglob("*") if path.is_dir())):
        _sync(inner)
    if not folder.exists():
        temporary.rename(folder)
    else:
        old = temporary.with_name(temporary.name + _OLD)
        folder.rename(old)
        try:
            temporary.rename(folder)
        except OSError:
            # A concurrent reader may have finished the replacement between the two renames.
            if temporary.exists() or not folder.exists():
                old.rename(folder)
                raise
        shutil.rmtree(old, ignore_errors=True)
    _sync(folder.parent)


def finish_replacement(folder: Path) -> None:
    """Finish the replacement of a writer that was killed between its two renames.

    If the folder is missing and an ``.old`` sibling exists, the new folder is moved to the destination; if there is no
    new folder, the old one is moved back. Nothing else is changed.

    Raises:
        OSError: A folder cannot be renamed.
    """
    if folder.exists():
        return
    for old in _siblings(folder, _OLD):
        temporary = old.with_name(old.name.removesuffix(_OLD))
        # Of two concurrent readers, the second one finds nothing to rename.
        with suppress(FileNotFoundError):
            (temporary if temporary.exists() else old).rename(folder)
            _sync(folder.parent)
        shutil.rmtree(old, ignore_errors=True)
        return


def remove_leftovers(folder: Path) -> None:
    """Delete leftovers of killed writers: ``.old`` siblings, and temporary siblings older than a day."""
    if not folder.exists():
        return
    for old in _siblings(folder, _OLD):
        shutil.rmtree(old, ignore_errors=True)
    for temporary in _siblings(folder, ""):
        with suppress(OSError):
            if time.time() - temporary.stat().st_mtime > _ABANDONED_SECONDS:
                shutil.rmtree(temporary, ignore_errors=True)


def _siblings(folder: Path, suffix: str) -> Iterator[Path]:
    pattern = re.compile(rf"\.{re.escape(folder.name)}\.[0-9a-f]{{8}}{re.escape(suffix)}")
    with suppress(OSError):
        yield from sorted(path for path in folder.parent.iterdir() if pattern.fullmatch(path.name) and path.is_dir())


def _sync(folder: Path) -> None:
    if os.name == "posix":  # other systems cannot open a folder
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
