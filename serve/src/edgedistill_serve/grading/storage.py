"""Files of gradings: on this machine, on stdin, or at an fsspec address such as ``s3://bucket/key``.

A file is written whole or not at all. Every fault of a disk or an object store is a `DataError` with the address.
"""

import gzip
import hashlib
import io
import os
import re
import shutil
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from secrets import token_hex
from typing import Any, BinaryIO, Protocol, cast

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

from edgedistill_serve.errors import DataError, EdgeDistillError
from edgedistill_serve.grading.table_reader import import_pyarrow

TEMPORARY = ".edgedistill-part"
"""Suffix of the names of files that are being written."""
STANDARD = "-"
"""The address of stdin, and of stdout."""
_BLOCK = 2**20
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+(::|://)")
_PATTERN = re.compile(r"[*?\[]")


class Folder(Protocol):
    """A folder, or a prefix of an object store."""

    @property
    def address(self) -> str:
        """Its path or address, for messages."""

    def inner(self, name: str) -> "Folder":
        """Return a folder in this one, which may not exist yet."""

    def make(self) -> None:
        """Create the folder if it does not exist."""

    def names(self) -> list[str]:
        """Return the names of its files, sorted; none if it does not exist."""

    def open(self, name: str) -> BinaryIO:
        """Open a file for reading."""

    def create(self, name: str) -> AbstractContextManager[BinaryIO]:
        """Write a file; it appears under its name when the block ends without an error."""

    def remove(self, name: str) -> None:
        """Delete a file, if it exists."""

    def remove_empty(self) -> None:
        """Delete the folder, if it is empty."""

    def lock(self) -> AbstractContextManager[None]:
        """Keep other processes from locking the folder, where the storage can do that."""


@dataclass(frozen=True, slots=True)
class InputFile:
    """A file to read.

    Attributes:
        name: Its name, for messages.
        address: Its absolute path or address.
        size: Bytes; None if unknown.
        opener: Opens the file as it is stored.
    """

    name: str
    address: str
    size: int | None
    opener: Callable[[], BinaryIO]

    def open(self, on_read: Callable[[int], None] = lambda _: None) -> BinaryIO:
        """Open the file for reading, decompressed if its name ends in ``.gz`` or ``.zst``.

        Args:
            on_read: Called with the number of bytes that were read from the storage.
        """
        with _faults(self.address, "read", every=True):
            stored = io.BufferedReader(_Reading(self.opener(), self.address, on_read), _BLOCK)
        suffix = Path(self.name).suffix.lower()
        if suffix == ".gz":
            return io.BufferedReader(_Reading(gzip.GzipFile(fileobj=stored), self.address, below=stored), _BLOCK)
        if suffix == ".zst":
            pa = import_pyarrow(self.name, "Files with Zstandard compression")
            return io.BufferedReader(
                _Reading(pa.CompressedInputStream(stored, "zstd"), self.address, below=stored), _BLOCK
            )
        return stored

    def fingerprint(self) -> str:
        """Return the SHA-256 of the stored bytes, which are read to their end."""
        digest = hashlib.sha256()
        with _faults(self.address, "read", every=True), self.opener() as file:
            while block := file.read(_BLOCK):
                digest.update(block)
        return digest.hexdigest()


class _Reading(io.RawIOBase):
    """A file whose faults are `DataError`; with it, the file ``below`` is closed."""

    def __init__(
        self, file: Any, address: str, on_read: Callable[[int], None] = lambda _: None, below: BinaryIO | None = None
    ) -> None:
        self._file, self._address, self._on_read, self._below = file, address, on_read, below

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return bool(self._file.seekable())

    def readinto(self, buffer: Any) -> int:
        with _faults(self._address, "read", every=True):
            data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        self._on_read(len(data))
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        with _faults(self._address, "read", every=True):
            return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        return int(self._file.tell())

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._file.close()
            if self._below is not None:
                self._below.close()


@contextmanager
def _faults(address: str, what: str, *, every: bool = False) -> Iterator[None]:
    """Raise the faults of a storage as `DataError`.

    Args:
        address: The file, for the message.
        what: What failed, for the message.
        every: Whether this is an object store, whose libraries raise errors of many kinds.
    """
    try:
        yield
    except EdgeDistillError:
        raise
    except FileNotFoundError:
        raise DataError("the file does not exist", where=address[:300]) from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"the file is damaged or is not compressed ({error})", where=address[:300]) from None
    except Exception as error:
        if not every and not isinstance(error, OSError):
            raise
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(f"the file cannot be {what} ({reason})", where=address[:300]) from None


