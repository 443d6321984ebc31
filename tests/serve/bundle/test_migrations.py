"""Bundles of older schemas are read by newer code; those of newer schemas are refused with a hint."""

import json
import shutil
from pathlib import Path

import pytest

from edgedistill_serve import Bundle, BundleError, Scorer
from edgedistill_serve.bundle.manifest import SCHEMA_VERSION
from edgedistill_serve.bundle.migrations import CURRENT, Schema, parse_manifest

VERSION_1 = Path(__file__).parents[1] / "bundles" / "schema-1"
"""A bundle written by edgedistill-serve 0.1.0, which all later versions must read."""
SCORED = 0.7160


def test_a_bundle_of_schema_1_is_read_and_scores_as_when_it_was_written(tmp_path):
    loaded = Bundle.load(shutil.copytree(VERSION_1, tmp_path / "bundle"))
    assert json.loads((VERSION_1 / "bundle.json").read_text())["schema_version"] == 1
    (score,) = Scorer(loaded, threads=1).score(["you worked hard on this"])
    assert score.label == "person"
    assert score.probability == pytest.approx(SCORED, abs=0.05)


def test_a_bundle_without_the_field_is_not_overflow_free():
    assert not parse_manifest((VERSION_1 / "bundle.json").read_bytes()).int8_overflow_free


def test_every_older_schema_has_a_migration():
    assert sorted(CURRENT.migrations) == list(range(1, SCHEMA_VERSION))
    assert CURRENT.version == SCHEMA_VERSION


def _renamed(document):
    return {("title" if key == "name" else key): value for key, value in document.items()}


def _named_back(document):
    return {("name" if key == "title" else key): value for key, value in document.items()}


def test_a_bundle_written_today_is_read_after_the_schema_was_raised():
    content = (VERSION_1 / "bundle.json").read_bytes()
    raised = Schema(3, {1: _renamed, 2: _named_back})
    manifest = parse_manifest(content, raised)
    assert manifest.name == "praise"
    assert manifest.schema_version == 3
    assert manifest.files == parse_manifest(content).files


def test_what_a_migration_leaves_wrong_is_refused():
    with pytest.raises(BundleError, match="does not match its schema"):
        parse_manifest((VERSION_1 / "bundle.json").read_bytes(), Schema(2, {1: _renamed}))


@pytest.mark.parametrize(("version", "readable"), [(4, "2 to 3"), (1, "2 to 3"), (0, "2 to 3")])
def test_a_version_that_no_migration_leads_from_is_refused_with_those_that_are_read(version, readable):
    document = json.loads((VERSION_1 / "bundle.json").read_bytes()) | {"schema_version": version}
    with pytest.raises(BundleError, match=f"the schema version is {version}, this edgedistill-serve reads {readable}"):
        parse_manifest(json.dumps(document).encode(), Schema(3, {2: _named_back}))


@pytest.mark.parametrize(
    "content",
    [b'{"schema_version": 1, "schema_version": 1}', b'{"schema_version": 1, "task": {"kind": "a", "kind": "b"}}'],
)
def test_a_repeated_key_is_refused(content):
    with pytest.raises(BundleError, match="a key is repeated"):
        parse_manifest(content)
