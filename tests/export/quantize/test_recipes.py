"""A quantized graph keeps each row's score its own, and close to fp32's."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgedistill_export import Checkpoint, ExportFailed
from edgedistill_export.convert.exporter import to_onnx
from edgedistill_export.convert.graph import Graph, LinearLayer
from edgedistill_export.quantize.activation_scaling import LayerInputs, choose_activation_scaling
from edgedistill_export.quantize.int8_layers import Activation
from edgedistill_export.quantize.prune_last_layer import prune_last_layer
from edgedistill_export.quantize.recipes import RECIPES, Recipe, quantize_int8
from edgedistill_export.quantize.rounding import round_gptq, round_to_nearest
from edgedistill_serve.scoring.encoding import Encoded
from edgedistill_serve.scoring.session import Session

from ..tiny import BERT, FAMILIES, GRADING, MAX_TOKENS, Kin, rows_for, save_student


def _fp32(folder: Path, kin: Kin = BERT) -> tuple[Path, Sequence[Encoded]]:
    student = Checkpoint.load(save_student(folder / "student", GRADING, kin), GRADING, MAX_TOKENS)
    to_onnx(student, folder / "model.onnx")
    return folder / "model.onnx", student.encoder.encode(rows_for(GRADING))


def _logits(graph: Path, rows: Sequence[Encoded]) -> np.ndarray:
    session = Session(graph)
    return np.array([session.logits(row) for row in rows])


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_every_recipe_makes_a_smaller_graph_near_fp32(tmp_path: Path, recipe: Recipe):
    fp32, rows = _fp32(tmp_path)
    recipe(fp32, tmp_path / "int8.onnx", rows)
    assert (tmp_path / "int8.onnx").stat().st_size < fp32.stat().st_size
    wanted = _logits(fp32, rows)
    error = np.sqrt(((_logits(tmp_path / "int8.onnx", rows) - wanted) ** 2).mean())
    assert 0 < error < 0.35 * wanted.std()


@pytest.mark.parametrize("kin", FAMILIES, ids=lambda kin: kin.name)
def test_a_row_scores_the_same_in_any_batch(tmp_path: Path, kin: Kin):
    fp32, rows = _fp32(tmp_path, kin)
    quantize_int8(fp32, tmp_path / "int8.onnx", rows)
    together = Session(tmp_path / "int8.onnx").batch_logits(rows)
    np.testing.assert_allclose(together, _logits(tmp_path / "int8.onnx", rows), atol=0.02)


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_rows_of_one_length_have_the_same_bits_together_and_alone(tmp_path: Path, recipe: Recipe):
    fp32, rows = _fp32(tmp_path)
    recipe(fp32, tmp_path / "int8.onnx", rows)
    session, draw = Session(tmp_path / "int8.onnx"), np.random.default_rng(0)
    for length, size in ((4, 2), (5, 16), (7, 3), (16, 4), (31, 5), (48, 9)):
        ids = draw.integers(5, 60, size=(size, length)).tolist()
        strangers = [Encoded(tuple(row), (0,) * length, length, truncated=False) for row in ids]
        alone = np.array([session.logits(row) for row in strangers])
        np.testing.assert_array_equal(session.batch_logits(strangers), alone)


@pytest.mark.parametrize("kin", FAMILIES, ids=lambda kin: kin.name)
def test_leaving_out_what_no_score_depends_on_changes_no_score(tmp_path: Path, kin: Kin):
    fp32, rows = _fp32(tmp_path, kin)
    graph = Graph(fp32)
    assert prune_last_layer(graph)
    graph.save(tmp_path / "short.onnx")
    np.testing.assert_allclose(_logits(tmp_path / "short.onnx", rows), _logits(fp32, rows), atol=1e-5)
    np.testing.assert_allclose(Session(tmp_path / "short.onnx").batch_logits(rows), _logits(fp32, rows), atol=1e-4)


def test_a_graph_without_layers_is_refused(tmp_path: Path):
    identity = onnx.helper.make_node("Identity", ["x"], ["logits"])
    sides = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["rows", 2]) for name in ("x", "logits")]
    graph = onnx.helper.make_graph([identity], "empty", sides[:1], sides[1:])
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)]), tmp_path / "model.onnx")
    with pytest.raises(ExportFailed, match="no layer that can be quantized"):
        quantize_int8(tmp_path / "model.onnx", tmp_path / "int8.onnx", [])


def _linear(weights: np.ndarray) -> LinearLayer:
    product = onnx.helper.make_node("MatMul", ["x", "weights"], ["y"])
    return LinearLayer(product, "x", "y", weights, None, None)


def test_a_channel_of_far_larger_values_is_multiplied_apart():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(500, 64)).astype(np.float32)
    values[:, 7] *= 40
    layers, fed = [_linear(rng.normal(size=(64, 32)).astype(np.float32))], {"x": LayerInputs(values)}
    alone = choose_activation_scaling(layers, fed, ("fixed",))
    outlying = choose_activation_scaling(layers, fed, ("fixed",), outliers=1)
    assert outlying["x"].outliers == (7,)

    def change(how: Activation) -> float:
        """Of the layer's outputs, the mean squared one."""
        scaled, weights = how.scaled(values), how.counterpart(layers[0].weights)
        integers, scales = round_to_nearest(weights)
        return float(((how.rounded(scaled) @ (integers * scales) - scaled @ weights) ** 2).mean())

    assert change(outlying["x"]) < 0.5 * change(alone["x"])


def test_an_input_above_zero_has_a_scale_for_each_token():
    rng = np.random.default_rng(0)
    fed = {"x": LayerInputs(np.maximum(rng.normal(size=(500, 64)), -0.1).astype(np.float32))}
    how = choose_activation_scaling([_linear(rng.normal(size=(64, 32)).astype(np.float32))], fed, ("fixed", "above"))[
        "x"
    ]
    assert how.scaling == "above"
    small = np.full((1, 64), 0.9, dtype=np.float32)
    assert np.abs(how.rounded(small) - small).max() < 0.9 / 200


def test_carried_errors_change_a_layers_outputs_less_than_nearest_integers():
    rng = np.random.default_rng(0)
    mixed = rng.normal(size=(64, 64)).astype(np.float32)
    fed = (rng.normal(size=(500, 64)) @ mixed).astype(np.float32)
    weights = rng.normal(size=(64, 32)).astype(np.float32)

    def change(rounded: tuple[np.ndarray, np.ndarray]) -> float:
        return float(((fed @ (rounded[0] * rounded[1]) - fed @ weights) ** 2).mean())

    assert change(round_gptq(weights, fed)) < 0.8 * change(round_to_nearest(weights))
