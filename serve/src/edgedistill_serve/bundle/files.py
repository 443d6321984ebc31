"""The files of a bundle: paths, size limits, reading, writing and checksums.

The size of a file is checked before it is read, and complete reads are limited, so that a bundle with wrong sizes in
its manifest cannot exhaust the memory.
"""

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path, PurePosixPath

from edgedistill_serve.bundle.manifest import FileEntry
from edgedistill_serve.errors import BundleDamaged, BundleError

MANIFEST_FILE = "bundle.json"
GOLDEN_FILE = "golden.json"
SIGNATURE_FILE = "bundle.json.sig"
"""Signature of the bytes of `bundle.json`, which contains the checksums of all other files."""

MAX_FILES = 256
"""Largest number of files that a bundle may list."""

_MEBIBYTE = 1024 * 1024
_LIMITS = {
    MANIFEST_FILE: 4 * _MEBIBYTE,
    SIGNATURE_FILE: 64,
    GOLDEN_FILE: 16 * _MEBIBYTE,
    "tokenizer.json": 64 * _MEBIBYTE,
}
_GRAPH_LIMIT = 2**31 - 1
"""Largest size of a protobuf message, and therefore of an ONNX file."""
_OTHER_LIMIT = 64 * _MEBIBYTE


def max_file_bytes(name: str) -> int:
    """Return the largest allowed size of a file of a bundle, in bytes."""
    return _GRAPH_LIMIT if name.endswith(".onnx") else _LIMITS.get(name, _OTHER_LIMIT)


def path_in_bundle(folder: Path, name: str) -> Path:
    """Return the path of a file of a bundle.

    Args:
        folder: The bundle.
        name: Relative path in the bundle, with ``/`` as separator.

    Raises:
        BundleDamaged: The path leads out of the folder, or is not normalized.
    """
    parts = PurePosixPath(name).parts
    if name != "/".join(parts) or not parts or name.startswith("/") or ".." in parts or any(c in name for c in "\\:\0"):
        raise damaged_file(name, "the path leads out of the bundle, or is not normalized")
    return folder.joinpath(*parts)


@contextmanager
def open_regular_file(folder: Path, name: str) -> Iterator[BufferedReader]:
    """Open a file of a bundle.

    Raises:
        BundleDamaged: The file is missing, cannot be read, or is not a regular file, or its path contains a link.
    """
    path = path_in_bundle(folder, name)
    try:
        if path.resolve() != path:
            raise damaged_file(name, "the path contains a link")
        if not path.is_file():
            raise damaged_file(name, "the file is not a regular file" if path.exists() else "the file is missing")
        with path.open("rb") as file:
            yield file
    except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: a cycle of links
        raise damaged_file(name, f"the file cannot be read ({error})") from None


def read_file(folder: Path, name: str) -> bytes:
    """Read a complete file of a bundle.

    Raises:
        BundleDamaged: As `open_regular_file`.
        BundleError: The file is larger than `max_file_bytes`.
    """
    limit = max_file_bytes(name)
    with open_regular_file(folder, name) as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise BundleError(f"the file is larger than {limit} bytes", where=name)
    return content


def check_file(folder: Path, name: str, entry: FileEntry) -> None:
    """Check the size and the SHA-256 of a file against its entry.

    Raises:
        BundleDamaged: As `open_regular_file`, or the file does not match its entry.
    """
    with open_regular_file(folder, name) as file:
        _check_size(os.fstat(file.fileno()).st_size, name, entry)
        _check_digest(hashlib.file_digest(file, "sha256").hexdigest(), name, entry)


def read_checked_file(folder: Path, name: str, entry: FileEntry) -> bytes:
    """Read a complete file and check the bytes that were read against its entry.

    The file is read and not mapped: a mapped file that another process truncates ends this process.

    Raises:
        BundleDamaged: As `check_file`.
    """
    with open_regular_file(folder, name) as file:
        _check_size(os.fstat(file.fileno()).st_size, name, entry)
        content = file.read(entry.bytes + 1)
    _check_size(len(content), name, entry)
    _check_digest(hashlib.sha256(content).hexdigest(), name, entry)
    return content


def _check_size(size: int, name: str, entry: FileEntry) -> None:
    if size != entry.bytes:
        raise damaged_file(name, f"the file has {size} bytes, {MANIFEST_FILE} says {entry.bytes}")


def _check_digest(sha256: str, name: str, entry: FileEntry) -> None:
    if sha256 != entry.sha256:
        raise damaged_file(name, f"the file was changed (its SHA-256 differs from {MANIFEST_FILE})")


def write_file(folder: Path, name: str, source: Path | bytes) -> FileEntry:
    """Write content, or copy a file, into a bundle, and flush it to disk.

    Raises:
        BundleDamaged: The path leads out of the folder.
        OSError: The file cannot be read or written.
    """
    path = path_in_bundle(folder, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(source, bytes):
        path.write_bytes(source)
    else:
        shutil.copyfile(source, path)
    with path.open("rb+") as file:
        os.fsync(file.fileno())
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return FileEntry(sha256=digest, bytes=os.fstat(file.fileno()).st_size)


def damaged_file(name: str, what: str) -> BundleDamaged:
    """Return the error for a file of a bundle that was changed or is missing."""
    return BundleDamaged(what, where=name[:200], hint="Copy the bundle again, or export it again.")