class LocalFolder:
    """A folder of this machine.

    Args:
        path: Its path.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def address(self) -> str:
        """See `Folder`."""
        return str(self.path)

    def inner(self, name: str) -> "LocalFolder":
        """See `Folder`."""
        return LocalFolder(self.path / name)

    def make(self) -> None:
        """See `Folder`."""
        with _faults(self.address, "written"):
            self.path.mkdir(exist_ok=True)

    def names(self) -> list[str]:
        """See `Folder`."""
        with _faults(self.address, "read"):
            return sorted(each.name for each in self.path.iterdir()) if self.path.is_dir() else []

    def open(self, name: str) -> BinaryIO:
        """See `Folder`."""
        with _faults(str(self.path / name), "read"):
            return (self.path / name).open("rb")

    @contextmanager
    def create(self, name: str) -> Iterator[BinaryIO]:
        """See `Folder`."""
        # The name may be as long as the file system allows.
        temporary = self.path / f".{name[:40]}.{token_hex(4)}{TEMPORARY}"
        try:
            with _faults(str(self.path / name), "written"):
                with temporary.open("x+b") as file:
                    lock(file)
                    yield file
                    file.flush()
                    os.fsync(file.fileno())
                temporary.replace(self.path / name)
        finally:
            with suppress(OSError):  # which would hide the error that ended the block
                temporary.unlink(missing_ok=True)

    def remove(self, name: str) -> None:
        """See `Folder`."""
        with _faults(str(self.path / name), "deleted"):
            (self.path / name).unlink(missing_ok=True)

    def remove_empty(self) -> None:
        """See `Folder`."""
        with suppress(OSError):
            self.path.rmdir()

    @contextmanager
    def lock(self) -> Iterator[None]:
        """See `Folder`."""
        path = self.path / LOCK
        with _faults(self.address, "written"):
            file = path.open("ab")
        try:
            with file:
                try:
                    lock(file)
                except OSError:
                    raise DataError(
                        "another process is grading into this folder",
                        where=self.address,
                        hint="Wait for it, or write to another OUT.",
                    ) from None
                try:
                    yield
                finally:
                    with suppress(OSError):
                        path.unlink(missing_ok=True)
        finally:
            if _is_windows():  # it does not delete open files
                with suppress(OSError):
                    path.unlink(missing_ok=True)
            self.remove_empty()


LOCK = ".lock"
"""Name of the file that the writer of a folder locks."""


def lock(file: BinaryIO) -> None:
    """Lock a file for as long as it is open.

    Raises:
        OSError: Another process has locked it.
    """
    if _is_windows():
        import msvcrt

        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]  # not in other systems' stubs
    else:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _is_windows() -> bool:
    return fcntl is None


class RemoteFolder:
    """A prefix of an fsspec file system.

    Args:
        system: The file system.
        path: The prefix in it.
        protocol: The part of its addresses before ``://``.
    """

    def __init__(self, system: Any, path: str, protocol: str) -> None:
        self._system, self._path, self._protocol = system, path.rstrip("/"), protocol

    @property
    def address(self) -> str:
        """See `Folder`."""
        return f"{self._protocol}://{self._path.lstrip('/')}"

    def inner(self, name: str) -> "RemoteFolder":
        """See `Folder`."""
        return RemoteFolder(self._system, f"{self._path}/{name}", self._protocol)

    def make(self) -> None:
        """See `Folder`."""
        # Object stores have no folders; a bucket that does not exist is found when the first file is written.
        with suppress(Exception):
            self._system.makedirs(self._path, exist_ok=True)

    def names(self) -> list[str]:
        """See `Folder`."""
        with _faults(self.address, "read", every=True):
            self._system.invalidate_cache()
            try:
                found = self._system.ls(self._path, detail=True)
            except FileNotFoundError:
                return []
            return sorted(each["name"].rsplit("/", 1)[-1] for each in found if each["type"] == "file")

    def open(self, name: str) -> BinaryIO:
        """See `Folder`."""
        with _faults(f"{self.address}/{name}", "read", every=True):
            return cast("BinaryIO", self._system.open(f"{self._path}/{name}", "rb"))

    @contextmanager
    def create(self, name: str) -> Iterator[BinaryIO]:
        """See `Folder`."""
        # A stream to an object store that is closed after an error would leave half an object.
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "object"
            with _faults(str(path), "written"), path.open("w+b") as file:
                yield file
            with _faults(f"{self.address}/{name}", "written", every=True):
                self._system.put_file(str(path), f"{self._path}/{name}")

    def remove(self, name: str) -> None:
        """See `Folder`."""
        with _faults(f"{self.address}/{name}", "deleted", every=True), suppress(FileNotFoundError):
            self._system.rm_file(f"{self._path}/{name}")

    def remove_empty(self) -> None:
        """See `Folder`."""
        with suppress(Exception):
            self._system.rmdir(self._path)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """See `Folder`."""
        yield


def is_address(given: str) -> bool:
    """Return whether a text is an fsspec address and not a path."""
    return _ADDRESS.match(given) is not None


def locate(given: str) -> tuple[Folder, str]:
    """Return the folder and the name of a path or an address.

    Raises:
        DataError: A package for the address is not installed.
    """
    if not is_address(given):
        path = Path(given)
        return LocalFolder(path.parent), path.name
    system, path_in_system, protocol = _file_system(given)
    parent, _, name = path_in_system.rstrip("/").rpartition("/")
    return RemoteFolder(system, parent, protocol), name


def _file_system(address: str) -> tuple[Any, str, str]:
    try:
        from fsspec.core import url_to_fs
    except ImportError:
        raise DataError(
            "addresses require fsspec", where=address[:300], hint='Install it: pip install "edgedistill-serve[remote]".'
        ) from None
    try:
        system, path = url_to_fs(address)
    except ImportError as error:
        raise DataError(f"a package is missing ({error})", where=address[:300], hint="Install it with pip.") from None
    except Exception as error:  # noqa: BLE001  # each file system has errors of its own
        raise DataError(f"the address cannot be used ({error})", where=address[:300]) from None
    return system, path, address.split("://", 1)[0]


def find_inputs(given: str, suffixes: tuple[str, ...]) -> list[InputFile]:
    """Return the files that a path, an address, a folder or a pattern such as ``terms/*.csv`` stands for, sorted.

    Args:
        given: ``-`` is stdin, which is copied to a temporary file without a name.
        suffixes: Those of tables; other files of a folder are left out.

    Raises:
        DataError: There are none.
    """
    if given == STANDARD:
        return [_standard_input()]
    return _remote_inputs(given, suffixes) if is_address(given) else _local_inputs(given, suffixes)


def _local_inputs(given: str, suffixes: tuple[str, ...]) -> list[InputFile]:
    path = Path(given)
    try:
        if path.is_dir() and not path.name.lower().endswith(suffixes):
            paths = [each for each in path.iterdir() if _is_table(each.name, suffixes) and each.is_file()]
        elif _PATTERN.search(given) and not path.exists():
            root = Path(path.anchor) if path.is_absolute() else Path()
            paths = [each for each in root.glob(str(path.relative_to(root))) if each.is_file()]
        else:
            size = path.stat().st_size if path.is_file() else None
            return [InputFile(readable_name(path), str(path), size, partial(_open_path, path))]
    except (OSError, ValueError, NotImplementedError) as error:  # pathlib raises the last one for some patterns
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"the file cannot be read ({reason})", where=given[:300]) from None
    _require(paths, given, suffixes)
    return [local_file(each) for each in sorted(paths)]


def readable_name(path: Path) -> str:
    r"""Return the name of a file as text that can be written anywhere.

    Bytes that are not UTF-8 become escapes, such as ``\\udcff``.
    """
    return path.name.encode("utf-8", "backslashreplace").decode("utf-8")


def local_file(path: Path) -> InputFile:
    """Return a file of this machine."""
    return InputFile(readable_name(path), str(path), path.stat().st_size, partial(_open_path, path))


def _open_path(path: Path) -> BinaryIO:
    return path.open("rb")


def _is_table(name: str, suffixes: tuple[str, ...]) -> bool:
    return name.lower().endswith(suffixes) and not name.startswith((".", "~$"))


def _require(found: list[Any], given: str, suffixes: tuple[str, ...]) -> None:
    if not found:
        raise DataError(
            "no file matches" if _PATTERN.search(given) else "the folder has no tables",
            where=given[:300],
            hint=f"Tables end in {', '.join(suffixes)}.",
        )


def _remote_inputs(given: str, suffixes: tuple[str, ...]) -> list[InputFile]:
    system, path, protocol = _file_system(given)
    with _faults(given, "read", every=True):
        system.invalidate_cache()
        if _PATTERN.search(path):
            paths = sorted(system.glob(path))
        elif not system.isfile(path) and system.isdir(path):
            paths = [
                each for each in sorted(system.ls(path, detail=False)) if _is_table(each.rsplit("/")[-1], suffixes)
            ]
        else:
            paths = [path]
        _require(paths, given, suffixes)
        return [
            InputFile(
                each.rsplit("/", 1)[-1],
                f"{protocol}://{each.lstrip('/')}",
                system.info(each).get("size"),
                partial(system.open, each, "rb"),
            )
            for each in paths
        ]


def _standard_input() -> InputFile:
    copy = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the process; it has no name
    with _faults("stdin", "read"):
        shutil.copyfileobj(sys.stdin.buffer, copy)
        copy.flush()
    return InputFile("stdin", "stdin", copy.tell(), partial(_reopened, copy))


def _reopened(file: Any) -> BinaryIO:
    copy = os.fdopen(os.dup(file.fileno()), "rb")
    copy.seek(0)
    return copy
