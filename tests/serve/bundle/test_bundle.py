"""A bundle is loaded complete and unchanged, or not at all."""

import hashlib
import json
import os
import shutil

import msgspec
import pytest

from edgedistill_serve import Bundle, BundleDamaged, BundleError
from edgedistill_serve.bundle.loading import write_bundle
from edgedistill_serve.bundle.manifest import ReviewRule


@pytest.fixture
def copy(bundle, tmp_path):
    """A bundle of one's own, to be broken."""
    return shutil.copytree(bundle.folder, tmp_path / "copy")


@pytest.fixture
def rewritten(bundle, tmp_path):
    """Write a bundle again with another manifest."""

    def write(of=bundle, **changes):
        files = {name: of.folder / name for name in of.manifest.files}
        return write_bundle(tmp_path / "rewritten", msgspec.structs.replace(of.manifest, **changes), files)

    return write


def relist(folder, name, content: bytes):
    """Put a file into the bundle, with the checksum that goes with it."""
    (folder / name).write_bytes(content)
    manifest = json.loads((folder / "bundle.json").read_text())
    manifest["files"][name] = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    (folder / "bundle.json").write_text(json.dumps(manifest))


def test_what_was_written_is_read_back(bundle):
    again = Bundle.load(bundle.folder)
    assert again == bundle
    assert again.task.names == ("process", "outcome", "person")
    assert len(again.golden.rows) == 5


def test_a_path_may_be_a_string_or_a_link_to_the_folder(bundle, tmp_path):
    (tmp_path / "current").symlink_to(bundle.folder)
    assert Bundle.load(str(tmp_path / "current")).manifest == bundle.manifest


def test_the_version_changes_with_the_files(make_bundle, tmp_path):
    first = make_bundle(tmp_path / "a").manifest.version
    assert make_bundle(tmp_path / "b", files={"README.md": b"other"}).manifest.version != first
    assert len(first) == 12


@pytest.mark.parametrize(
    "deciding",
    [
        {"temperature": 5.0},
        {"review": ReviewRule(thresholds={"person": 0.99})},
        {"review": ReviewRule(blank=False)},
        {"batch_invariant": True},
        {"precision": "fp32"},
        {"max_tokens": 23},
    ],
    ids=str,
)
def test_the_version_changes_with_what_decides_a_score(bundle, rewritten, deciding):
    assert rewritten(**deciding).manifest.version != bundle.manifest.version


def test_the_version_changes_with_the_threshold_of_a_label(moves_bundle, rewritten):
    thresholds = {**moves_bundle.manifest.thresholds, "person": 0.5}
    assert rewritten(moves_bundle, thresholds=thresholds).manifest.version != moves_bundle.manifest.version


@pytest.mark.parametrize(
    "reported", [{"name": "other"}, {"metrics": {"kappa": 0.5}}, {"provenance": {"seconds": 3.1}}, {}], ids=str
)
def test_the_version_does_not_change_with_metrics_and_provenance(bundle, rewritten, reported):
    assert rewritten(**reported).manifest.version == bundle.manifest.version


def test_the_version_does_not_depend_on_the_order_of_thresholds(rewritten):
    least = {"process": 0.7, "person": 0.9}
    turned = dict(reversed(least.items()))
    versions = [rewritten(review=ReviewRule(thresholds=each)).manifest.version for each in (least, turned)]
    assert versions[0] == versions[1]


def test_a_bundle_whose_version_follows_another_rule_is_read(tampered):
    folder = tampered(lambda content: content.update(version="0123456789ab"))
    assert Bundle.load(folder).manifest.version == "0123456789ab"


@pytest.mark.parametrize("name", ["onnx/model_quantized.onnx", "tokenizer.json", "golden.json", "README.md"])
def test_a_flipped_byte_is_detected(copy, name):
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(content)
    with pytest.raises(BundleDamaged, match=f"{name}: the file was changed"):
        Bundle.load(copy)


@pytest.mark.parametrize("name", ["onnx/model.onnx", "config.json"])
def test_a_missing_file_is_detected(copy, name):
    (copy / name).unlink()
    with pytest.raises(BundleDamaged, match=f"{name}: the file is missing"):
        Bundle.load(copy)


