"""No 8-bit product of a bundle overflows 16 bits, on processors without VNNI too."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from onnx import TensorProto, helper, numpy_helper

from edgedistill_export import Checkpoint, ExportFailed, export_bundle
from edgedistill_export.convert.exporter import to_onnx
from edgedistill_export.quantize.overflow import check_overflow
from edgedistill_export.quantize.recipes import RECIPES, Recipe
from edgedistill_export.quantize.rounding import MAX_PAIR_SUM, pair_sums, round_gptq, round_to_nearest
from edgedistill_serve.scoring.encoding import Encoded
from edgedistill_serve.scoring.session import Session

from ..exporting import plan_of
from ..tiny import FAMILIES, GRADING, MAX_TOKENS, PRAISE, Kin, quantized_by_onnxruntime, rows_for, save_student

WIDEST = 255
"""The largest integer of an activation."""

shapes = st.tuples(st.integers(1, 9), st.integers(1, 4))
weights = shapes.flatmap(
    lambda shape: arrays.arrays(np.float32, shape, elements=st.floats(-3, 3, width=32, allow_subnormal=False))
)


def _worst_sums(integers: np.ndarray) -> np.ndarray:
    """The largest absolute sum of two products of neighbours, whatever they are multiplied by."""
    wide = integers.astype(int)
    first, second = wide[: len(wide) // 2 * 2 : 2], wide[1::2]
    return np.array([np.abs(a * first + b * second) for a in (0, WIDEST) for b in (0, WIDEST)])


@given(weights)
def test_no_pair_overflows_whatever_the_weights(floats: np.ndarray):
    fed = np.random.default_rng(0).normal(size=(20, len(floats))).astype(np.float32)
    for integers, scales in (round_to_nearest(floats), round_gptq(floats, fed)):
        assert _worst_sums(integers).max(initial=0) < 2**15
        assert np.abs(integers.astype(int)).max() <= 127
        assert (scales > 0).all()


@given(weights)
def test_limited_weights_stay_within_a_step_of_their_values(floats: np.ndarray):
    integers, scales = round_to_nearest(floats)
    assert (np.abs(integers * scales - floats) <= 1.001 * scales).all()


def test_an_output_whose_pairs_are_small_keeps_its_whole_range():
    integers, _ = round_to_nearest(np.array([[1.0], [0.0], [-0.5], [0.25]], dtype=np.float32))
    assert integers.ravel().tolist() == [127, 0, -64, 32]


def test_a_pair_of_one_sign_makes_the_scale_wider_and_a_pair_of_two_signs_does_not():
    values = np.array([[1.0, 1.0], [1.0, -1.0]], dtype=np.float32)
    integers, _ = round_to_nearest(values)
    assert integers.tolist() == [[64, 127], [64, -127]]


@pytest.mark.parametrize("kin", FAMILIES, ids=lambda kin: kin.name)
@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_every_recipe_passes_the_proof(tmp_path: Path, recipe: Recipe, kin: Kin):
    student = Checkpoint.load(save_student(tmp_path / "student", GRADING, kin), GRADING, MAX_TOKENS)
    to_onnx(student, tmp_path / "model.onnx")
    recipe(tmp_path / "model.onnx", tmp_path / "int8.onnx", student.encoder.encode(rows_for(GRADING)))
    kinds = {node.op_type for node in onnx.load(tmp_path / "int8.onnx").graph.node}
    assert kinds & {"MatMulInteger", "MatMulIntegerToFloat"}
    check_overflow(tmp_path / "int8.onnx")


def _graph(file: Path, node: onnx.NodeProto, values: np.ndarray) -> Path:
    sides = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("x", "logits")]
    constants = [numpy_helper.from_array(values, "w")]
    graph = helper.make_graph([node], "one product", sides[:1], sides[1:], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]), file)
    return file


@pytest.mark.parametrize(
    ("column", "sound"),
    [
        ([64, 64], True),
        ([127, 1], True),
        ([-128, 0], True),
        ([127, -127], True),
        ([5, 100, 100, 5], True),
        ([127, 2], False),
        ([-100, -29], False),
        ([0, 0, 65, 64], False),
        ([1, 1, 127], True),
    ],
)
@pytest.mark.parametrize("kind", ["MatMulInteger", "MatMulIntegerToFloat", "DynamicQuantizeMatMul", "QAttention"])
def test_the_proof_is_the_bound_on_every_pair(tmp_path: Path, kind: str, column: list[int], sound: bool):
    values = np.array([[0, value] for value in column], dtype=np.int8)
    file = _graph(tmp_path / "model.onnx", helper.make_node(kind, ["x", "w"], ["logits"], name="layer"), values)
    if sound:
        check_overflow(file)
    else:
        with pytest.raises(ExportFailed, match=r"weights of 'layer' sum to .* overflow on processors without VNNI"):
            check_overflow(file)


def test_only_pairs_that_start_at_an_even_row_are_multiplied_together():
    column = np.array([[5], [100], [100], [5]], dtype=np.int8)
    assert pair_sums(column).tolist() == [[105], [105]]
    assert pair_sums(np.vstack([np.int8([[0]]), column])).max() > MAX_PAIR_SUM


@pytest.mark.parametrize(
    ("kind", "inputs", "dtype"),
    [
        ("ConvInteger", ["x", "w"], np.int8),
        ("QGemm", ["x", "x", "x", "w"], np.int8),
        ("MatMulInteger", ["x", "x"], np.int8),
        ("MatMulInteger", ["w", "x"], np.int8),
        ("DequantizeLinear", ["w", "x"], np.int8),
        ("MatMulNBits", ["x", "w", "x"], np.uint8),
    ],
)
def test_what_nobody_can_prove_is_refused(tmp_path: Path, kind: str, inputs: list[str], dtype: type):
    file = _graph(tmp_path / "model.onnx", helper.make_node(kind, inputs, ["logits"]), np.ones((2, 2), dtype))
    with pytest.raises(ExportFailed, match=f"the 8-bit products of {kind}"):
        check_overflow(file)


def test_a_product_inside_a_branch_is_looked_at(tmp_path: Path):
    product = helper.make_node("MatMulInteger", ["x", "w"], ["inner"], name="hidden")
    found = helper.make_tensor_value_info("inner", TensorProto.INT32, None)
    branch = helper.make_graph([product], "branch", [], [found])
    node = helper.make_node("If", ["x"], ["logits"], then_branch=branch, else_branch=branch)
    file = _graph(tmp_path / "model.onnx", node, np.full((2, 1), 100, dtype=np.int8))
    with pytest.raises(ExportFailed, match="weights of 'hidden' sum to 200"):
        check_overflow(file)


def test_a_table_that_rows_are_looked_up_in_and_unsigned_weights_may_hold_anything(tmp_path: Path):
    table = helper.make_node("Gather", ["w", "x"], ["logits"])
    check_overflow(_graph(tmp_path / "table.onnx", table, np.full((4, 2), 127, dtype=np.int8)))
    product = helper.make_node("MatMulInteger", ["x", "w"], ["logits"])
    check_overflow(_graph(tmp_path / "product.onnx", product, np.full((4, 2), 255, dtype=np.uint8)))


def _overflowing(fp32: Path, int8: Path, rows: Sequence[Encoded]) -> None:
    """A quantization of somebody else's, whose first weights are as large as 8 bits allow."""
    quantized_by_onnxruntime(fp32, int8, rows)
    model = onnx.load(int8)
    tensor = next(one for one in model.graph.initializer if one.data_type == TensorProto.INT8 and len(one.dims) == 2)
    tensor.CopyFrom(numpy_helper.from_array(np.full(tuple(tensor.dims), 127, dtype=np.int8), tensor.name))
    onnx.save(model, int8)


