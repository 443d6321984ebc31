"""A graph or a tokenizer that does not end, needs all memory or ends its process costs a child process only."""

import signal
import subprocess

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgedistill_serve import BundleDamaged, Scorer, SelfCheckFailed
from edgedistill_serve.scoring import graph_choice, isolated_check


def graph_with(nodes, **constants) -> bytes:
    """A graph of constant logits, to which the value ``added`` of other nodes is added."""
    tokens = [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["rows", "tokens"])]
    logits = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["rows", 3])]
    constants = {"weights": np.ones((1, 3), np.float32), **constants}
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    last = helper.make_node("Add", ["weights", "added"], ["logits"])
    graph = helper.make_graph([*nodes, last], "hostile", tokens, logits, initializers)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString()


def needs_memory(gigabytes: int) -> bytes:
    """Fill an array at run time: its size depends on the input, so that nothing is computed in advance."""
    nodes = [
        helper.make_node("Shape", ["input_ids"], ["shape"]),
        helper.make_node("ReduceMin", ["shape"], ["rows"], keepdims=0),
        helper.make_node("Mul", ["rows", "size"], ["scaled"]),
        helper.make_node("ConstantOfShape", ["scaled"], ["huge"]),
        helper.make_node("ReduceMin", ["huge"], ["added"], keepdims=0),
    ]
    return graph_with(nodes, size=np.array([gigabytes * 2**28], dtype=np.int64))


def takes_time() -> bytes:
    """Multiply matrices for minutes."""
    nodes = [
        helper.make_node("Shape", ["input_ids"], ["shape"]),
        helper.make_node("ReduceMin", ["shape"], ["rows"], keepdims=0),
        helper.make_node("Mul", ["rows", "size"], ["scaled"]),
        helper.make_node("ConstantOfShape", ["scaled"], ["m0"]),
        *(helper.make_node("MatMul", [f"m{i}", f"m{i}"], [f"m{i + 1}"]) for i in range(100)),
        helper.make_node("ReduceMin", ["m100"], ["added"], keepdims=0),
    ]
    return graph_with(nodes, size=np.array([4000, 4000], dtype=np.int64))


def calls_itself() -> bytes:
    model = onnx.ModelProto.FromString(graph_with([helper.make_node("again", ["weights"], ["added"], domain="local")]))
    opset = [helper.make_opsetid("local", 1)]
    inner = helper.make_node("again", ["x"], ["y"], domain="local")
    model.functions.append(helper.make_function("local", "again", ["x"], ["y"], [inner], opset))
    return model.SerializeToString()


@pytest.fixture
def hostile(make_bundle, tmp_path):
    def make(graph: bytes):
        return make_bundle(tmp_path / "hostile", precision="fp32", files={"onnx/model.onnx": graph})

    return make


@pytest.fixture(autouse=True)
def children_as_users_have_them(monkeypatch):
    """Other tests have forks for children (`tests/checked_bundles.py`)."""
    monkeypatch.setattr(isolated_check, "subprocess", subprocess)


@pytest.fixture
def seconds(monkeypatch):
    monkeypatch.setenv(isolated_check.SECONDS_VARIABLE, "2")


@pytest.mark.usefixtures("seconds")
def test_a_graph_that_takes_too_long_is_refused(hostile):
    with pytest.raises(SelfCheckFailed, match=r"praise: the self-check did not end within 2 s"):
        Scorer(hostile(takes_time()))


@pytest.mark.parametrize("gigabytes", [8, 8_000])
def test_a_graph_that_needs_all_memory_is_refused(hostile, gigabytes):
    with pytest.raises(SelfCheckFailed, match=r"the fp32 graph fails|was ended"):
        Scorer(hostile(needs_memory(gigabytes)))


def test_a_function_that_calls_itself_is_refused(hostile):
    with pytest.raises(SelfCheckFailed, match=r"the fp32 graph fails|was ended"):
        Scorer(hostile(calls_itself()))


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGSEGV, signal.SIGBUS])
def test_a_child_that_the_system_ends_is_named(make_bundle, tmp_path, monkeypatch, end):
    monkeypatch.setattr(isolated_check, "_CHILD", f"import os; os.kill(os.getpid(), {int(end)})")
    with pytest.raises(SelfCheckFailed, match=rf"was ended \({end.name}\)"):
        Scorer(make_bundle(tmp_path / "bundle", name=f"ended by {end.name}"))


@pytest.mark.parametrize("printed", ["", "{}", "[]", '{"device": "cpu"'])
def test_a_child_that_reports_nothing_readable_shows_nothing(make_bundle, tmp_path, monkeypatch, printed):
    monkeypatch.setattr(isolated_check, "_CHILD", f"print({printed!r})")
    with pytest.raises(SelfCheckFailed, match=r"was ended \(exit code 0\)"):
        Scorer(make_bundle(tmp_path / "bundle", name=f"prints {len(printed)}"))


def test_the_child_chooses_as_this_process_would(make_bundle, tmp_path):
    bundle = make_bundle(tmp_path / "bundle", tolerance={"int8": 1e-9, "fp32": 1e-5})
    scorer = Scorer(bundle)
    here = graph_choice.check_here(bundle, gpu=False)
    assert (scorer.precision, scorer.check, scorer.notes) == ("fp32", here.check, here.notes)
    assert (scorer.device, scorer.batching) == (here.device, here.batching)


def test_a_bundle_is_checked_by_one_child_only(make_bundle, tmp_path, monkeypatch):
    bundle = make_bundle(tmp_path / "bundle", name="checked once")
    Scorer(bundle)
    monkeypatch.setattr(isolated_check, "_CHILD", "raise SystemExit(1)")
    assert Scorer(bundle).check.passed
    with pytest.raises(SelfCheckFailed, match="exit code 1"):
        Scorer(make_bundle(tmp_path / "other", name="checked once", temperature=2.0))


def test_a_program_without_an_interpreter_checks_in_its_own_process(make_bundle, tmp_path, monkeypatch):
    monkeypatch.setattr(isolated_check.sys, "executable", "")
    assert Scorer(make_bundle(tmp_path / "bundle", name="embedded")).check.passed


@pytest.mark.parametrize("name", ["onnx/model.onnx", "tokenizer.json"])
def test_a_file_that_changes_after_it_was_checked_is_refused(make_bundle, tmp_path, name):
    bundle = make_bundle(tmp_path / "bundle", precision="fp32", name=f"changed {name}")
    file = bundle.folder / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises((BundleDamaged, SelfCheckFailed), match="was changed"):
        Scorer(bundle)


def test_the_child_imports_nothing_from_the_working_folder(make_bundle, tmp_path, monkeypatch):
    (tmp_path / "msgspec.py").write_text("raise SystemExit(9)")
    monkeypatch.chdir(tmp_path)
    assert Scorer(make_bundle(tmp_path / "bundle", name="in a hostile folder")).check.passed


@pytest.mark.parametrize("left", [0, 1, 1000])
def test_a_graph_that_is_cut_off_in_place_is_refused_and_ends_no_process(make_bundle, tmp_path, left):
    bundle = make_bundle(tmp_path / "bundle", precision="fp32", name=f"cut at {left}")
    with (bundle.folder / "onnx/model.onnx").open("r+b") as file:
        file.truncate(left)
    with pytest.raises((BundleDamaged, SelfCheckFailed), match="json says"):
        Scorer(bundle)
