"""A full disk or a folder without write permission leaves the old bundle unchanged."""

import subprocess
import sys

import pytest

from edgedistill_serve import Bundle

# No file may grow beyond the limit, which to a writer is what a full disk is.
CHILD = """
import resource, signal, sys
from pathlib import Path
from edgedistill_serve import Bundle, BundleError
from edgedistill_serve.bundle.loading import write_bundle
from edgedistill_serve.bundle.archive import pack

source, target, what = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
loaded = Bundle.load(source)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (8000, 8000))
files = {name: source / name for name in loaded.manifest.files}
try:
    write_bundle(target, loaded.manifest, files) if what == "write" else pack(loaded, target, overwrite=True)
except BundleError as error:
    print(error)
"""


@pytest.mark.parametrize("what", ["write", "pack"])
def test_a_full_disk_keeps_what_was_there(bundle, make_bundle, tmp_path, what):
    target = tmp_path / "target"
    if what == "write":
        make_bundle(target, files={"README.md": b"old"})
    else:
        target.write_bytes(b"old")
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    command = [sys.executable, "-c", CHILD, str(bundle.folder), str(target), what]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "cannot be written" in ended.stdout
    assert "File too large" in ended.stdout
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before
    assert what == "pack" or Bundle.load(target).manifest.version