def test_a_graph_that_can_overflow_is_not_served(tmp_path: Path):
    student = save_student(tmp_path / "student", PRAISE)
    exported = export_bundle(student, tmp_path / "bundle", plan_of(), rows_for(PRAISE), quantize=_overflowing)
    assert exported.served == "fp32"
    assert "sum to 254; above 128 their products overflow" in exported.notes[0]


def test_tuning_leaves_out_a_graph_that_can_overflow(tmp_path: Path):
    student = save_student(tmp_path / "student", PRAISE)
    plan, recipes = plan_of(precision="auto"), {"other": _overflowing}
    exported = export_bundle(student, tmp_path / "bundle", plan, rows_for(PRAISE), recipes=recipes)
    assert exported.tuning is not None
    (_, tried) = exported.tuning.tried
    assert "their products overflow" in (tried.fault or "")


def test_the_manifest_states_the_proof_and_the_session_need_not_slow_down(tmp_path: Path):
    student = save_student(tmp_path / "student", PRAISE)
    bundle = export_bundle(student, tmp_path / "bundle", plan_of(), rows_for(PRAISE)).bundle
    assert bundle.manifest.int8_overflow_free
    model = bundle.model_file("int8")
    assert model is not None
    row = Encoded((2, 7, 9, 3), (0, 0, 0, 0), 4, truncated=False)
    np.testing.assert_array_equal(Session(model).logits(row), Session(model, overflow_free=True).logits(row))
