"""A bundle: the one folder that everything after training reads, and its only reader and writer."""

import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import BufferedReader
from pathlib import Path, PurePosixPath
from secrets import token_hex
from typing import TypeVar

import msgspec

from edgedistill_serve.errors import BundleDamaged, BundleError
from edgedistill_serve.manifest import MODEL_FILES, SCHEMA_VERSION, FileEntry, Golden, Manifest, Precision
from edgedistill_serve.task import Task
from edgedistill_serve.validity import check_golden, check_manifest

MANIFEST_FILE = "bundle.json"
_READ_AT_ONCE = 64 * 1024 * 1024
"""The most bytes that a JSON file of a bundle may have, since it is read whole."""

_Read = TypeVar("_Read")


@dataclass(frozen=True, slots=True)
class Bundle:
    """A folder whose every listed file was found to be as it was written.

    Attributes:
        folder: Where it lies, links resolved.
        manifest: Its ``bundle.json``.
        golden: Its ``golden.json``.
    """

    folder: Path
    manifest: Manifest
    golden: Golden

    @classmethod
    def load(cls, path: Path | str) -> "Bundle":
        """Read a bundle and check its schema version, its paths, and the size and SHA-256 of every file.

        Files that ``bundle.json`` does not list are not read.

        Raises:
            BundleError: The folder is no bundle, or one of a version that cannot be read.
            BundleDamaged: A file is missing, was changed, is a link, or lies outside the folder.
        """
        folder = _bundle_folder(Path(path))
        manifest = _read_manifest(folder)
        for name, entry in manifest.files.items():
            _check_file(folder, name, entry)
        golden = _decode(_read_whole(folder, "golden.json"), Golden, "golden.json")
        check_golden(golden, manifest)
        return cls(folder, manifest, golden)

    @property
    def task(self) -> Task:
        """What the bundle scores."""
        return self.manifest.task

    @property
    def tokenizer_file(self) -> Path:
        """The tokenizer, as `tokenizers` reads it."""
        return self.folder / "tokenizer.json"

    def model_file(self, precision: Precision) -> Path | None:
        """Return the graph of a precision, None where the bundle has none."""
        name = MODEL_FILES[precision]
        return self.folder / name if name in self.manifest.files else None


def write_bundle(folder: Path, draft: Manifest, files: Mapping[str, Path | bytes]) -> Bundle:
    """Write a bundle, check it, and only then put it into place.

    Args:
        folder: Where it shall lie. A bundle that is there is replaced, and stays whole until then.
        draft: The manifest; its ``files`` and ``version`` are filled in here.
        files: Content, or a file to copy, by the path in the bundle: ``config.json``, ``tokenizer.json``,
            ``golden.json``, ``onnx/model_quantized.onnx`` and so on, without ``bundle.json``.

    Raises:
        BundleError: The folder holds something else than a bundle, a file cannot be read or written, or what was
            written is no valid bundle.
    """
    folder = folder.absolute()
    if folder.exists() and not (folder / MANIFEST_FILE).exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BundleError(
            "this is no bundle and is not replaced by one", where=str(folder), mend="Name another folder."
        )
    aside = folder.with_name(f".{folder.name}.{token_hex(4)}")
    try:
        entries = {name: _write_file(aside, name, files[name]) for name in sorted(files)}
        version = hashlib.sha256(msgspec.json.encode(entries)).hexdigest()[:12]
        manifest = msgspec.structs.replace(draft, files=entries, version=version)
        _write_file(aside, MANIFEST_FILE, msgspec.json.format(msgspec.json.encode(manifest), indent=2))
        bundle = Bundle.load(aside)
        _move(aside, folder)
    except OSError as error:
        raise BundleError(f"the bundle cannot be written ({error})", where=str(folder)) from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return replace(bundle, folder=folder.resolve())


def _bundle_folder(path: Path) -> Path:
    try:
        if not path.exists():
            raise BundleError("there is no such folder", where=str(path))
        if not path.is_dir():
            raise BundleError("a bundle is a folder, this is a file", where=str(path))
        if not os.access(path, os.R_OK | os.X_OK):
            raise BundleError("the folder cannot be read", where=str(path), mend="Check its permissions.")
        return path.resolve()
    except (OSError, ValueError) as error:
        raise BundleError(f"the folder cannot be read ({error})", where=str(path)[:200]) from None


