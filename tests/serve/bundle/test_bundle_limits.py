"""The sizes in the manifest are checked before any file is read."""

import json
import os
import subprocess
import sys

import pytest

from edgedistill_serve import Bundle, BundleError

LOAD = """
import resource, sys
from edgedistill_serve import Bundle, BundleError
try: Bundle.load(sys.argv[1])
except BundleError as error: print(error)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("tokenizer.json", 64 * 2**20 + 1),
        ("golden.json", 16 * 2**20 + 1),
        ("onnx/model.onnx", 2**31),
        ("README.md", -1),
    ],
)
def test_a_declared_size_above_its_limit_is_refused_with_the_limit(tampered, name, size):
    folder = tampered(lambda content: content["files"][name].update(bytes=size))
    with pytest.raises(BundleError, match=rf"files: {name} has {size} bytes, \d+ are allowed"):
        Bundle.load(folder)


def test_more_files_than_are_allowed_are_refused(tampered):
    entry = {"sha256": "0" * 64, "bytes": 1}
    folder = tampered(lambda content: content["files"].update({f"{i}.txt": entry for i in range(300)}))
    with pytest.raises(BundleError, match="files, 256 are allowed"):
        Bundle.load(folder)


def test_a_length_that_no_encoder_reads_is_refused(tampered):
    with pytest.raises(BundleError, match="not an integer from 1 to 32,768"):
        Bundle.load(tampered(lambda content: content.update(max_tokens=10**30)))


@pytest.mark.parametrize("name", ["bundle.json", "tokenizer.json", "golden.json", "onnx/model.onnx"])
def test_a_file_of_many_gigabytes_costs_no_memory(make_bundle, tmp_path, name):
    folder = make_bundle(tmp_path / "bundle").folder
    usual = int(subprocess.run([sys.executable, "-c", LOAD, folder], capture_output=True, check=True).stdout)
    os.truncate(folder / name, 8 * 2**30)  # sparse: on disk it is small
    ended = subprocess.run([sys.executable, "-c", LOAD, folder], capture_output=True, text=True, check=True)
    message, peak = ended.stdout.splitlines()
    assert "bytes" in message
    assert int(peak) < usual + 32 * 1024  # kibibytes


def test_files_that_are_not_listed_are_named_and_not_read(make_bundle, tmp_path):
    folder = make_bundle(tmp_path / "bundle").folder
    (folder / ".cache").mkdir()
    for name in ("notes.txt", ".cache/README.md", "onnx/model.onnx_data"):
        (folder / name).write_text("x")
    os.mkfifo(folder / "pipe")  # reading it would wait for good
    assert Bundle.load(folder).unlisted == (".cache/README.md", "notes.txt", "onnx/model.onnx_data", "pipe")


def test_very_many_unlisted_files_are_not_all_named(make_bundle, tmp_path):
    folder = make_bundle(tmp_path / "bundle").folder
    for i in range(150):
        (folder / f"{i}.txt").touch()
    assert len(Bundle.load(folder).unlisted) == 100


def test_a_manifest_lists_every_other_file_with_its_checksum(bundle):
    listed = json.loads((bundle.folder / "bundle.json").read_text())["files"]
    there = {file.relative_to(bundle.folder).as_posix() for file in bundle.folder.rglob("*") if file.is_file()}
    assert there == {*listed, "bundle.json"}
