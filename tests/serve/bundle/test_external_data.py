"""External weights are found in every place that can contain a tensor."""

import hashlib
import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgedistill_serve import Bundle, BundleError
from edgedistill_serve.bundle.external_data import check_no_external_data


def outside():
    tensor = numpy_helper.from_array(np.zeros(4, np.float32), "weights")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../secret")
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


def in_a_sparse_tensor(model):
    model.graph.sparse_initializer.add().values.CopyFrom(outside())


def by_its_location_alone(model):
    tensor = outside()
    tensor.ClearField("external_data")
    model.graph.initializer.append(tensor)


def by_its_reference_alone(model):
    tensor = outside()
    tensor.ClearField("data_location")
    model.graph.initializer.append(tensor)


@pytest.mark.parametrize(
    "change",
    [
        in_the_graph,
        in_a_constant,
        in_a_branch,
        in_a_function,
        in_a_sparse_tensor,
        by_its_location_alone,
        by_its_reference_alone,
    ],
)
def test_weights_in_another_file_are_refused(parts, tmp_path, change):
    model = onnx.load(parts / "model.onnx")
    change(model)
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(BundleError, match=r"onnx/model\.onnx: the graph has weights in another file"):
        check_no_external_data(tmp_path / "model.onnx", "onnx/model.onnx")


@pytest.mark.parametrize("name", ["model.onnx", "model_quantized.onnx"])
def test_weights_inside_are_accepted(parts, name):
    check_no_external_data(parts / name, name)


@pytest.mark.parametrize(
    "content", [b"", b"no graph", b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", b"\x0b" * 9]
)
def test_an_invalid_protobuf_is_left_to_onnxruntime(tmp_path, content):
    (tmp_path / "model.onnx").write_bytes(content)
    check_no_external_data(tmp_path / "model.onnx", "model.onnx")


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
