"""Parsing of `bundle.json` of the current and of older schema versions.

A change of the schema increases `SCHEMA_VERSION` and adds one function to `CURRENT`, which converts a document of the
previous version. Older bundles pass through all later conversions.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

import msgspec

from edgedistill_serve.bundle.files import MANIFEST_FILE
from edgedistill_serve.bundle.manifest import SCHEMA_VERSION, Manifest, compute_version
from edgedistill_serve.errors import BundleError

Document: TypeAlias = dict[str, Any]
"""`bundle.json`, decoded from JSON."""
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Schema:
    """A schema version, and the conversions from older versions.

    Attributes:
        version: The version of `Manifest`.
        migrations: For each older version, the function that converts its document to the next version.
    """

    version: int
    migrations: Mapping[int, Callable[[Document], Document]] = field(default_factory=dict)


def _to_version_2(document: Document) -> Document:
    """Version 2 added ``contexts``, and ``max_unknown_share`` and ``new_question`` to the review rule.

    The defaults of `Manifest` apply to older bundles: an unreadable response is reviewed there, too.
    """
    return document


def _to_version_3(document: Document) -> Document:
    """Version 3 added ``guarantee``, ``novelty``, and the rule's ``max_novelty``, ``scripts`` and ``min_letters``."""
    return document


def _to_version_4(document: Document) -> Document:
    """Version 4 added ``verdict``; an older bundle has none, and counts as not validated."""
    return document


CURRENT = Schema(SCHEMA_VERSION, {1: _to_version_2, 2: _to_version_3, 3: _to_version_4})


class _Version(msgspec.Struct):
    schema_version: int


def parse_manifest(content: bytes, schema: Schema = CURRENT) -> Manifest:
    """Parse `bundle.json`.

    Args:
        content: The bytes of the file.
        schema: The supported version.

    Raises:
        BundleError: The content is not valid JSON, repeats a key, has a newer version or an older one without
            migration, does not match the schema, or has a promise or a verdict that was shown for another decision rule
            or model.
    """
    version = decode_json(content, _Version, MANIFEST_FILE).schema_version
    document = decode_json(content, Document, MANIFEST_FILE)
    _check_unique_keys(content)
    steps = range(version, schema.version)
    if version > schema.version or not set(steps) <= schema.migrations.keys():
        raise BundleError(
            f"the schema version is {version}, this edgedistill-serve reads {_supported_versions(schema)}",
            where=MANIFEST_FILE,
            hint="Export the bundle again, or install the edgedistill-serve version that it was exported with.",
        )
    for step in steps:
        document = schema.migrations[step](document)
    _name_redaction_rules(document)
    try:
        manifest = msgspec.convert(document | {"schema_version": schema.version}, Manifest)
    except msgspec.ValidationError as error:
        raise BundleError(f"the file does not match its schema ({error})", where=MANIFEST_FILE) from None
    _check_evidence(manifest, version)
    return manifest


_EVIDENCE_SINCE = 3
"""The first schema version whose bundles state promises; older versions were computed in another way."""


def _check_evidence(manifest: Manifest, schema_version: int) -> None:
    """Check that what was shown of a bundle was shown for this decision rule and this model."""
    is_validated = manifest.known_verdict.is_validated
    if schema_version < _EVIDENCE_SINCE or (manifest.guarantee is None and not is_validated):
        return
    if compute_version(msgspec.structs.replace(manifest, schema_version=schema_version)) == manifest.version:
        return
    key, shown, then = (
        ("guarantee", "its promise about accepted responses was shown", "nothing is promised")
        if manifest.guarantee is not None
        else ("verdict", "it was validated", "it is not validated")
    )
    raise BundleError(
        f"the decision rule or the model was changed after {shown}",
        where=f"{MANIFEST_FILE}, {key}",
        hint=f"Export the bundle again, or remove the key {key}: then {then}.",
    )


def _name_redaction_rules(document: Document) -> None:
    """Set the version of the redaction rules in a document that was written when there was only the first one."""
    task = document.get("task")
    redact = task.get("redact") if isinstance(task, dict) else None
    if isinstance(redact, dict):
        redact.setdefault("rules", 1)


def decode_json(content: bytes, kind: type[_T], name: str) -> _T:
    """Decode a JSON file of a bundle.

    Raises:
        BundleError: The content is not valid JSON, or not of the requested type.
    """
    try:
        return msgspec.json.decode(content, type=kind)
    except msgspec.ValidationError as error:
        raise BundleError(f"the file does not match its schema ({error})", where=name) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BundleError(f"the file is not valid JSON ({error})", where=name) from None


def _supported_versions(schema: Schema) -> str:
    oldest = schema.version
    while oldest - 1 in schema.migrations:
        oldest -= 1
    return str(schema.version) if oldest == schema.version else f"{oldest} to {schema.version}"


def _check_unique_keys(content: bytes) -> None:
    """Check that no object repeats a key: JSON parsers disagree on which of the two values counts."""

    def check(pairs: list[tuple[str, Any]]) -> None:
        names = [name for name, _ in pairs]
        if len(names) > len(set(names)):
            raise BundleError("a key is repeated in one object", where=MANIFEST_FILE)

    try:
        json.loads(content, object_pairs_hook=check)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"the file is not valid JSON ({error})", where=MANIFEST_FILE) from None
