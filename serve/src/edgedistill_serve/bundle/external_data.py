"""Detection of graphs with weights in external files, by parsing the protobuf without onnx and without loading it.

onnxruntime follows references to external files, and the checksum of the graph does not cover those files. The parser
enters only fields that can contain a tensor (field numbers from onnx.proto, ONNX IR version 13) and skips all others.
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


class _InvalidProtobuf(ValueError):
    pass


def check_no_external_data(graph: Path, name: str) -> None:
    """Check that all weights of a graph are in its own file.

    A file that is not valid protobuf passes: onnxruntime rejects it later, and the scorer then uses its fallback.

    Args:
        graph: The ONNX file.
        name: Name of the graph in error messages.

    Raises:
        BundleError: A tensor has external data.
        OSError: The file cannot be read.
    """
    if graph.stat().st_size == 0:
        return
    with graph.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        try:
            is_external = _has_external_data(content)
        except _InvalidProtobuf:
            return
    if is_external:
        raise BundleError(
            "the graph has weights in another file, which no checksum covers",
            where=name,
            hint="Export the bundle again with the weights inside the graph.",
        )


def _has_external_data(content: mmap.mmap) -> bool:
    # A work list instead of recursion, because deep nesting would exhaust the stack.
    pending = [("model", 0, len(content))]
    while pending:
        kind, start, end = pending.pop()
        for number, wire, first, last in _fields(content, start, end):
            if kind == "tensor" and number == _EXTERNAL_DATA and wire == _BYTES:
                return True
            if kind == "tensor" and number == _DATA_LOCATION and wire == _VARINT and first != 0:
                return True
            if wire == _BYTES and number in _TENSORS[kind]:
                pending.append((_TENSORS[kind][number], first, last))
    return False


def _fields(content: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield each field as (number, wire type, value of a varint or start of the content, end)."""
    position = start
    while position < end:
        tag, position = _varint(content, position, end)
        wire, first = tag & 7, position
        if wire == _VARINT:
            first, position = _varint(content, position, end)
        elif wire == _BYTES:
            length, first = _varint(content, position, end)
            position = first + length
        elif wire in (_FIXED64, _FIXED32):
            position += 8 if wire == _FIXED64 else 4
        elif wire not in (_GROUP, _GROUP_END):
            raise _InvalidProtobuf
        if position > end:
            raise _InvalidProtobuf
        yield tag >> 3, wire, first, position


def _varint(content: mmap.mmap, position: int, end: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= end:
            raise _InvalidProtobuf
        byte = content[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:  # the highest bit marks that another byte follows
            return value, position
    raise _InvalidProtobuf
