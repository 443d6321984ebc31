"""A bundle notices a damaged graph and a processor that computes 8-bit products wrongly."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from edgedistill_export import ExportPlan, export_bundle
from edgedistill_export.quantize import overflow, rounding
from edgedistill_export.quantize.recipes import Recipe, quantize_int8
from edgedistill_serve.bundle.loading import Bundle
from edgedistill_serve.errors import SelfCheckFailed
from edgedistill_serve.scoring.batching import Outputs
from edgedistill_serve.scoring.encoding import Encoded
from edgedistill_serve.scoring.graph_choice import GraphSession
from edgedistill_serve.scoring.scorer import Scorer
from edgedistill_serve.scoring.session import Device, Session, build_feeds

from ..tiny import GRADING, MAX_TOKENS, rows_for, save_student

INT8 = "model_quantized.onnx"


class MatMulIntegerToFloat(OpRun):
    """8-bit products as a processor without VNNI adds them: two at a time, clipped to 16 bits."""

    op_domain = "com.microsoft"

    def _run(self, *operands: Any) -> tuple[np.ndarray]:
        left, right, left_scale, right_scale, zero = operands[:5]
        products = left[..., :, None].astype(np.int64) * right.astype(np.int64)
        pairs = products.reshape(*products.shape[:-2], -1, 2, products.shape[-1]).sum(axis=-2)
        clipped = np.clip(pairs, -(2**15), 2**15 - 1).sum(axis=-2)
        shifted = clipped - zero.item() * right.astype(np.int64).sum(axis=0)
        result = shifted * left_scale * right_scale + (operands[6] if len(operands) > 6 else 0)
        return (result.astype(np.float32),)


class Saturating:
    """A session on such a processor."""

    def __init__(self, model: Path) -> None:
        self._graph = ReferenceEvaluator(str(model), new_ops=[MatMulIntegerToFloat])

    def run(self, rows: Sequence[Encoded], length: int = 0) -> Outputs:
        """Score rows."""
        given = build_feeds(rows, length)
        (found,) = self._graph.run(None, {name: given[name] for name in self._graph.input_names})
        return Outputs(np.asarray(found, dtype=np.float64))


def _saturating(model: Path, device: Device) -> GraphSession:
    return Saturating(model) if model.name == INT8 else Session(model, device)


def _bundle(folder: Path, recipe: Recipe = quantize_int8) -> Bundle:
    student = save_student(folder / "student", GRADING)
    plan = ExportPlan("grading", GRADING, MAX_TOKENS, "int8", 1.0)
    return export_bundle(student, folder / "bundle", plan, rows_for(GRADING), quantize=recipe).bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return _bundle(tmp_path_factory.mktemp("drift"))


@pytest.fixture(scope="module")
def overflowing(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle as exporters wrote it that limited no pair of weights."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (rounding, overflow):
            patch.setattr(module, "MAX_PAIR_SUM", 254)
        return _bundle(tmp_path_factory.mktemp("overflowing"))


def _damaged(model: Path, device: Device) -> GraphSession:
    """Open the int8 graph with one of its weights turned round."""
    if model.name != INT8:
        return Session(model, device)
    graph = onnx.load(model)
    tensor = next(tensor for tensor in graph.graph.initializer if tensor.name.endswith(".weights"))
    values = numpy_helper.to_array(tensor).copy()
    largest = np.unravel_index(np.abs(values).argmax(), values.shape)
    values[largest[0]] = -values[largest[0]]
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    other = model.parents[2] / "damaged.onnx"
    onnx.save(graph, other)
    return Session(other, device)


def test_int8_is_held_to_its_own_logits_where_it_was_made(bundle: Bundle):
    scorer = Scorer(bundle, threads=1)
    assert scorer.check.tolerance == pytest.approx(0.02)
    assert scorer.check.difference < 1e-6


def test_one_input_whose_weights_are_turned_round_is_noticed(bundle: Bundle):
    scorer = Scorer(bundle, threads=1, open_graph=_damaged)
    assert scorer.precision == "fp32"
    assert "fp32 is used instead" in scorer.notes[0]


def test_a_processor_that_clips_products_is_given_fp32(overflowing: Bundle):
    scorer = Scorer(overflowing, threads=1, open_graph=_saturating)
    assert scorer.precision == "fp32"


def test_products_that_do_not_overflow_score_the_same_there(bundle: Bundle):
    scorer = Scorer(bundle, threads=1, open_graph=_saturating)
    assert scorer.precision == "int8"
    # The model of the processor sums its floats with NumPy, whose batches may move a last bit.
    assert [note for note in scorer.notes if "batch" not in note] == []


def test_where_there_is_no_fp32_such_a_processor_is_refused(overflowing: Bundle):
    def only_int8(model: Path, device: Device) -> GraphSession:
        return Saturating(model.with_name(INT8))

    with pytest.raises(SelfCheckFailed, match="int8 graph's probabilities differ"):
        Scorer(overflowing, threads=1, open_graph=only_int8)


def test_an_operator_set_that_the_runtime_lacks_means_fp32(bundle: Bundle):
    def of_the_future(model: Path, device: Device) -> GraphSession:
        if model.name != INT8:
            return Session(model, device)
        graph = onnx.load(model)
        graph.opset_import[0].version = 999
        onnx.save(graph, model.parents[2] / "future.onnx")
        return Session(model.parents[2] / "future.onnx", device)

    scorer = Scorer(bundle, threads=1, open_graph=of_the_future)
    assert scorer.precision == "fp32"
    assert "cannot load the graph" in scorer.notes[0]
