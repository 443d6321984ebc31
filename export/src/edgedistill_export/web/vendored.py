"""The npm files that the page loads, onnxruntime-web and a tokenizer, which building the package copies here."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files
from importlib.resources.abc import Traversable

from edgedistill_export.errors import WebFailed

INDEX = "index.json"
FOLDER = files("edgedistill_export") / "web" / "vendor"


@dataclass(frozen=True, slots=True)
class Vendored:
    """The npm files of a page.

    Attributes:
        files: Content by name: scripts, one WebAssembly file, licences.
        packages: By npm package, its version and its licence.
    """

    files: Mapping[str, bytes]
    packages: Mapping[str, Mapping[str, str]]


def load_vendored(folder: Traversable = FOLDER) -> Vendored:
    """Read the npm files, and the licence of onnxruntime, which its npm package lacks.

    Raises:
        WebFailed: The files were not fetched, or one has changed.
    """
    index = folder / INDEX
    if not index.is_file():
        raise WebFailed(
            "onnxruntime-web and the tokenizer are missing, which pages need",
            where=str(folder),
            hint="In a checkout run `make web` (Node 20 or newer with npm); otherwise install npm and reinstall "
            "edgedistill-export.",
        )
    found = json.loads(index.read_text(encoding="utf-8"))
    read = {name: (folder / name).read_bytes() for name in found["files"] if (folder / name).is_file()}
    for name, digest in found["files"].items():
        if name not in read or sha256(read[name]).hexdigest() != digest:
            raise WebFailed(
                "the file is missing or was changed", where=str(folder / name), hint="Run `make web` again."
            )
    return Vendored(read | _licences_of_onnxruntime(), found["packages"])


def _licences_of_onnxruntime() -> dict[str, bytes]:
    source = files("onnxruntime")
    names = {"LICENSE": "onnxruntime-LICENSE", "ThirdPartyNotices.txt": "onnxruntime-ThirdPartyNotices.txt"}
    return {kept: (source / name).read_bytes() for name, kept in names.items() if (source / name).is_file()}
