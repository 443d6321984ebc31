"""A graph with weights in another file, with a loop, or in an encoding that parsers read differently is refused."""

import hashlib
import itertools
import json
import os
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgedistill_serve import Bundle, BundleError, ScoringFailed
from edgedistill_serve.bundle.graph_file import check_graph_file
from edgedistill_serve.scoring.encoding import Encoded
from edgedistill_serve.scoring.session import Session

OUTSIDE = "weights.bin"
SECRET = np.full((9, 3), 7, np.float32)


def outside(location="../secret"):
    tensor = numpy_helper.from_array(np.zeros((9, 3), np.float32), "weights")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return tensor


def in_the_graph(model):
    model.graph.initializer.append(outside())


def in_a_constant(model):
    model.graph.node.append(helper.make_node("Constant", [], ["c"], value=outside()))


def in_a_branch(model):
    branch = helper.make_graph([], "branch", [], [], [outside()])
    model.graph.node.append(helper.make_node("If", ["x"], ["y"], then_branch=branch, else_branch=branch))


def in_a_function(model):
    node = helper.make_node("Constant", [], ["c"], value=outside())
    model.functions.append(helper.make_function("d", "f", [], ["c"], [node], []))


def in_a_default_of_a_function(model):
    model.functions.append(helper.make_function("d", "f", [], ["c"], [], []))
    model.functions[-1].attribute_proto.append(helper.make_attribute("value", outside()))


def in_a_sparse_tensor(model):
    model.graph.sparse_initializer.add().values.CopyFrom(outside())


def in_the_indices_of_a_sparse_attribute(model):
    model.graph.node.append(helper.make_node("Constant", [], ["c"]))
    model.graph.node[-1].attribute.add(name="sparse_value").sparse_tensor.indices.CopyFrom(outside())


def in_a_graph_for_training(model):
    model.training_info.add().algorithm.initializer.append(outside())


def by_its_location_alone(model):
    tensor = outside()
    tensor.ClearField("external_data")
    model.graph.initializer.append(tensor)


def by_its_reference_alone(model):
    tensor = outside()
    tensor.ClearField("data_location")
    model.graph.initializer.append(tensor)


def by_an_address_in_memory(model):
    tensor = outside("*/_ORT_MEM_ADDR_/*")
    tensor.external_data.add(key="offset", value="4096")
    model.graph.initializer.append(tensor)


EXTERNAL = [
    in_the_graph,
    in_a_constant,
    in_a_branch,
    in_a_function,
    in_a_default_of_a_function,
    in_a_sparse_tensor,
    in_the_indices_of_a_sparse_attribute,
    in_a_graph_for_training,
    by_its_location_alone,
    by_its_reference_alone,
    by_an_address_in_memory,
]


@pytest.mark.parametrize("change", EXTERNAL)
def test_weights_in_another_file_are_refused(parts, change):
    model = onnx.load(parts / "model.onnx")
    change(model)
    with pytest.raises(BundleError, match=r"onnx/model\.onnx: the graph has weights in another file"):
        check_graph_file(model.SerializeToString(), "onnx/model.onnx")


def _body():
    return helper.make_graph([], "body", [], [])


def a_loop(model):
    model.graph.node.append(helper.make_node("Loop", ["", "c"], ["y"], body=_body()))


def a_scan_in_a_branch(model):
    branch = helper.make_graph([helper.make_node("Scan", ["x"], ["y"], body=_body())], "branch", [], [])
    model.graph.node.append(helper.make_node("If", ["x"], ["y"], then_branch=branch, else_branch=_body()))


def a_loop_in_a_function_with_a_body_of_its_caller(model):
    node = helper.make_node("Loop", ["", "c"], ["y"])
    node.attribute.add(name="body", ref_attr_name="then_branch", type=onnx.AttributeProto.GRAPH)
    model.functions.append(helper.make_function("d", "If", [], ["y"], [node], [], ["then_branch"]))
    model.graph.node.append(helper.make_node("If", ["x"], ["y"], domain="d", then_branch=_body()))


def a_search_over_a_graph(model):
    model.graph.node.append(
        helper.make_node("BeamSearch", ["x"], ["y"], domain="com.microsoft", decoder=_body(), encoder=_body())
    )


def a_map_over_a_sequence(model):
    model.graph.node.append(helper.make_node("SequenceMap", ["x"], ["y"], body=_body()))


@pytest.mark.parametrize(
    "change",
    [
        a_loop,
        a_scan_in_a_branch,
        a_loop_in_a_function_with_a_body_of_its_caller,
        a_search_over_a_graph,
        a_map_over_a_sequence,
    ],
)
def test_a_part_of_the_graph_that_is_repeated_is_refused(parts, change):
    model = onnx.load(parts / "model.onnx")
    change(model)
    with pytest.raises(BundleError, match=r"the graph has a loop|other than If has a graph"):
        check_graph_file(model.SerializeToString(), "model.onnx")


