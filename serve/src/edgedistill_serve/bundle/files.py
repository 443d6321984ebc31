"""The files of a bundle: where they may lie, how large they may be, and how they are read and written.

A file is measured before it is read, and what is read whole has a limit, so a bundle that lies about its sizes costs
no memory.
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
SIGNATURE_FILE = "bundle.json.sig"
"""The signature over the bytes of `bundle.json`, which holds the checksums of all other files."""

MAX_FILES = 256
"""The most files that a bundle may list."""

_MEBIBYTE = 1024 * 1024
_LIMITS = {
    MANIFEST_FILE: 4 * _MEBIBYTE,
    SIGNATURE_FILE: 64,
    "golden.json": 16 * _MEBIBYTE,
    "tokenizer.json": 64 * _MEBIBYTE,
}
_GRAPH_LIMIT = 2**31 - 1
"""No protobuf message, and so no ONNX file, is larger."""
_OTHER_LIMIT = 64 * _MEBIBYTE


def max_file_bytes(name: str) -> int:
    """Return the most bytes that a file of a bundle may have."""
    return _GRAPH_LIMIT if name.endswith(".onnx") else _LIMITS.get(name, _OTHER_LIMIT)


def path_in_bundle(folder: Path, name: str) -> Path:
    """Return where a file of a bundle lies.

    Args:
        folder: The bundle.
        name: The path in the bundle, ``/`` between the parts.

    Raises:
        BundleDamaged: The path leads out of the folder, or is not in its plain form.
    """
    parts = PurePosixPath(name).parts
    if name != "/".join(parts) or not parts or name.startswith("/") or ".." in parts or any(c in name for c in "\\:\0"):
        raise damaged_file(name, "the path leads out of the bundle, or is not in its plain form")
    return folder.joinpath(*parts)


@contextmanager
def open_regular_file(folder: Path, name: str) -> Iterator[BufferedReader]:
    """Open a file of a bundle.

    Raises:
        BundleDamaged: The file is missing, cannot be read, is no regular file, or is or lies behind a link.
    """
    path = path_in_bundle(folder, name)
    try:
        if path.resolve() != path:
            raise damaged_file(name, "the file is a link, or lies behind one")
        if not path.is_file():
            raise damaged_file(name, "the file is not a regular file" if path.exists() else "the file is missing")
        with path.open("rb") as file:
            yield file
    except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: links that lead in a circle
        raise damaged_file(name, f"the file cannot be read ({error})") from None


def read_file(folder: Path, name: str) -> bytes:
    """Read a file of a bundle, at most as many bytes as `max_file_bytes` allows.

    Raises:
        BundleDamaged: As `open_regular_file`.
        BundleError: The file is larger.
    """
    limit = max_file_bytes(name)
    with open_regular_file(folder, name) as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise BundleError(f"the file is larger than {limit} bytes", where=name)
    return content


def check_file(folder: Path, name: str, entry: FileEntry) -> None:
    """Compare a file with its entry: size, then SHA-256.

    Raises:
        BundleDamaged: As `open_regular_file`, or the file is not what the entry says.
    """
    with open_regular_file(folder, name) as file:
        size = os.fstat(file.fileno()).st_size
        if size != entry.bytes:
            raise damaged_file(name, f"the file has {size} bytes, {MANIFEST_FILE} says {entry.bytes}")
        if hashlib.file_digest(file, "sha256").hexdigest() != entry.sha256:
            raise damaged_file(name, f"the file was changed (its SHA-256 is not that of {MANIFEST_FILE})")


def write_file(folder: Path, name: str, source: Path | bytes) -> FileEntry:
    """Write content, or copy a file, into a bundle, and wait until it is on disk.

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
    """Return the error for a file of a bundle that is not as it was written."""
    return BundleDamaged(what, where=name[:200], hint="Copy the bundle anew, or export it again.")
