"""Reading `evaluation.json` and `fidelity.json`, with errors that name the stage to run, and their JSON Schemas."""

import hashlib
import json
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np

from edgedistill.errors import RunError
from edgedistill.evaluation.types import EVALUATION_VERSION, FIDELITY_VERSION, Evaluation, Fidelity

T = TypeVar("T")


class _Versioned(msgspec.Struct):
    schema_version: int


def read_evaluation(file: Path) -> Evaluation:
    """Read `evaluation.json`.

    Args:
        file: The file.

    Raises:
        RunError: It is missing, damaged, or of another version; the hint names the stage to run again.
    """
    hint = stage_hint("evaluate")
    if not file.exists():
        raise RunError("evaluate is not done: there are no figures to report", where=str(file), hint=hint)
    evaluation = decode_version(file, Evaluation, EVALUATION_VERSION, hint)
    if "student" not in evaluation.agreement:
        raise RunError("has no figures of the student", where=str(file), hint=hint)
    return evaluation


def read_fidelity(file: Path, evaluation: Path) -> Fidelity | None:
    """Read `fidelity.json`; None if there is none, or if it belongs to another evaluation.

    Args:
        file: The file.
        evaluation: The `evaluation.json` beside it.

    Raises:
        RunError: It is damaged or of another version; the hint names the stage to run again.
    """
    if not file.exists():
        return None
    found = decode_version(file, Fidelity, FIDELITY_VERSION, stage_hint("export"))
    return found if found.evaluation == file_sha256(evaluation) else None


def file_sha256(file: Path) -> str:
    """Return the SHA-256 of a file's bytes."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def stage_hint(stage: str) -> str:
    """Return the hint to run a stage again; the command line names the project in place of ``PROJECT``."""
    return f"`edgedistill {stage} PROJECT` writes it."


def decode_version(file: Path, kind: type[T], version: int, hint: str) -> T:
    """Read a JSON file as a type, of one `schema_version`.

    Raises:
        RunError: It has another version, or cannot be read; see `decode_file`.
    """
    found = decode_file(file, _Versioned, hint).schema_version
    if found != version:
        raise RunError(
            f"has schema version {found}; this version of EdgeDistill reads {version}", where=str(file), hint=hint
        )
    return decode_file(file, kind, hint)


def decode_file(file: Path, kind: type[T], hint: str) -> T:
    """Read a JSON file as a type.

    Raises:
        RunError: It cannot be read, is not valid JSON, or does not fit the type.
    """
    try:
        return msgspec.json.decode(file.read_bytes(), type=kind)
    except OSError as error:
        raise RunError(f"cannot be read ({error.strerror})", where=str(file), hint=hint) from None
    except msgspec.ValidationError as error:
        raise RunError(f"is of another version or damaged ({error})", where=str(file), hint=hint) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise RunError("is not valid JSON", where=str(file), hint=hint) from None


def to_plain(value: object) -> Any:
    """Return a type of this package, or a part of one, as dicts, lists, numbers and None, ready for JSON."""
    return msgspec.to_builtins(value, enc_hook=_plain_number)


def _plain_number(value: object) -> object:
    if isinstance(value, np.generic):
        return value.item()
    # The error that msgspec asks of a hook for types that it does not know.
    raise NotImplementedError(f"{type(value).__name__} cannot be written as JSON")


def write_schemas(folder: Path) -> list[Path]:
    """Write the JSON Schemas of `evaluation.json` and `fidelity.json` into a folder; return the files."""
    written = []
    for name, kind in (("evaluation", Evaluation), ("fidelity", Fidelity)):
        file = folder / f"{name}.schema.json"
        schema = _without_descriptions(msgspec.json.schema(kind))
        file.write_text(json.dumps(schema, ensure_ascii=False, indent=1) + "\n", "utf-8")
        written.append(file)
    return written


def _without_descriptions(schema: Any) -> Any:
    """Leave out the docstrings, which docs/evaluation.md replaces."""
    if isinstance(schema, dict):
        return {
            name: _without_descriptions(value)
            for name, value in schema.items()
            if not (name == "description" and isinstance(value, str))
        }
    return [_without_descriptions(value) for value in schema] if isinstance(schema, list) else schema
