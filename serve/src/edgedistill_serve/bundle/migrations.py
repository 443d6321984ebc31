"""From the bytes of `bundle.json` of this or an older schema version to a manifest.

A change of the schema raises `SCHEMA_VERSION` and adds one function to `CURRENT`: from the document of the version
before to that of the new one. Older bundles then pass through all that lie between.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

import msgspec

from edgedistill_serve.bundle.files import MANIFEST_FILE
from edgedistill_serve.bundle.manifest import SCHEMA_VERSION, Manifest
from edgedistill_serve.errors import BundleError

Document: TypeAlias = dict[str, Any]
"""`bundle.json` as JSON gives it."""
_Read = TypeVar("_Read")


@dataclass(frozen=True, slots=True)
class Schema:
    """The version that is read, and how older ones become it.

    Attributes:
        version: The version of `Manifest`.
        migrations: By version, the function from its document to that of the version after it.
    """

    version: int
    migrations: Mapping[int, Callable[[Document], Document]] = field(default_factory=dict)


CURRENT = Schema(SCHEMA_VERSION)


class _Version(msgspec.Struct):
    schema_version: int


def parse_manifest(content: bytes, schema: Schema = CURRENT) -> Manifest:
    """Read `bundle.json`.

    Args:
        content: Its bytes.
        schema: The version that is read.

    Raises:
        BundleError: It is no JSON, names a key twice, has a newer version or one that no migration leads from, or does
            not say what it must.
    """
    found = decode(content, _Version, MANIFEST_FILE).schema_version
    document = decode(content, Document, MANIFEST_FILE)
    _refuse_repeated_keys(content)
    steps = range(found, schema.version)
    if found > schema.version or not set(steps) <= schema.migrations.keys():
        raise BundleError(
            f"the schema version is {found}, this edgedistill-serve reads {_readable(schema)}",
            where=MANIFEST_FILE,
            hint="Export the bundle again, or install the edgedistill-serve that it was exported with.",
        )
    for version in steps:
        document = schema.migrations[version](document)
    try:
        return msgspec.convert(document | {"schema_version": schema.version}, Manifest)
    except msgspec.ValidationError as error:
        raise BundleError(f"the file does not say what it must ({error})", where=MANIFEST_FILE) from None


def decode(content: bytes, wanted: type[_Read], name: str) -> _Read:
    """Decode a JSON file of a bundle.

    Raises:
        BundleError: It is no JSON, or not of the wanted type.
    """
    try:
        return msgspec.json.decode(content, type=wanted)
    except msgspec.ValidationError as error:
        raise BundleError(f"the file does not say what it must ({error})", where=name) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BundleError(f"the file is no JSON ({error})", where=name) from None


def _readable(schema: Schema) -> str:
    oldest = schema.version
    while oldest - 1 in schema.migrations:
        oldest -= 1
    return str(schema.version) if oldest == schema.version else f"{oldest} to {schema.version}"


def _refuse_repeated_keys(content: bytes) -> None:
    """Refuse a key that stands twice in one object: which of the two counts differs from reader to reader."""

    def once(pairs: list[tuple[str, Any]]) -> None:
        names = [name for name, _ in pairs]
        if len(names) > len(set(names)):
            raise BundleError("a key stands twice in one object", where=MANIFEST_FILE)

    try:
        json.loads(content, object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"the file is no JSON ({error})", where=MANIFEST_FILE) from None
