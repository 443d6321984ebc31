"""Exactly one build of onnxruntime must be installed."""

import os
import subprocess
import sys

import pytest

from edgedistill_serve import RuntimeMissing
from edgedistill_serve.scoring.onnxruntime_install import check_builds, installed_builds


def test_the_build_that_is_installed_here_is_found():
    assert installed_builds() == ("onnxruntime",)
    check_builds(installed_builds())


def test_none_is_fixed_by_installing_one():
    with pytest.raises(RuntimeMissing, match=r'pip install "edgedistill-serve\[cpu\]"'):
        check_builds(())


def test_both_are_refused_although_they_can_be_imported(bundle, tmp_path):
    metadata = tmp_path / "onnxruntime_gpu-1.22.0.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text("Metadata-Version: 2.1\nName: onnxruntime-gpu\nVersion: 1.22.0\n")
    command = [sys.executable, "-m", "edgedistill_serve", "score", str(bundle.folder), "hello"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert ended.returncode == 2
    assert "onnxruntime and onnxruntime-gpu are both installed" in ended.stderr
    assert "pip uninstall -y onnxruntime onnxruntime-gpu" in ended.stderr
    assert ended.stderr.count("\n") == 1
