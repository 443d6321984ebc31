"""Tuning serves the fastest graph that keeps the labels, or fp32, and says which."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import onnx
import pytest
from onnx import numpy_helper

from edgedistill_export import ExportFailed, ExportPlan, export_bundle
from edgedistill_export.quantize.tuning import RecipeResult, choose_recipe
from edgedistill_serve.scoring.encoding import Encoded

from ..tiny import MAX_TOKENS, PRAISE, rows_for, save_student


def _tried(recipe: str, flip_rate: float, speed: float) -> RecipeResult:
    return RecipeResult(recipe, flip_rate=flip_rate, texts_per_second={1: speed, 2: 0.0})


def _same(fp32: Path, target: Path, _rows: Sequence[Encoded]) -> None:
    shutil.copy(fp32, target)


def _turned(fp32: Path, target: Path, _rows: Sequence[Encoded]) -> None:
    model = onnx.load(fp32)
    for weights in model.graph.initializer:
        if "classifier" in weights.name:
            weights.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(weights), weights.name))
    onnx.save(model, target)


def _none(fp32: Path, target: Path, _rows: Sequence[Encoded]) -> None:
    raise ExportFailed("this graph cannot be made")


def _plan(**more: object) -> ExportPlan:
    return ExportPlan("praise", PRAISE, MAX_TOKENS, "auto", 0.0, **more)


def test_the_fastest_that_keeps_the_labels_is_chosen():
    tried = [_tried("fp32", 0.0, 100), _tried("slow", 0.0, 200), _tried("fast", 0.01, 300), _tried("wrong", 0.02, 400)]
    assert choose_recipe(tried, 0.01) == "fast"


def test_fp32_is_chosen_where_nothing_else_keeps_the_labels():
    assert choose_recipe([_tried("fp32", 0.0, 100), _tried("wrong", 0.02, 400)], 0.01) == "fp32"


def test_fp32_is_chosen_where_it_is_the_fastest():
    assert choose_recipe([_tried("fp32", 0.0, 100), _tried("exact", 0.0, 90)], 0.01) == "fp32"


def test_no_flip_among_few_rows_does_not_hide_that_flips_are_to_be_expected():
    lucky = RecipeResult("lucky", flip_rate=0.0, expected_flip_rate=0.02, texts_per_second={1: 300.0})
    assert choose_recipe([_tried("fp32", 0.0, 100), lucky], 0.01) == "fp32"


def test_recipes_that_flip_labels_or_make_no_graph_leave_fp32_served(tmp_path: Path):
    student = save_student(tmp_path / "student", PRAISE)
    recipes = {"turned": _turned, "none": _none}
    exported = export_bundle(student, tmp_path / "bundle", _plan(), rows_for(PRAISE), recipes=recipes)
    assert exported.served == "fp32"
    assert exported.notes == ("fp32 is served: every recipe failed or changes more than 0.00% of the labels.",)
    assert exported.tuning is not None
    by_name = {tried.recipe: tried for tried in exported.tuning.tried}
    assert by_name["none"].fault == "this graph cannot be made"
    assert by_name["turned"].flip_rate == 1.0
    message = (tmp_path / "bundle" / "README.md").read_text()
    assert exported.notes[0] in message
    assert "| turned | 100.00% |" in message
    assert "none failed: this graph cannot be made" in message


def test_what_was_chosen_is_named_in_the_bundle(tmp_path: Path):
    student = save_student(tmp_path / "student", PRAISE)
    rows = rows_for(PRAISE)
    plan = _plan(codes=[PRAISE.names[place % 3] for place in range(len(rows))])
    exported = export_bundle(student, tmp_path / "bundle", plan, rows, recipes={"same": _same})
    assert exported.tuning is not None
    assert exported.bundle.manifest.recipe == ("" if exported.served == "fp32" else "same")
    (fp32, same) = exported.tuning.tried
    assert (same.flips, same.kappa_lost, same.worst_recall_change) == (0, 0.0, 0.0)
    assert same.calibration_error == pytest.approx(fp32.calibration_error)
    assert set(same.texts_per_second or ()) == {1, 2}


def test_the_group_whose_labels_change_most_is_reported(tmp_path: Path):
    rows = rows_for(PRAISE)
    student = save_student(tmp_path / "student", PRAISE)
    plan = _plan(groups=["a", "b"] * len(rows))
    exported = export_bundle(student, tmp_path / "bundle", plan, rows * 2, recipes={"turned": _turned})
    assert exported.tuning is not None
    assert exported.tuning.tried[1].worst_group_flip_rate == 1.0


def test_locked_rows_are_scored_by_every_form_that_is_served(tmp_path: Path):
    student = save_student(tmp_path / "student", PRAISE)
    rows = rows_for(PRAISE)
    seen: dict[str, Sequence[str]] = {}

    def compare(labels: dict[str, Sequence[str]]) -> list[dict[str, str]]:
        seen.update(labels)
        return [{"before": "PyTorch"}]

    plan = ExportPlan("praise", PRAISE, MAX_TOKENS, "int8", 1.0, locked=rows, compare=compare)
    exported = export_bundle(student, tmp_path / "bundle", plan, rows)
    assert list(seen) == ["PyTorch", "ONNX fp32", "int8"]
    assert all(len(labels) == len(rows) for labels in seen.values())
    assert exported.locked == ({"before": "PyTorch"},)
    assert exported.bundle.manifest.provenance["export"]["steps_on_test_rows"] == [{"before": "PyTorch"}]