def test_a_larger_file_is_detected(copy):
    with (copy / "README.md").open("ab") as file:
        file.write(b"more")
    with pytest.raises(BundleDamaged, match=r"the file has 20 bytes, bundle\.json says 16"):
        Bundle.load(copy)


@pytest.mark.parametrize(
    "path",
    ["../secret", "onnx/../../secret", "/etc/hostname", "./README.md", "onnx//model.onnx", "", "C:\\secret", "a\0b"],
)
def test_a_path_out_of_the_folder_is_refused(tampered, path):
    folder = tampered(lambda content: content["files"].update({path: {"sha256": "0", "bytes": 1}}))
    (folder.parent / "secret").write_bytes(b"x")
    with pytest.raises(BundleDamaged, match="leads out of the bundle"):
        Bundle.load(folder)


def test_a_link_is_refused_even_to_the_right_content(copy, tmp_path):
    shutil.move(copy / "README.md", tmp_path / "README.md")
    (copy / "README.md").symlink_to(tmp_path / "README.md")
    with pytest.raises(BundleDamaged, match="contains a link"):
        Bundle.load(copy)


def test_a_linked_folder_is_refused(copy, tmp_path):
    shutil.move(copy / "onnx", tmp_path / "onnx")
    (copy / "onnx").symlink_to(tmp_path / "onnx")
    with pytest.raises(BundleDamaged, match="contains a link"):
        Bundle.load(copy)


def test_a_pipe_is_refused_and_not_waited_for(copy):
    (copy / "README.md").unlink()
    os.mkfifo(copy / "README.md")
    with pytest.raises(BundleDamaged, match="not a regular file"):
        Bundle.load(copy)


@pytest.mark.parametrize("size", [10**30, -1])
def test_an_impossible_size_is_refused(tampered, size):
    with pytest.raises(BundleError, match="bytes"):
        Bundle.load(tampered(lambda content: content["files"]["README.md"].update(bytes=size)))


def test_a_manifest_that_is_too_large_to_read_is_refused(copy):
    with (copy / "bundle.json").open("r+b") as file:
        file.truncate(64 * 1024 * 1024 + 1)
    with pytest.raises(BundleError, match="larger than"):
        Bundle.load(copy)


