"""A session provides the inputs that a graph declares, and refuses others."""

import gc
import weakref

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgedistill_serve import BundleError, Scorer, ScoringFailed
from edgedistill_serve.scoring import session as session_module
from edgedistill_serve.scoring.encoding import Encoded, Encoder
from edgedistill_serve.scoring.onnxruntime_install import import_onnxruntime
from edgedistill_serve.scoring.session import OUTPUT, Session, build_feeds, has_vnni, make_binding_runner


def graph(name: str, kind: int = TensorProto.INT64, output: str = "logits") -> onnx.ModelProto:
    """Gives back its only input as floats."""
    node = helper.make_node("Cast", [name], [output], to=TensorProto.FLOAT)
    given = helper.make_tensor_value_info(name, kind, [1, None])
    found = helper.make_tensor_value_info(output, TensorProto.FLOAT, [1, None])
    opset = [helper.make_opsetid("", 17)]
    return helper.make_model(helper.make_graph([node], "echo", [given], [found]), opset_imports=opset, ir_version=9)


def test_a_graph_without_segment_ids_is_not_fed_any(parts):
    (encoded,) = Encoder(parts / "tokenizer.json", 16).encode([{"response": "great job"}])
    assert Session(parts / "model_without_types.onnx").logits(encoded).shape == (3,)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (graph("position_ids"), "requires the input 'position_ids'"),
        (graph("input_ids", TensorProto.INT32), r"'input_ids' of type tensor\(int32\)"),
        (graph("input_ids", output="scores"), "no output 'logits'"),
    ],
)
def test_a_graph_that_cannot_be_fed_is_refused(tmp_path, model, message):
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(BundleError, match=message):
        Session(tmp_path / "model.onnx")


def test_a_file_that_is_not_a_graph_is_refused(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(BundleError, match=r"model\.onnx: onnxruntime cannot load the graph"):
        Session(tmp_path / "model.onnx")


def test_logits_that_are_not_finite_are_no_score(tmp_path):
    model = graph("input_ids")
    model.graph.node.insert(0, helper.make_node("Cast", ["input_ids"], ["number"], to=TensorProto.FLOAT))
    model.graph.node[1].CopyFrom(helper.make_node("Log", ["number"], ["logits"]))
    onnx.save(model, tmp_path / "model.onnx")
    session = Session(tmp_path / "model.onnx")
    assert np.allclose(session.logits(Encoded((1, 1), (0, 0), 0, truncated=False)), 0)
    with pytest.raises(ScoringFailed, match="not finite"):
        session.logits(Encoded((0, 1), (0, 0), 0, truncated=False))


@pytest.mark.parametrize(
    ("flags", "known"),
    [("fpu avx2 avx_vnni", True), ("fpu avx512_vnni", True), ("fpu avx2 avx512f", False), ("", False)],
)
def test_vnni_is_read_from_cpuinfo(tmp_path, flags, known):
    (tmp_path / "cpuinfo").write_text(f"processor : 0\nmodel name : avx_vnni\nflags\t\t: {flags}\n")
    assert has_vnni(tmp_path / "cpuinfo") is known


def test_without_cpuinfo_a_processor_has_no_known_vnni(tmp_path):
    assert not has_vnni(tmp_path / "cpuinfo")


@pytest.mark.parametrize(("system", "lines"), [("linux", 1), ("darwin", 0)])
def test_a_processor_that_linux_hides_is_one_line_in_the_log(tmp_path, caplog, system, lines):
    for _ in range(2):
        has_vnni(tmp_path / "cpuinfo", system)
    assert len(caplog.records) == lines
    assert caplog.text.count("cannot be read (No such file or directory); int8 uses the slower mode") == lines


@pytest.fixture
def settings_of(monkeypatch) -> list[str | None]:
    """Of every session from here on, on a processor without VNNI: the setting that keeps 8-bit products exact."""
    runtime, found = import_onnxruntime(), []
    opened = runtime.InferenceSession

    def opening(model, options, **others):
        session = opened(model, options, **others)
        try:
            found.append(options.get_session_config_entry("session.x64quantprecision"))
        except RuntimeError:
            found.append(None)
        return session

    monkeypatch.setattr(runtime, "InferenceSession", opening)
    monkeypatch.setattr(session_module, "has_vnni", lambda: False)
    return found


@pytest.mark.parametrize(("stated", "setting"), [(True, None), (False, "1")])
def test_products_are_kept_exact_unless_the_bundle_states_that_they_cannot_overflow(
    tmp_path, make_bundle, settings_of, stated, setting
):
    bundle = make_bundle(tmp_path / "bundle", int8_overflow_free=stated)
    settings_of.clear()
    scorer = Scorer(bundle, threads=1)
    assert (scorer.precision, settings_of) == ("int8", [setting])


def test_where_there_is_vnni_nothing_is_set(parts, settings_of, monkeypatch):
    monkeypatch.setattr(session_module, "has_vnni", lambda: True)
    Session(parts / "model.onnx")
    assert settings_of == [None]


def test_a_session_is_freed_without_the_garbage_collector(parts):
    gc.disable()
    try:
        let_go = weakref.ref(Session(parts / "model.onnx"))
        assert let_go() is None
    finally:
        gc.enable()


def test_rows_of_a_batch_are_padded_and_masked(parts):
    encoded = Encoder(parts / "tokenizer.json", 16).encode([{"response": "great job"}, {"response": "x"}])
    given = build_feeds(encoded)
    assert given["input_ids"].shape == (2, 4)
    assert given["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 1, 0]]
    session = Session(parts / "model.onnx")
    assert np.allclose(session.batch_logits(encoded), [session.logits(row) for row in encoded], atol=1e-6)


def test_bound_inputs_and_output_give_the_same_logits(parts):
    """As on a GPU, with the CPU's memory in its place."""
    runtime = import_onnxruntime()
    plain = runtime.InferenceSession(str(parts / "model.onnx"), providers=["CPUExecutionProvider"])
    given = build_feeds(Encoder(parts / "tokenizer.json", 16).encode([{"response": "great job"}, {"response": "x"}]))
    assert np.array_equal(make_binding_runner(runtime, plain, "cpu", [OUTPUT])(given), plain.run([OUTPUT], given))
