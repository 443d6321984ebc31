"""The files by which transformers.js, optimum and the Hub know a bundle as a Hugging Face model folder."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgedistill_export.checkpoint import Checkpoint
from edgedistill_export.errors import CheckpointError

_NOT_CARRIED = ("_name_or_path", "name_or_path", "tokenizer_file", "special_tokens_map_file", "auto_map")
"""Keys that name a path of the machine that trained, or code to be fetched."""

_SIZES = ("hidden_size", "num_hidden_layers")
_MARKS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


def model_folder_files(student: Checkpoint) -> dict[str, Path | bytes]:
    """Return config and tokenizer files by their name in the bundle.

    ``config.json`` names the labels, the problem type, and width and depth under the names that
    text-embeddings-inference asks for, also where the kind of model has names of its own for them.
    ``tokenizer.json`` is the checkpoint's without its padding: readers that pad do so by what they batch, and a reader
    that forgot the mask would score the padding. ``tokenizer_config.json`` gives the student's longest
    sequence as ``model_max_length``, so that other readers cut where the scorer does. ``special_tokens_map.json``,
    which newer versions of transformers no longer write, is made from it where it is missing.

    Raises:
        CheckpointError: One of the checkpoint's files is no JSON object.
    """
    settings = _read(student.folder / "tokenizer_config.json") | {"model_max_length": student.encoder.max_tokens}
    marks_file = student.folder / "special_tokens_map.json"
    marks = (
        _read(marks_file) if marks_file.exists() else {name: settings[name] for name in _MARKS if settings.get(name)}
    )
    return {
        "config.json": _json({name: getattr(student.model.config, name) for name in _SIZES} | dict(student.config)),
        "tokenizer.json": _json(_read(student.folder / "tokenizer.json") | {"padding": None}),
        "tokenizer_config.json": _json(settings),
        "special_tokens_map.json": _json(marks),
    }


def _read(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"it cannot be read ({error})", where=str(file)) from error
    if not isinstance(content, dict):
        raise CheckpointError("it is no JSON object", where=str(file))
    return content


def _json(content: Mapping[str, Any]) -> bytes:
    carried = {key: value for key, value in content.items() if key not in _NOT_CARRIED}
    return (json.dumps(carried, indent=2, ensure_ascii=False) + "\n").encode()
