"""If a writer is killed or fails at any point, the old or the new content is there completely, and nothing else."""

import os
import signal
import subprocess
import sys
import time

import pytest

from edgedistill_serve import Bundle, BundleError
from edgedistill_serve.bundle.atomic_folder import replace_file

from ...full_disk import full_disk

# The child writes a bundle, and an audit hook kills it before its Nth rename, or before it deletes the old bundle.
CHILD = """
import json, os, signal, sys
from pathlib import Path
from edgedistill_serve import Bundle
from edgedistill_serve.bundle.loading import write_bundle

source, target, event, count = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
loaded = Bundle.load(source)
files = {name: source / name for name in loaded.manifest.files} | {"README.md": b"new"}
seen = 0

def hook(name, arguments):
    global seen
    if name == event and str(target.name) in str(arguments[0]):
        seen += 1
        if seen == count:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(hook)
write_bundle(target, loaded.manifest, files)
"""


def killed_writer(bundle, target, event, count):
    ended = subprocess.run(
        [sys.executable, "-c", CHILD, str(bundle.folder), str(target), event, str(count)],
        capture_output=True,
        text=True,
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr


def readme(folder):
    return (Bundle.load(folder).folder / "README.md").read_bytes()


@pytest.fixture
def old(make_bundle, tmp_path):
    return make_bundle(tmp_path / "bundles" / "praise", files={"README.md": b"old"}).folder


def test_a_writer_killed_before_the_first_rename_leaves_the_old_bundle(bundle, old):
    killed_writer(bundle, old, "os.rename", 1)
    assert readme(old) == b"old"


def test_a_writer_killed_between_the_renames_leaves_the_new_bundle_to_the_next_reader(bundle, old):
    killed_writer(bundle, old, "os.rename", 2)
    assert not old.exists()
    assert readme(old) == b"new"
    assert [path.name for path in old.parent.iterdir()] == ["praise"]


def test_a_writer_killed_between_the_renames_is_fixed_by_the_next_writer(bundle, make_bundle, old):
    killed_writer(bundle, old, "os.rename", 2)
    make_bundle(old, files={"README.md": b"newer"})
    assert readme(old) == b"newer"
    assert [path.name for path in old.parent.iterdir()] == ["praise"]


def test_a_failed_writer_keeps_a_replacement_that_it_has_finished(bundle, make_bundle, old):
    killed_writer(bundle, old, "os.rename", 2)
    with pytest.raises(BundleError, match="the name is empty"):
        make_bundle(old, name=" ")
    assert readme(old) == b"new"


def test_a_writer_killed_before_it_deletes_the_old_bundle_has_put_the_new_one_into_place(bundle, make_bundle, old):
    killed_writer(bundle, old, "shutil.rmtree", 1)
    assert readme(old) == b"new"
    make_bundle(old, files={"README.md": b"newer"})
    assert [path.name for path in old.parent.iterdir()] == ["praise"]


def test_a_writer_killed_where_nothing_was_leaves_nothing_that_is_read(bundle, tmp_path):
    killed_writer(bundle, tmp_path / "praise", "os.rename", 1)
    with pytest.raises(BundleError, match="folder does not exist"):
        Bundle.load(tmp_path / "praise")


def test_an_old_bundle_without_a_new_one_is_put_back(old):
    old.rename(old.with_name(".praise.0123abcd.old"))
    assert readme(old) == b"old"


def test_what_a_killed_writer_began_is_deleted_after_a_day_and_not_before(make_bundle, old):
    begun = old.with_name(".praise.0123abcd")
    begun.mkdir()
    make_bundle(old)
    assert begun.exists()
    yesterday = time.time() - 25 * 60 * 60
    os.utime(begun, (yesterday, yesterday))
    make_bundle(old)
    assert not begun.exists()


def test_a_hidden_folder_of_another_name_is_left_alone(make_bundle, old):
    other = old.with_name(".praise.backup.old")
    other.mkdir()
    make_bundle(old)
    assert other.exists()


def test_a_file_that_does_not_fit_on_the_disk_is_as_before(tmp_path):
    (tmp_path / "report.json").write_bytes(b"old")
    with full_disk(100), pytest.raises(OSError, match="too large"):
        replace_file(tmp_path / "report.json", b"new" * 100)
    assert {each.name: each.read_bytes() for each in tmp_path.iterdir()} == {"report.json": b"old"}
