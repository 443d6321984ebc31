"""A graph is used only if this CPU reproduces its golden scores."""

import logging

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper

from edgedistill_serve import Scorer, SelfCheckFailed
from edgedistill_serve.bundle.manifest import Golden, GoldenRow
from edgedistill_serve.scoring.batching import Outputs
from edgedistill_serve.scoring.graph_choice import SelfCheck, self_check
from edgedistill_serve.task.label_decoding import softmax


@pytest.fixture
def corrupted(parts, tmp_path):
    """A graph with other weights: what a CPU that computes int8 wrongly looks like from outside."""

    def corrupt(name: str) -> bytes:
        model = onnx.load(parts / name)
        for tensor in model.graph.initializer:
            if tensor.name.startswith("outer") and tensor.data_type in (onnx.TensorProto.FLOAT, onnx.TensorProto.INT8):
                values = numpy_helper.to_array(tensor)
                if values.ndim == 2:
                    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(-values), tensor.name))
        return model.SerializeToString()

    return corrupt


def test_a_graph_that_gives_its_golden_scores_is_used(bundle):
    scorer = Scorer(bundle)
    assert (scorer.precision, scorer.notes) == ("int8", ())
    assert 0 < scorer.check.difference <= scorer.check.tolerance
    assert scorer.check.rows == 5


def test_a_corrupted_int8_graph_falls_back_to_fp32_with_a_note(make_bundle, corrupted, tmp_path, caplog):
    files = {"onnx/model_quantized.onnx": corrupted("model_quantized.onnx")}
    with caplog.at_level(logging.WARNING):
        scorer = Scorer(make_bundle(tmp_path / "bundle", files=files))
    assert scorer.precision == "fp32"
    (note,) = scorer.notes
    assert "int8 graph's probabilities differ from the golden ones by up to" in note
    assert "fp32 is used instead" in note
    assert note in caplog.text


def test_a_graph_that_cannot_be_loaded_falls_back_too(make_bundle, parts, tmp_path):
    model = onnx.load(parts / "model_quantized.onnx")
    model.opset_import[0].version = 999
    files = {"onnx/model_quantized.onnx": model.SerializeToString()}
    scorer = Scorer(make_bundle(tmp_path / "bundle", files=files))
    assert scorer.precision == "fp32"
    assert "cannot load the graph" in scorer.notes[0]


def test_a_corrupted_graph_without_fp32_fallback_is_refused(make_bundle, corrupted, tmp_path):
    files = {"onnx/model_quantized.onnx": corrupted("model_quantized.onnx"), "onnx/model.onnx": None}
    with pytest.raises(SelfCheckFailed, match=r"praise: the int8 graph's probabilities differ .* 0\.2 is accepted"):
        Scorer(make_bundle(tmp_path / "bundle", files=files))


def test_fp32_that_is_corrupted_as_well_is_refused(make_bundle, corrupted, tmp_path):
    files = {
        "onnx/model_quantized.onnx": corrupted("model_quantized.onnx"),
        "onnx/model.onnx": corrupted("model.onnx"),
    }
    with pytest.raises(SelfCheckFailed, match=r"int8 graph's .*; the fp32 graph's"):
        Scorer(make_bundle(tmp_path / "bundle", files=files))


def test_a_tolerance_that_int8_exceeds_is_kept(make_bundle, tmp_path):
    scorer = Scorer(make_bundle(tmp_path / "bundle", tolerance={"int8": 1e-9, "fp32": 1e-5}))
    assert scorer.precision == "fp32"


def test_a_graph_with_another_number_of_labels_is_refused(make_bundle, parts, tmp_path):
    files = {"onnx/model.onnx": parts / "model_two_labels.onnx"}
    with pytest.raises(SelfCheckFailed, match="differ from the golden ones by up to 1 "):
        Scorer(make_bundle(tmp_path / "bundle", precision="fp32", files=files))


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("place", ["expected", "computed"])
@pytest.mark.parametrize("position", [0, 2])
def test_a_number_that_is_not_finite_fails_the_check(bundle, odd, place, position):
    decoder = bundle.manifest.label_decoder
    rows = [GoldenRow({"response": str(row)}, (0.0, 1.0, 2.0)) for row in range(3)]
    computed = {str(row): np.array([0.0, 1.0, 2.0]) for row in range(3)}
    if place == "expected":
        rows[position] = GoldenRow({"response": str(position)}, (odd, odd, odd))
    else:
        computed[str(position)] = np.array([odd, odd, odd])
    golden = Golden(tuple(rows), {"fp32": 0.5})
    with np.errstate(invalid="ignore"):
        check = self_check(lambda inputs: Outputs(computed[inputs["response"]]), golden, "fp32", decoder)
    assert (check.passed, check.difference) == (False, 1.0)


@pytest.mark.parametrize("tolerance", [float("nan"), -1.0])
def test_a_tolerance_that_is_no_number_accepts_nothing(tolerance):
    assert not SelfCheck("fp32", 3, 0.0, tolerance).passed


def test_without_golden_rows_nothing_is_shown(bundle):
    golden = Golden((), {"fp32": 0.5})
    assert not self_check(lambda _: Outputs(np.zeros(3)), golden, "fp32", bundle.manifest.label_decoder).passed


LOGITS = st.lists(st.floats(-1e4, 1e4, width=32), min_size=2, max_size=6)


@given(LOGITS, st.floats(0.1, 10))
def test_probabilities_sum_to_one_and_keep_the_order_of_the_logits(logits, temperature):
    shares = softmax(np.array(logits), temperature)
    assert shares.sum() == pytest.approx(1)
    assert shares[int(np.argmax(logits))] == shares.max()


def test_a_temperature_above_one_lowers_the_confidence():
    logits = np.array([2.0, 0.0])
    assert softmax(logits, 2.0).tolist() == pytest.approx([np.e / (np.e + 1), 1 / (np.e + 1)])
    assert softmax(logits, 1.0)[0] > softmax(logits, 2.0)[0]
