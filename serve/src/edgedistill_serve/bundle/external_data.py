"""A graph that keeps its weights in other files is found by reading its protobuf, without onnx and without loading it.

onnxruntime follows such references, and the checksum of the graph does not cover what they lead to. Only the fields
that can hold a tensor are entered (numbers from onnx.proto, ONNX IR version 13); all others are stepped over.
"""

import mmap
from collections.abc import Iterator
from pathlib import Path

from edgedistill_serve.errors import BundleError

_VARINT, _FIXED64, _BYTES, _GROUP, _GROUP_END, _FIXED32 = range(6)
_TENSORS: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse tensor"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse tensor", 23: "sparse tensor"},
    "sparse tensor": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14


class _NoProtobuf(ValueError):
    pass


def check_no_external_data(graph: Path, name: str) -> None:
    """Refuse a graph some of whose weights lie in another file.

    A file that is no protobuf is let through: onnxruntime refuses it, and the scorer then falls back.

    Args:
        graph: The ONNX file.
        name: What an error calls it.

    Raises:
        BundleError: A tensor's data lie outside.
        OSError: The file cannot be read.
    """
    if graph.stat().st_size == 0:
        return
    with graph.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        try:
            outside = _keeps_data_outside(content)
        except _NoProtobuf:
            return
    if outside:
        raise BundleError(
            "the graph keeps weights in another file, which no checksum covers",
            where=name,
            hint="Export the bundle again; the weights belong into the graph.",
        )


def _keeps_data_outside(content: mmap.mmap) -> bool:
    # A list of spans and not a recursion, so that no depth of nesting exhausts the stack.
    waiting = [("model", 0, len(content))]
    while waiting:
        kind, start, end = waiting.pop()
        for number, wire, first, last in _fields(content, start, end):
            if kind == "tensor" and number == _EXTERNAL_DATA and wire == _BYTES:
                return True
            if kind == "tensor" and number == _DATA_LOCATION and wire == _VARINT and first != 0:
                return True
            if wire == _BYTES and number in _TENSORS[kind]:
                waiting.append((_TENSORS[kind][number], first, last))
    return False


def _fields(content: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Number and wire type of each field; a varint's value, or where the others' content begins; where it ends."""
    at = start
    while at < end:
        tag, at = _varint(content, at, end)
        wire, first = tag & 7, at
        if wire == _VARINT:
            first, at = _varint(content, at, end)
        elif wire == _BYTES:
            length, first = _varint(content, at, end)
            at = first + length
        elif wire in (_FIXED64, _FIXED32):
            at += 8 if wire == _FIXED64 else 4
        elif wire not in (_GROUP, _GROUP_END):
            raise _NoProtobuf
        if at > end:
            raise _NoProtobuf
        yield tag >> 3, wire, first, at


def _varint(content: mmap.mmap, at: int, end: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= end:
            raise _NoProtobuf
        byte = content[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:  # the highest bit says that another byte follows
            return value, at
    raise _NoProtobuf
