"""A tokenizer that fails on a text fails this text only, with one of our errors, which shows no part of the text."""

import json

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgedistill_serve import BundleError, Scorer, ScoringFailed
from edgedistill_serve.scoring.encoding import is_tokenizer_error
from edgedistill_serve.scoring.graph_choice import load_encoder
from edgedistill_serve.scoring.session import Session

SLOW = {"type": "Split", "pattern": {"Regex": "(a+)+(b+)+$"}, "behavior": "Isolated", "invert": False}
BACK = {"type": "Replace", "pattern": {"Regex": r"(\w|\s|\w\s)*(x+x+)+y"}, "content": "y"}
FAULTS = {
    "no unknown token": (lambda found: found["model"].update(unk_token="[NONE]"), "Zephyrine 山田花子"),
    "a pattern that panics": (lambda found: found.update(pre_tokenizer=SLOW), "a" * 40),
    "a replacement that panics": (lambda found: found.update(normalizer=BACK), "x" * 40),
}
"""By name, a change of the tokenizer that no golden text shows, and a text on which it then fails."""
REASON = (
    r"the tokenizer failed on this response \((PanicException|"
    r"it has a character that the vocabulary lacks, which has no token for unknown characters)\)"
)


def constant_graph(kind=TensorProto.FLOAT) -> bytes:
    """A graph that gives every response the logits 1, 2, 3."""
    nodes = [
        helper.make_node("Shape", ["input_ids"], ["shape"], start=0, end=1),
        helper.make_node("Concat", ["shape", "labels"], ["size"], axis=0),
        helper.make_node("Cast", ["values"], ["cast"], to=kind),
        helper.make_node("Expand", ["cast", "size"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "constant",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["rows", "tokens"])],
        [helper.make_tensor_value_info("logits", kind, ["rows", 3])],
        [
            numpy_helper.from_array(np.array([[1, 2, 3]], np.float32), "values"),
            numpy_helper.from_array(np.array([3]), "labels"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()


@pytest.fixture(params=FAULTS)
def faulty(request, make_bundle, parts, tmp_path):
    """A bundle whose tokenizer has a fault, and a text that shows it."""
    change, text = FAULTS[request.param]
    found = json.loads((parts / "tokenizer.json").read_text())
    change(found)
    rows = [{"inputs": {"response": "great job"}, "logits": [1, 2, 3]}]
    files = {
        "tokenizer.json": json.dumps(found).encode(),
        "onnx/model.onnx": constant_graph(),
        "golden.json": json.dumps({"rows": rows, "tolerance": {"fp32": 0.01}}).encode(),
        "onnx/model_quantized.onnx": None,
    }
    return make_bundle(tmp_path / "faulty", precision="fp32", files=files), text


def test_only_the_text_that_the_tokenizer_cannot_read_fails(faulty, capfd):
    bundle, text = faulty
    scorer = Scorer(bundle)
    with pytest.raises(ScoringFailed, match=REASON):
        scorer.score([text])
    good, bad, other = (scorer.read_inputs({"response": each}) for each in ("great job", text, "why"))
    first, failure, last = scorer.score_batch([good]).results + scorer.score_batch([bad, other]).results
    assert isinstance(failure, ScoringFailed)
    assert first.label == last.label == "person"
    assert text[:5] not in str(failure)
    assert text[:5] not in capfd.readouterr().err


def test_rows_of_one_call_are_scored_beside_one_that_fails(faulty):
    bundle, text = faulty
    results = Scorer(bundle).score_each(["great job", text, "why"])
    assert [isinstance(each, ScoringFailed) for each in results] == [False, True, False]


@pytest.mark.parametrize("normalizer", ["AQAAAA==", "CAAAAP////9/AQIDBGFiAA==", ""])
def test_a_tokenizer_that_panics_while_it_is_read_is_refused(make_bundle, parts, tmp_path, normalizer):
    found = json.loads((parts / "tokenizer.json").read_text())
    found["normalizer"] = {"type": "Precompiled", "precompiled_charsmap": normalizer}
    bundle = make_bundle(tmp_path / "panics", files={"tokenizer.json": json.dumps(found).encode()})
    with pytest.raises((BundleError, ScoringFailed)) as caught:
        load_encoder(bundle).encode([{"response": "great job"}])
    assert len(str(caught.value).splitlines()) == 1


def test_a_tokenizer_that_fails_on_every_text_is_named_by_the_self_check(make_bundle, parts, tmp_path):
    found = json.loads((parts / "tokenizer.json").read_text())
    found["model"] = {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "zz"}
    bundle = make_bundle(tmp_path / "fails", files={"tokenizer.json": json.dumps(found).encode()})
    with pytest.raises(BundleError, match="the tokenizer failed on this response"):
        Scorer(bundle)


def test_the_end_of_the_process_is_no_error_of_the_tokenizer():
    assert not any(is_tokenizer_error(each()) for each in (KeyboardInterrupt, SystemExit, GeneratorExit))


@pytest.mark.parametrize("kind", [TensorProto.STRING, TensorProto.INT64, TensorProto.BOOL, TensorProto.INT32])
def test_a_graph_whose_logits_are_no_floats_is_refused(kind):
    with pytest.raises(BundleError, match=r"the output 'logits' has the type tensor\(\w+\), not tensor\(float\)"):
        Session(constant_graph(kind))
