"""Loading and writing of bundles."""

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
from edgedistill_serve.bundle.files import (
    GOLDEN_FILE,
    MANIFEST_FILE,
    SIGNATURE_FILE,
    check_file,
    read_checked_file,
    read_file,
    write_file,
)
from edgedistill_serve.bundle.graph_file import check_graph_file
from edgedistill_serve.bundle.manifest import MODEL_FILES, Golden, Manifest, Precision, compute_version
from edgedistill_serve.bundle.migrations import decode_json, parse_manifest
from edgedistill_serve.bundle.signing import check_signature
from edgedistill_serve.bundle.validation import check_golden, check_manifest
from edgedistill_serve.bundle.verdict import describe_verdict
from edgedistill_serve.errors import BundleError
from edgedistill_serve.task.task import Task

Signature: TypeAlias = Literal["none", "not checked", "valid"]
_MAX_UNLISTED = 100


@dataclass(frozen=True, slots=True, repr=False)
class Bundle:
    """A loaded bundle; all listed files passed their checks.

    Attributes:
        folder: Absolute path of the folder, with links resolved.
        manifest: Content of ``bundle.json``.
        golden: Content of ``golden.json``.
        signature: Whether the bundle is signed, and whether the signature was checked.
        unlisted: Relative paths of files in the folder that ``bundle.json`` does not list, at most 100. These files are
            never read.
    """

    folder: Path
    manifest: Manifest
    golden: Golden
    signature: Signature = "none"
    unlisted: tuple[str, ...] = ()

    @classmethod
    def load(cls, path: Path | str, *, public_key: Path | str | None = None) -> "Bundle":
        """Load a bundle and check its schema version, its paths, and the size and SHA-256 of every file.

        An interrupted replacement of the folder is finished first. Packed bundles are not loaded directly:
        ``edgedistill-serve bundle unpack`` unpacks them into a folder.

        Args:
            path: The folder.
            public_key: PEM file of an Ed25519 public key; the bundle must be signed with the matching private key.

        Raises:
            BundleError: The folder is not a bundle, or its schema version is not supported.
            BundleDamaged: A file is missing, was changed, is a link, or is outside the folder.
            SignatureRefused: The bundle is not signed, or not with that key.
            SigningKeyError: The public key cannot be used.
        """
        folder = _bundle_folder(Path(path))
        content = _manifest_content(folder)
        signature = _signature(folder, content, public_key)
        manifest = parse_manifest(content)
        check_manifest(manifest)
        for name, entry in manifest.files.items():
            if name.endswith(".onnx"):
                check_graph_file(read_checked_file(folder, name, entry), name)
            elif name != GOLDEN_FILE:
                check_file(folder, name, entry)
        content = read_checked_file(folder, GOLDEN_FILE, manifest.files[GOLDEN_FILE])
        golden = decode_json(content, Golden, GOLDEN_FILE)
        check_golden(golden, manifest)
        return cls(folder, manifest, golden, signature, _unlisted(folder, manifest))

    def __repr__(self) -> str:
        manifest = self.manifest
        return f"Bundle({manifest.name!r}, version={manifest.version!r}, folder={str(self.folder)!r})"

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
            "verdict": describe_verdict(manifest.verdict),
        }
        body = "".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in rows.items())
        return f"<table>{body}</table>"

    @property
    def task(self) -> Task:
        """The scored task."""
        return self.manifest.task

    @property
    def tokenizer_file(self) -> Path:
        """Path of the ``tokenizer.json``."""
        return self.folder / "tokenizer.json"

    def model_file(self, precision: Precision) -> Path | None:
        """Return the path of the graph of a precision, or None if the bundle has none."""
        name = MODEL_FILES[precision]
        return self.folder / name if name in self.manifest.files else None

    def read_listed_file(self, name: str) -> bytes:
        """Read a file that ``bundle.json`` lists, and check the bytes that are returned.

        A file can change after `load`: what a program uses should be what it checked.

        Args:
            name: Relative path, as in ``manifest.files``.

        Raises:
            BundleDamaged: The file was changed, or cannot be read.
            BundleError: It is a graph that `edgedistill_serve.bundle.graph_file` refuses.
        """
        content = read_checked_file(self.folder, name, self.manifest.files[name])
        if name.endswith(".onnx"):
            check_graph_file(content, name)
        return content


def write_bundle(folder: Path, draft: Manifest, files: Mapping[str, Path | bytes]) -> Bundle:
    """Write a bundle into a temporary folder, check it, and move it to its destination.

    Args:
        folder: Destination. An existing bundle stays intact until the new one is complete, and is then replaced.
        draft: The manifest; ``files`` and ``version`` are filled in.
        files: Content, or a file to copy, by relative path: ``config.json``, ``tokenizer.json``, ``golden.json``,
            ``onnx/model_quantized.onnx`` and so on, without ``bundle.json``.

    Raises:
        BundleError: The destination contains other files, a file cannot be read or written, or the written bundle is
            not valid.
    """
    folder = folder.absolute()
    temporary = temporary_sibling(folder)
    try:
        check_bundle_target(folder)
        finish_replacement(folder)
        entries = {name: write_file(temporary, name, files[name]) for name in sorted(files)}
        manifest = msgspec.structs.replace(draft, files=entries)
        manifest = msgspec.structs.replace(manifest, version=compute_version(manifest))
        write_file(temporary, MANIFEST_FILE, msgspec.json.format(msgspec.json.encode(manifest), indent=2))
        bundle = Bundle.load(temporary)
        replace_folder(temporary, folder)
        remove_leftovers(folder)
    except OSError as error:
        raise BundleError(f"the bundle cannot be written ({error})", where=str(folder)) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return replace(bundle, folder=folder.resolve())


def check_bundle_target(folder: Path) -> None:
    """Check that a bundle may be written to a folder: it does not exist, is empty, or is a bundle.

    Raises:
        BundleError: The folder contains other files.
        OSError: The folder cannot be listed.
    """
    if folder.exists() and not (folder / MANIFEST_FILE).exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BundleError("the folder exists and is not a bundle", where=str(folder), hint="Choose another folder.")


def _bundle_folder(path: Path) -> Path:
    try:
        finish_replacement(path)
        if not path.exists():
            raise BundleError("the folder does not exist", where=str(path))
        if not path.is_dir():
            raise BundleError(
                "this is a file, and a bundle is a folder",
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
        raise BundleError(
            f"the folder contains no {MANIFEST_FILE}", where=str(folder), hint="Name the folder of the bundle."
        )
    return read_file(folder, MANIFEST_FILE)


def _signature(folder: Path, content: bytes, public_key: Path | str | None) -> Signature:
    signed = (folder / SIGNATURE_FILE).exists()
    if public_key is None:
        return "not checked" if signed else "none"
    check_signature(content, read_file(folder, SIGNATURE_FILE) if signed else None, Path(public_key), str(folder))
    return "valid"


def _unlisted(folder: Path, manifest: Manifest) -> tuple[str, ...]:
    known = {MANIFEST_FILE, SIGNATURE_FILE, *manifest.files}
    paths = (
        # Names that are not valid Unicode are escaped, so that they can be printed.
        (Path(parent) / name).relative_to(folder).as_posix().encode(errors="backslashreplace").decode()
        for parent, _, names in os.walk(folder)
        for name in names
    )
    return tuple(sorted(islice((path for path in paths if path not in known), _MAX_UNLISTED)))