class _Version(msgspec.Struct):
    schema_version: int


def _read_manifest(folder: Path) -> Manifest:
    if not (folder / MANIFEST_FILE).exists():
        raise BundleError(f"there is no {MANIFEST_FILE}", where=str(folder), mend="Name the folder that holds it.")
    content = _read_whole(folder, MANIFEST_FILE)
    found = _decode(content, _Version, MANIFEST_FILE).schema_version
    if found != SCHEMA_VERSION:
        raise BundleError(
            f"the schema version is {found}, this edgedistill-serve reads {SCHEMA_VERSION}",
            where=str(folder),
            mend="Export the bundle again, or install the edgedistill-serve that it was exported with.",
        )
    manifest = _decode(content, Manifest, MANIFEST_FILE)
    check_manifest(manifest)
    return manifest


def _decode(content: bytes, wanted: type[_Read], name: str) -> _Read:
    try:
        return msgspec.json.decode(content, type=wanted)
    except msgspec.ValidationError as error:
        raise BundleError(f"the file does not say what it must ({error})", where=name) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BundleError(f"the file is no JSON ({error})", where=name) from None


def _read_whole(folder: Path, name: str) -> bytes:
    with _regular_file(folder, name) as file:
        content = file.read(_READ_AT_ONCE + 1)
    if len(content) > _READ_AT_ONCE:
        raise BundleError(f"the file is larger than {_READ_AT_ONCE} bytes", where=name)
    return content


def _check_file(folder: Path, name: str, entry: FileEntry) -> None:
    with _regular_file(folder, name) as file:
        size = os.fstat(file.fileno()).st_size
        if size != entry.bytes:
            raise _damaged(name, f"the file has {size} bytes, {MANIFEST_FILE} says {entry.bytes}")
        if hashlib.file_digest(file, "sha256").hexdigest() != entry.sha256:
            raise _damaged(name, f"the file was changed (its SHA-256 is not that of {MANIFEST_FILE})")


@contextmanager
def _regular_file(folder: Path, name: str) -> Iterator[BufferedReader]:
    path = _inside(folder, name)
    try:
        if path.resolve() != path:
            raise _damaged(name, "the file is a link, or lies behind one")
        if not path.is_file():
            raise _damaged(name, "the file is not a regular file" if path.exists() else "the file is missing")
        with path.open("rb") as file:
            yield file
    except (OSError, ValueError) as error:
        raise _damaged(name, f"the file cannot be read ({error})") from None


def _inside(folder: Path, name: str) -> Path:
    parts = PurePosixPath(name).parts
    if name != "/".join(parts) or not parts or name.startswith("/") or ".." in parts or any(c in name for c in "\\:\0"):
        raise _damaged(name, "the path leads out of the bundle, or is not in its plain form")
    return folder.joinpath(*parts)


def _damaged(name: str, what: str) -> BundleDamaged:
    return BundleDamaged(what, where=name[:200], mend="Copy the bundle anew, or export it again.")


def _write_file(folder: Path, name: str, source: Path | bytes) -> FileEntry:
    path = _inside(folder, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(source, bytes):
        path.write_bytes(source)
    else:
        shutil.copyfile(source, path)
    with path.open("rb+") as file:
        os.fsync(file.fileno())
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return FileEntry(sha256=digest, bytes=os.fstat(file.fileno()).st_size)


def _move(aside: Path, folder: Path) -> None:
    for inner in (aside, *(path for path in aside.rglob("*") if path.is_dir())):
        _sync_folder(inner)
    if not folder.exists():
        aside.rename(folder)
    else:
        old = folder.with_name(f"{aside.name}.old")
        folder.rename(old)
        try:
            aside.rename(folder)
        except OSError:
            old.rename(folder)
            raise
        shutil.rmtree(old, ignore_errors=True)
    _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    if os.name == "posix":  # elsewhere a folder cannot be opened
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
