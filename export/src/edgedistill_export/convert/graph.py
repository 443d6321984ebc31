"""An ONNX graph for rewriting: producers and consumers of values, constants, linear layers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from edgedistill_export.errors import ExportFailed

CONTRIB = "com.microsoft"
"""The domain of onnxruntime's own operators, which its builds for CPUs and browsers both support."""

_HINT = "Set export.precision to fp32, or choose another backbone."


@dataclass(frozen=True, slots=True, eq=False)
class LinearLayer:
    """One layer ``x · weights + bias`` of the graph.

    Attributes:
        node: The MatMul.
        source: Name of its input, of shape (rows, tokens, inputs).
        result: Name of its output, after the bias if there is one.
        weights: Shape (inputs, outputs).
        bias: Shape (outputs,), or None.
        bias_node: The Add, or None.
    """

    node: onnx.NodeProto
    source: str
    result: str
    weights: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32] | None
    bias_node: onnx.NodeProto | None


class Graph:
    """A graph in memory, including its weights.

    Args:
        file: An ONNX file.

    Raises:
        ExportFailed: The file cannot be read.
    """

    def __init__(self, file: Path) -> None:
        try:
            self.model = onnx.load(file)
        except Exception as error:  # onnx and protobuf raise many kinds
            raise ExportFailed(f"the graph cannot be read ({error})", where=file.name, hint=_HINT) from error
        self.proto = self.model.graph
        self._constants = {tensor.name: tensor for tensor in self.proto.initializer}
        for node in self.proto.node:
            if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
                self._constants[node.output[0]] = node.attribute[0].t
            # Exporters write equal tensors once, and name the others by Identity.
            if node.op_type == "Identity" and node.input[0] in self._constants:
                self._constants[node.output[0]] = self._constants[node.input[0]]

    def constant(self, name: str) -> npt.NDArray[Any] | None:
        """Return a constant value, or None if the value is not constant."""
        tensor = self._constants.get(name)
        return None if tensor is None else numpy_helper.to_array(tensor)

    def producer(self, name: str) -> onnx.NodeProto | None:
        """Return the node that computes a value; None for an input or a constant tensor."""
        return next((node for node in self.proto.node if name in node.output), None)

    def consumers(self, name: str) -> list[onnx.NodeProto]:
        """Return the nodes that read a value."""
        return [node for node in self.proto.node if name in node.input]

    def linear_layers(self) -> list[LinearLayer]:
        """Return the layers that are applied to every token, in order, without the classifier."""
        return list(self._find_linear_layers())

    def _find_linear_layers(self) -> Iterator[LinearLayer]:
        for node in self.proto.node:
            if node.op_type != "MatMul":
                continue
            weights = self.constant(node.input[1])
            if weights is None or weights.ndim != 2 or weights.dtype != np.float32:
                continue
            adds = [reader for reader in self.consumers(node.output[0]) if reader.op_type == "Add"]
            bias, add = None, None
            if len(adds) == 1 and len(self.consumers(node.output[0])) == 1:
                (other,) = [name for name in adds[0].input if name != node.output[0]] or [node.output[0]]
                found = self.constant(other)
                if found is not None and found.shape == weights.shape[1:]:
                    bias, add = found, adds[0]
            yield LinearLayer(node, node.input[0], (add or node).output[0], weights, bias, add)

    def add_constant(self, name: str, values: npt.ArrayLike) -> str:
        """Add a tensor, unless there is one of that name, and return its name."""
        if name not in self._constants:
            tensor = numpy_helper.from_array(np.ascontiguousarray(values), name)
            self.proto.initializer.append(tensor)
            self._constants[name] = tensor
        return name

    def insert(self, before: onnx.NodeProto, nodes: Sequence[onnx.NodeProto]) -> None:
        """Insert nodes before another, so that the nodes remain in execution order."""
        place = next(index for index, node in enumerate(self.proto.node) if node is before)
        for offset, node in enumerate(nodes):
            self.proto.node.insert(place + offset, node)

    def remove(self, *nodes: onnx.NodeProto | None) -> None:
        """Remove nodes."""
        for node in nodes:
            if node is not None:
                self.proto.node.remove(node)

    def save(self, file: Path) -> None:
        """Remove unused nodes and tensors, and write the graph.

        Raises:
            ExportFailed: The graph is not valid.
        """
        self._drop_unread()
        del self.proto.value_info[:]
        if not any(entry.domain == CONTRIB for entry in self.model.opset_import):
            self.model.opset_import.append(helper.make_opsetid(CONTRIB, 1))
        try:
            onnx.save(self.model, file)
        except Exception as error:  # onnx and protobuf raise many kinds
            raise ExportFailed(f"the graph cannot be written ({error})", where=file.name, hint=_HINT) from error

    def _drop_unread(self) -> None:
        outputs = {output.name for output in self.proto.output}
        while True:
            read = outputs.union(*map(_read_by, self.proto.node))
            unread = [node for node in self.proto.node if not read.intersection(node.output)]
            if not unread:
                break
            self.remove(*unread)
        kept = [tensor for tensor in self.proto.initializer if tensor.name in read]
        del self.proto.initializer[:]
        self.proto.initializer.extend(kept)


def _read_by(node: onnx.NodeProto) -> set[str]:
    """Return the values that a node reads, also inside its branches, which read those around them."""
    read = set(node.input)
    for branch in (attribute.g for attribute in node.attribute if attribute.type == onnx.AttributeProto.GRAPH):
        read |= {output.name for output in branch.output}.union(*map(_read_by, branch.node))
    return read


def make_node(kind: str, inputs: Sequence[str], output: str, domain: str = "", **attributes: Any) -> onnx.NodeProto:
    """Make a node with one output; the node has the output's name."""
    return helper.make_node(kind, list(inputs), [output], name=output, domain=domain, **attributes)