@pytest.mark.parametrize("name", ["model.onnx", "model_quantized.onnx"])
def test_a_graph_as_exporters_write_it_is_accepted(parts, name):
    check_graph_file((parts / name).read_bytes(), name)


def test_two_branches_without_a_loop_are_accepted(parts):
    model = onnx.load(parts / "model.onnx")
    model.graph.node.append(helper.make_node("If", ["x"], ["y"], then_branch=_body(), else_branch=_body()))
    check_graph_file(model.SerializeToString(), "model.onnx")


@pytest.mark.parametrize(
    "content",
    [
        b"no graph",
        b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\x0b" * 9,
        b"\x3b\x3c",  # a group
        b"\xba\x80\x80\x80\x10\x00",  # field 7 with a bit above the 32 of a tag
        b"\xba\x00\x00",  # field 7 with a byte too many
        b"\x3a\x80\x00",  # a length with a byte too many
        b"\x38\x01",  # field 7 as a number
        b"\x02\x00",  # field 0
        b"\x3a\x05\x00",  # longer than the file
        b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x03",  # a number of more than 64 bits
        b"\x08\x00\x00\x00ORTM",  # the other format that onnxruntime reads
    ],
)
def test_what_no_writer_of_protobuf_produces_is_refused(content):
    with pytest.raises(BundleError, match=r"model\.onnx: the file is not an ONNX graph"):
        check_graph_file(content, "model.onnx")


def test_a_bundle_with_such_a_graph_is_not_loaded_though_its_checksum_is_right(make_bundle, parts, tmp_path):
    folder = make_bundle(tmp_path / "bundle").folder
    model = onnx.load(parts / "model.onnx")
    in_the_graph(model)
    content = model.SerializeToString()
    (folder / "onnx/model.onnx").write_bytes(content)
    manifest = json.loads((folder / "bundle.json").read_text())
    manifest["files"]["onnx/model.onnx"] = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    (folder / "bundle.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="has weights in another file"):
        Bundle.load(folder)


# Encodings of one model, as writers and attackers produce them: a message is a list of (number, wire type, content).


def _model(location: str | None) -> onnx.ModelProto:
    tensor = numpy_helper.from_array(np.ones((9, 3), np.float32), "weights") if location is None else outside(location)
    nodes = [helper.make_node("Gather", ["weights", "input_ids"], ["logits"])]
    tokens = helper.make_tensor_value_info("input_ids", TensorProto.INT64, [1, 1])
    output = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 1, 3])
    graph = helper.make_graph(nodes, "g", [tokens], [output], [tensor])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def _varint(value: int) -> bytes:
    parts = []
    while value >= 0x80:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])