CHANGES = {
    "an unknown schema version": (lambda m: m.update(schema_version=5), "the schema version is 5"),
    "no schema version": (lambda m: m.pop("schema_version"), "schema_version"),
    "an unknown key": (lambda m: m.update(colour="blue"), "colour"),
    "a missing key": (lambda m: m.pop("max_tokens"), "max_tokens"),
    "a name of another type": (lambda m: m.update(name=3), "name"),
    "an empty name": (lambda m: m.update(name=" "), "the name is empty"),
    "an unknown precision": (lambda m: m.update(precision="int4"), "precision"),
    "no room": (lambda m: m.update(max_tokens=0), "an integer from 1 to"),
    "no temperature": (lambda m: m.update(temperature=0), "temperature"),
    "a temperature near 0": (lambda m: m.update(temperature=1e-308), "not a number from 0.001 to 1000"),
    "a temperature of everything": (lambda m: m.update(temperature=1e300), "not a number from 0.001 to 1000"),
    "a share above 1": (lambda m: m["review"].update(max_unknown_share=1.5), "max_unknown_share"),
    "an absurd length": (lambda m: m.update(max_tokens=1_000_000), "an integer from 1 to 32,768"),
    "one label": (lambda m: m["task"].update(labels=m["task"]["labels"][:1]), "at least two labels"),
    "the same label twice": (lambda m: m["task"]["labels"].append({"name": "person"}), "two labels have the name"),
    "an unnamed label": (lambda m: m["task"]["labels"].append({"name": ""}), "an empty name"),
    "no response": (lambda m: m["task"].update(inputs=["question"]), "task.inputs"),
    "an unknown input": (lambda m: m["task"].update(inputs=["hint", "response"]), "task.inputs"),
    "a threshold of no label": (lambda m: m["review"].update(thresholds={"x": 0.5}), "not a label of the task"),
    "a threshold above 1": (lambda m: m["review"].update(thresholds={"person": 1.5}), "not between 0 and 1"),
    "the served graph unlisted": (lambda m: m["files"].pop("onnx/model_quantized.onnx"), "is not listed"),
    "no tokenizer": (lambda m: m["files"].pop("tokenizer.json"), "tokenizer.json is not listed"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_manifest_that_cannot_be_is_refused_with_its_key(tampered, change):
    edit, message = CHANGES[change]
    with pytest.raises(BundleError, match=message):
        Bundle.load(tampered(edit))


@pytest.mark.parametrize("content", [b"", b"no json", b"[]", b"\xff\xfe", b"[" * 100_000, b'{"schema_version": NaN}'])
def test_a_manifest_that_is_not_a_json_object_is_refused(copy, content):
    (copy / "bundle.json").write_bytes(content)
    with pytest.raises(BundleError, match=r"bundle\.json: the file"):
        Bundle.load(copy)


def golden(logits=(1, 2, 3), inputs=("response",), **tolerance):
    return {"rows": [{"inputs": dict.fromkeys(inputs, "x"), "logits": logits}], "tolerance": tolerance}


GOLDEN = {
    "no rows": ({"rows": [], "tolerance": {"int8": 0.1}}, "no golden rows"),
    "too few logits": (golden(logits=[1.0], int8=0.1), "1 logits for 3 labels"),
    "other inputs": (golden(inputs=["question"], int8=0.1), "the inputs must be response"),
    "no tolerance": (golden(fp32=0.1), "int8 has no tolerance"),
    "a tolerance of everything": (golden(int8=1.0), r"tolerance.int8: the tolerance is not a number from 0 to 0.25"),
    "an infinite logit": (golden(logits=[1, 2, 1e300], int8=0.1), "a logit is not a number from"),
}


@pytest.mark.parametrize("fault", GOLDEN)
def test_golden_rows_that_do_not_fit_are_refused(copy, fault):
    content, message = GOLDEN[fault]
    relist(copy, "golden.json", json.dumps(content).encode())
    with pytest.raises(BundleError, match=message):
        Bundle.load(copy)


def test_a_path_that_is_not_a_bundle_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    for name, message in {
        "nowhere": "folder does not exist",
        "file": "this is a file",
        "empty": "no bundle.json",
    }.items():
        with pytest.raises(BundleError, match=message):
            Bundle.load(tmp_path / name)


def test_a_bundle_replaces_a_bundle_and_leaves_nothing_behind(make_bundle, tmp_path):
    first = make_bundle(tmp_path / "bundle")
    second = make_bundle(tmp_path / "bundle", files={"README.md": b"new"})
    assert second.manifest.version != first.manifest.version
    assert Bundle.load(tmp_path / "bundle") == second
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_an_invalid_bundle_leaves_the_old_one_unchanged(make_bundle, tmp_path):
    first = make_bundle(tmp_path / "bundle")
    with pytest.raises(BundleError, match="not a label of the task"):
        make_bundle(tmp_path / "bundle", review=ReviewRule(thresholds={"nobody": 0.5}))
    assert Bundle.load(tmp_path / "bundle") == first
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_a_folder_of_something_else_is_not_replaced(make_bundle, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("years of work")
    with pytest.raises(BundleError, match="the folder exists and is not a bundle"):
        make_bundle(tmp_path / "thesis")
    assert (tmp_path / "thesis" / "chapter.txt").read_text() == "years of work"


def test_a_source_that_is_absent_is_an_error_and_writes_nothing(make_bundle, tmp_path):
    with pytest.raises(BundleError, match="cannot be written"):
        make_bundle(tmp_path / "bundle", files={"config.json": tmp_path / "nowhere.json"})
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_is_not_written_outside_its_folder(make_bundle, tmp_path):
    with pytest.raises(BundleDamaged, match="leads out"):
        make_bundle(tmp_path / "bundle", files={"../elsewhere": b"x"})
    assert list(tmp_path.iterdir()) == []


def test_a_notebook_shows_name_task_and_sizes_of_a_bundle_escaped(rewritten):
    shown = rewritten(name="<b>praise & co</b>")._repr_html_()
    assert "&lt;b&gt;praise &amp; co&lt;/b&gt;" in shown
    assert "<b>" not in shown
    assert "nominal: process, outcome" in shown
