"""An export that fails writes nothing, and what was there stays whole."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from edgedistill_export import ExportFailed, export_bundle
from edgedistill_serve.errors import BundleError, DataError

from .exporting import contents_of, plan_of, unfaithful
from .tiny import GRADING, PRAISE, rows_for, save_student


@pytest.fixture
def student(tmp_path: Path) -> Path:
    return save_student(tmp_path / "student", PRAISE)


def test_a_conversion_that_changes_the_model_leaves_the_old_bundle_whole(student: Path, tmp_path: Path):
    export_bundle(student, tmp_path / "bundle", plan_of(), rows_for(PRAISE))
    before = contents_of(tmp_path)
    with pytest.raises(ExportFailed, match="ONNX fp32 does not agree with PyTorch"):
        export_bundle(student, tmp_path / "bundle", plan_of(), rows_for(PRAISE), convert=unfaithful)
    assert contents_of(tmp_path) == before


def test_a_failed_export_leaves_nothing_where_nothing_was(student: Path, tmp_path: Path):
    with pytest.raises(ExportFailed):
        export_bundle(student, tmp_path / "bundle", plan_of(), rows_for(PRAISE), convert=unfaithful)
    assert [path.name for path in tmp_path.iterdir()] == ["student"]


@contextmanager
def _as_nobody() -> Iterator[None]:
    """Give up root's right to write everywhere, where the tests run as root."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def test_a_target_that_cannot_be_written_keeps_the_old_bundle_whole():
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders cannot be entered by another user
        place = Path(name)
        student = save_student(place / "student", PRAISE)
        export_bundle(student, place / "shelf" / "bundle", plan_of(), rows_for(PRAISE))
        before = contents_of(place / "shelf")
        (student / "model.safetensors").chmod(0o644)
        (place / "shelf").chmod(0o555)
        place.chmod(0o755)
        with _as_nobody(), pytest.raises(BundleError, match="cannot be written"):
            export_bundle(student, place / "shelf" / "bundle", plan_of(precision="fp32"), rows_for(PRAISE))
        assert contents_of(place / "shelf") == before
        (place / "shelf").chmod(0o755)


def test_a_folder_of_something_else_is_not_replaced(student: Path, tmp_path: Path):
    before = contents_of(student)
    with pytest.raises(BundleError, match="is not a bundle"):
        export_bundle(student, student, plan_of(), rows_for(PRAISE))
    assert contents_of(student) == before


def test_an_export_without_rows_to_check_with_is_refused(student: Path, tmp_path: Path):
    with pytest.raises(ExportFailed, match="without validation rows"):
        export_bundle(student, tmp_path / "bundle", plan_of(), [])


def test_the_row_that_lacks_an_input_is_named(tmp_path: Path):
    student = save_student(tmp_path / "student", GRADING)
    rows = [*rows_for(GRADING)[:2], {"response": "ok"}]
    with pytest.raises(DataError, match="validation row 3: the input 'question' is missing"):
        export_bundle(student, tmp_path / "bundle", plan_of(GRADING), rows)


def test_a_student_whose_training_diverged_is_refused(student: Path, tmp_path: Path):
    weights = load_file(student / "model.safetensors")
    weights["classifier.bias"] = torch.full_like(weights["classifier.bias"], float("nan"))
    save_file(weights, student / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ExportFailed, match="logits are not finite"):
        export_bundle(student, tmp_path / "bundle", plan_of(), rows_for(PRAISE))
    assert not (tmp_path / "bundle").exists()
