"""A bundle: the one folder that everything after training reads, and its only reader and writer."""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from html import escape
from itertools import islice
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

from edgedistill_serve.bundle.atomic_folder import (
    finish_replacement,
    remove_leftovers,
    replace_folder,
    temporary_sibling,
)
from edgedistill_serve.bundle.external_data import check_no_external_data
from edgedistill_serve.bundle.files import (
    MANIFEST_FILE,
    SIGNATURE_FILE,
    check_file,
    read_file,
    write_file,
)
from edgedistill_serve.bundle.manifest import MODEL_FILES, Golden, Manifest, Precision, compute_version
from edgedistill_serve.bundle.migrations import decode, parse_manifest
from edgedistill_serve.bundle.signing import check_signature
from edgedistill_serve.bundle.validation import check_golden, check_manifest
from edgedistill_serve.errors import BundleError
from edgedistill_serve.task.task import Task

Signature: TypeAlias = Literal["none", "not checked", "valid"]
_MOST_UNLISTED = 100


@dataclass(frozen=True, slots=True)
class Bundle:
    """A folder whose every listed file was found to be as it was written.

    Attributes:
        folder: Where it lies, links resolved.
        manifest: Its ``bundle.json``.
        golden: Its ``golden.json``.
        signature: Whether it is signed, and whether that was checked.
        unlisted: Files in the folder that ``bundle.json`` does not list, by their path in it; they are never read. Of
            very many, the first hundred.
    """

    folder: Path
    manifest: Manifest
    golden: Golden
    signature: Signature = "none"
    unlisted: tuple[str, ...] = ()

    @classmethod
    def load(cls, path: Path | str, *, public_key: Path | str | None = None) -> "Bundle":
        """Read a bundle and check its schema version, its paths, and the size and SHA-256 of every file.

        A bundle that a killed writer left between two renames is first put into its place. A packed bundle is a file
        and is not read: ``edgedistill-serve bundle unpack`` makes a folder of it.

        Args:
            path: The folder.
            public_key: The PEM file of an Ed25519 public key. The bundle must be signed with the private key that
                belongs to it.

        Raises:
            BundleError: The folder is no bundle, or one of a version that cannot be read.
            BundleDamaged: A file is missing, was changed, is a link, or lies outside the folder.
            SignatureRefused: The bundle is not signed, or not with that key.
            SigningKeyError: The file of the public key cannot be used.
        """
        folder = _bundle_folder(Path(path))
        content = _manifest_content(folder)
        signature = _signature(folder, content, public_key)
        manifest = parse_manifest(content)
        check_manifest(manifest)
        for name, entry in manifest.files.items():
            check_file(folder, name, entry)
        for name in MODEL_FILES.values():
            if name in manifest.files:
                check_no_external_data(folder / name, name)
        golden = decode(read_file(folder, "golden.json"), Golden, "golden.json")
        check_golden(golden, manifest)
        return cls(folder, manifest, golden, signature, _unlisted(folder, manifest))

    def _repr_html_(self) -> str:
        manifest = self.manifest
        sizes = {name: entry.bytes for name, entry in manifest.files.items()}
        rows = {
            "bundle": f"{manifest.name}, version {manifest.version}",
            "folder": str(self.folder),
            "task": f"{self.task.kind}: {', '.join(self.task.names)}",
            "reads": f"{', '.join(self.task.inputs)}; at most {manifest.max_tokens} tokens",
            "serves": f"{manifest.precision}, {sizes[MODEL_FILES[manifest.precision]] / 1e6:.1f} MB",
            "all files": f"{sum(sizes.values()) / 1e6:.1f} MB",
            "signature": self.signature,
        }
        body = "".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in rows.items())
        return f"<table>{body}</table>"

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
    aside = temporary_sibling(folder)
    try:
        check_bundle_target(folder)
        finish_replacement(folder)
        entries = {name: write_file(aside, name, files[name]) for name in sorted(files)}
        manifest = msgspec.structs.replace(draft, files=entries)
        manifest = msgspec.structs.replace(manifest, version=compute_version(manifest))
        write_file(aside, MANIFEST_FILE, msgspec.json.format(msgspec.json.encode(manifest), indent=2))
        bundle = Bundle.load(aside)
        replace_folder(aside, folder)
        remove_leftovers(folder)
    except OSError as error:
        raise BundleError(f"the bundle cannot be written ({error})", where=str(folder)) from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return replace(bundle, folder=folder.resolve())


def check_bundle_target(folder: Path) -> None:
    """Check that a bundle may be written into a folder: there is none, an empty one, or a bundle.

    Raises:
        BundleError: It holds something else.
        OSError: It cannot be looked into.
    """
    if folder.exists() and not (folder / MANIFEST_FILE).exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BundleError(
            "this is no bundle and is not replaced by one", where=str(folder), hint="Name another folder."
        )


def _bundle_folder(path: Path) -> Path:
    try:
        finish_replacement(path)
        if not path.exists():
            raise BundleError("there is no such folder", where=str(path))
        if not path.is_dir():
            raise BundleError(
                "a bundle is a folder, this is a file",
                where=str(path),
                hint="Unpack it first: edgedistill-serve bundle unpack FILE FOLDER.",
            )
        if not os.access(path, os.R_OK | os.X_OK):
            raise BundleError("the folder cannot be read", where=str(path), hint="Check its permissions.")
        return path.resolve()
    except (OSError, ValueError) as error:
        raise BundleError(f"the folder cannot be read ({error})", where=str(path)[:200]) from None


def _manifest_content(folder: Path) -> bytes:
    if not (folder / MANIFEST_FILE).exists():
        raise BundleError(f"there is no {MANIFEST_FILE}", where=str(folder), hint="Name the folder that holds it.")
    return read_file(folder, MANIFEST_FILE)


def _signature(folder: Path, content: bytes, public_key: Path | str | None) -> Signature:
    signed = (folder / SIGNATURE_FILE).exists()
    if public_key is None:
        return "not checked" if signed else "none"
    check_signature(content, read_file(folder, SIGNATURE_FILE) if signed else None, Path(public_key), str(folder))
    return "valid"


def _unlisted(folder: Path, manifest: Manifest) -> tuple[str, ...]:
    known = {MANIFEST_FILE, SIGNATURE_FILE, *manifest.files}
    found = (
        # A name that is no text is told with escapes, so that it can be printed.
        (Path(place) / name).relative_to(folder).as_posix().encode(errors="backslashreplace").decode()
        for place, _, names in os.walk(folder)
        for name in names
    )
    return tuple(sorted(islice((name for name in found if name not in known), _MOST_UNLISTED)))