def _read_varint(content: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (content[at] & 0x7F) << shift
        shift, at = shift + 7, at + 1
        if content[at - 1] < 0x80:
            return value, at


def _padded(number: bytes, extra: int) -> bytes:
    """The same number in more bytes."""
    return bytes([*(byte | 0x80 for byte in number), *[0x80] * (extra - 1), 0]) if extra else number


def _split(content: bytes) -> list[tuple[int, bytes]]:
    """The fields of a message: tag and content, with its length where it has one."""
    fields, at = [], 0
    while at < len(content):
        tag, at = _read_varint(content, at)
        start = at
        value, at = _read_varint(content, at)
        if tag & 7 == 2:
            at += value
        fields.append((tag, content[start:at]))
    return fields


NESTED = {0x3A: {0x2A: {}, 0x0A: {}}}
"""Tags of the messages within which the encoding is changed: graph, its initializers and nodes."""


def longer_length(tag: int, body: bytes) -> bytes:
    """A content whose length has one byte too many."""
    length, start = _read_varint(body, 0)
    return _varint(tag) + (_padded(_varint(length), 1) + body[start:] if tag & 7 == 2 else body)


CHANGES = [
    longer_length,
    lambda tag, body: _padded(_varint(tag), 1) + body,
    lambda tag, body: _padded(_varint(tag), 4) + body,
    lambda tag, body: _varint(tag | 1 << 32) + body,
    lambda tag, body: _varint(tag | 1 << 35) + body,
    lambda tag, body: _varint(tag | 1 << 63) + body,
    lambda tag, body: (_varint(tag) + body) * 2,
    lambda tag, body: b"\xa0\x06\x00" + _varint(tag) + body,  # unknown fields of every type
    lambda tag, body: b"\xa2\x06\x01x" + _varint(tag) + body,
    lambda tag, body: b"\xa5\x06abcd" + _varint(tag) + body,
    lambda tag, body: b"\xa1\x06abcdefgh" + _varint(tag) + body,
    lambda tag, body: b"\xa3\x06\xa4\x06" + _varint(tag) + body,  # groups
    lambda tag, body: b"\xa3\x06\x3a\x00\xa4\x06" + _varint(tag) + body,
    lambda tag, body: b"\x3b\x3c" + _varint(tag) + body,
    lambda tag, body: _varint(tag | 3) + body + _varint(tag >> 3 << 3 | 4),
    lambda tag, body: _varint(tag >> 3 << 3) + b"\x01" + _varint(tag) + body,  # the same field as a number
]


def _encode(content: bytes, changes: dict[int, object], nested=NESTED, count=None) -> bytes:
    """Encode a message anew, with changes of some of its fields, numbered from 0 in the order of writing."""
    count = itertools.count() if count is None else count
    parts = []
    for tag, body in _split(content):
        change = changes.get(next(count), lambda tag, body: _varint(tag) + body)
        if tag in nested:
            length, start = _read_varint(body, 0)
            inner = _encode(body[start : start + length], changes, nested[tag], count)
            parts.append(change(tag, _varint(len(inner)) + inner))
        else:
            parts.append(change(tag, body))
    return b"".join(parts)


FIELDS = 18
"""Fields whose encoding is changed."""
ENCODINGS = st.builds(
    lambda location, changes, end: _encode(_model(location).SerializeToString(), changes) + end,
    st.sampled_from([None, OUTSIDE]),
    st.dictionaries(st.integers(0, FIELDS - 1), st.sampled_from(CHANGES), max_size=3),
    st.one_of(st.just(b""), st.binary(max_size=6)),
)


def _accepted(content: bytes) -> bool:
    try:
        check_graph_file(content, "model.onnx")
    except BundleError:
        return False
    return True


@pytest.fixture(scope="module")
def beside_the_weights(tmp_path_factory):
    """A working folder in which onnxruntime finds the file that a graph names."""
    folder = tmp_path_factory.mktemp("weights")
    SECRET.tofile(folder / OUTSIDE)
    before = Path.cwd()
    os.chdir(folder)
    yield
    os.chdir(before)


def _loaded_by_onnxruntime(content: bytes) -> np.ndarray | None:
    """What the graph gives if onnxruntime may read other files."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        return session.run(["logits"], {"input_ids": np.zeros((1, 1), np.int64)})[0][0]
    except Exception:  # noqa: BLE001  # its errors have no common root
        return None


def _check_no_other_file_is_read(content: bytes) -> None:
    """Check that parsers find no external weights in a graph, if the graph is accepted."""
    if not _accepted(content):
        return
    found = _loaded_by_onnxruntime(content)
    assert found is None or not np.array_equal(found, SECRET[:1])
    try:
        model = onnx.ModelProto.FromString(content)
    except Exception:  # noqa: BLE001  # protobuf's error depends on its implementation
        return
    assert all(tensor.data_location == TensorProto.DEFAULT for tensor in model.graph.initializer)
    assert not any(tensor.external_data for tensor in model.graph.initializer)


@pytest.mark.usefixtures("beside_the_weights")
@pytest.mark.parametrize("change", range(len(CHANGES)))
def test_what_is_accepted_reads_no_other_file_in_any_parser(change):
    content = _model(OUTSIDE).SerializeToString()
    for field in range(FIELDS):
        _check_no_other_file_is_read(_encode(content, {field: CHANGES[change]}))


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(content=ENCODINGS)
@pytest.mark.usefixtures("beside_the_weights")
def test_several_changes_of_the_encoding_hide_no_other_file(content):
    _check_no_other_file_is_read(content)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(content=ENCODINGS)
@pytest.mark.usefixtures("beside_the_weights")
def test_a_session_reads_no_other_file_even_if_the_graph_was_not_checked(content):
    try:
        logits = Session(content).logits(Encoded((0,), (0,), 1, truncated=False))
    except (BundleError, ScoringFailed):
        return
    assert not np.array_equal(logits, SECRET[0])


@pytest.mark.usefixtures("beside_the_weights")
def test_the_weights_beside_would_be_read_without_the_check():
    """The tests above can fail: this is what they guard against."""
    content = _model(OUTSIDE).SerializeToString()
    assert np.array_equal(_loaded_by_onnxruntime(content), SECRET[:1])
    hidden = content.replace(b"\x3a", b"\xba\x80\x80\x80\x10", 1)
    assert np.array_equal(_loaded_by_onnxruntime(hidden), SECRET[:1])
    assert not _accepted(hidden)


def test_a_model_as_it_was_written_is_accepted_and_one_with_more_fields_too():
    content = _model(None).SerializeToString()
    assert _accepted(content)
    assert _accepted(content + b"\xa0\x06\x00\xa2\x06\x01x")
