"""No file that an export reads or writes is a pickle: reading one can run code."""

import pickle
import zipfile
from pathlib import Path

import torch

from edgedistill_export import ExportPlan, export_bundle

from ..pickles import holds_a_pickle
from .tiny import MAX_TOKENS, PRAISE, rows_for, save_student


def test_no_file_of_a_bundle_or_a_checkpoint_is_a_pickle(tmp_path: Path):
    student = save_student(tmp_path / "student", PRAISE)
    plan = ExportPlan("praise", PRAISE, MAX_TOKENS, "int8", 1.0, vocabulary="cut")
    export_bundle(student, tmp_path / "bundle", plan, rows_for(PRAISE))
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert len(files) > 10
    assert [file for file in files if holds_a_pickle(file)] == []


def test_a_pickle_is_known_in_itself_and_inside_a_zip(tmp_path: Path):
    (tmp_path / "plain").write_bytes(pickle.dumps({"a": 1}))
    torch.save({"weights": torch.zeros(2)}, tmp_path / "torch")
    with zipfile.ZipFile(tmp_path / "zip", "w") as archive:
        archive.writestr("text", "no pickle")
    assert [holds_a_pickle(tmp_path / name) for name in ("plain", "torch", "zip")] == [True, True, False]
