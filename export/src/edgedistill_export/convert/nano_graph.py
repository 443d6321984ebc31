"""The graph of a nano student, written node by node, so that the web page knows the names of its constants."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from edgedistill_export.convert.graph import make_node
from edgedistill_export.nano import LENGTH, SHORTEST, NanoForSequenceClassification
from edgedistill_export.text_vectors import VECTOR

TABLE, HIDDEN, CLASSIFIER = "nano.table", "nano.hidden", "nano.classifier"
"""Names of constants: the table of shape (tokens, width), and for each layer ``NAME.weight`` of shape (inputs, outputs)
and ``NAME.bias``."""
_OPSET = 18


def write_graph(model: NanoForSequenceClassification, file: Path) -> None:
    """Write the fp32 graph, with the outputs ``logits`` and ``vector`` (see `edgedistill_export.text_vectors`).

    Args:
        model: The student.
        file: The ``.onnx`` file to write.
    """
    pair = model.config.type_vocab_size > 1
    weights = {TABLE: _values(model.embeddings.weight)}
    for name, layer in ((HIDDEN, model.hidden), (CLASSIFIER, model.classifier)):
        weights |= {f"{name}.weight": _values(layer.weight.T), f"{name}.bias": _values(layer.bias)}
    numbers = {"one": 1.0, "half": 0.5, "length": LENGTH, "shortest": SHORTEST}
    constants = {name: np.array(value, dtype=np.float32) for name, value in numbers.items()} | weights
    constants["axis"] = np.array([1], dtype=np.int64)
    nodes = [
        make_node("Gather", [TABLE, "input_ids"], "tokens", axis=0),
        make_node("Cast", ["attention_mask"], "mask", to=TensorProto.FLOAT),
    ]
    if pair:
        constants["response_type"] = np.array(1, dtype=np.int64)
        nodes += [
            make_node("Equal", ["token_type_ids", "response_type"], "is_response"),
            make_node("Cast", ["is_response"], "response_mask", to=TensorProto.FLOAT),
            make_node("Mul", ["mask", "response_mask"], "of_response"),
            make_node("Sub", ["mask", "of_response"], "of_context"),
            *_sum_nodes("of_context", "context_sum"),
            *_text_nodes("context_sum", "context"),
            *_sum_nodes("of_response", "response_sum"),
            *_text_nodes("response_sum", "response"),
            make_node("Mul", ["context", "response"], "product"),
            make_node("Sub", ["context", "response"], "difference"),
            make_node("Abs", ["difference"], "distance"),
            make_node("Concat", ["context", "response", "product", "distance"], "features", axis=1),
            make_node("Add", ["context_sum", "response_sum"], "whole_sum"),
            *_mean_nodes("whole_sum", "mask", "whole"),
            *_mean_nodes("response_sum", "of_response", "response_mean"),
            make_node("Mul", ["response_mean", "half"], "half_response"),
            make_node("Concat", ["whole", "half_response"], VECTOR, axis=1),
        ]
    else:
        nodes += [
            *_sum_nodes("mask", "whole_sum"),
            *_text_nodes("whole_sum", "features"),
            *_mean_nodes("whole_sum", "mask", VECTOR),
        ]
    nodes += [
        make_node("Gemm", ["features", f"{HIDDEN}.weight", f"{HIDDEN}.bias"], "hidden"),
        make_node("Relu", ["hidden"], "active"),
        make_node("Gemm", ["active", f"{CLASSIFIER}.weight", f"{CLASSIFIER}.bias"], "logits"),
    ]
    given = ["input_ids", "attention_mask", *(["token_type_ids"] if pair else [])]
    shape, width = ["batch_size", "sequence_length"], model.config.hidden_size * (2 if pair else 1)
    graph = helper.make_graph(
        nodes,
        "nano",
        [helper.make_tensor_value_info(name, TensorProto.INT64, shape) for name in given],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch_size", size])
            for name, size in (("logits", model.config.num_labels), (VECTOR, width))
        ],
        [numpy_helper.from_array(np.ascontiguousarray(values), name) for name, values in constants.items()],
    )
    found = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], producer_name="edgedistill")
    found.ir_version = 8  # the oldest that has this operator set, for older runtimes
    file.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(found, file)


def _sum_nodes(weights: str, result: str) -> list[onnx.NodeProto]:
    """Return the nodes that add up ``tokens`` with weights of shape (rows, tokens)."""
    return [
        make_node("Unsqueeze", [weights, "axis"], f"{result}.weights"),
        make_node("MatMul", [f"{result}.weights", "tokens"], f"{result}.row"),
        make_node("Squeeze", [f"{result}.row", "axis"], result),
    ]


def _text_nodes(total: str, result: str) -> list[onnx.NodeProto]:
    """Return the nodes that scale a sum to the length of a text's vector."""
    return [
        make_node("ReduceL2", [total, "axis"], f"{result}.norm", keepdims=1),
        make_node("Max", [f"{result}.norm", "shortest"], f"{result}.divisor"),
        make_node("Div", ["length", f"{result}.divisor"], f"{result}.factor"),
        make_node("Mul", [total, f"{result}.factor"], result),
    ]


def _mean_nodes(total: str, weights: str, result: str) -> list[onnx.NodeProto]:
    """Return the nodes that divide a sum by its number of tokens."""
    return [
        make_node("ReduceSum", [weights, "axis"], f"{result}.count", keepdims=1),
        make_node("Max", [f"{result}.count", "one"], f"{result}.divisor"),
        make_node("Div", [total, f"{result}.divisor"], result),
    ]


def _values(tensor: torch.Tensor) -> npt.NDArray[np.float32]:
    values: npt.NDArray[np.float32] = tensor.detach().cpu().numpy().astype(np.float32)
    return values
