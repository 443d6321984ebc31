"""Check of an ONNX file before any runtime loads it, by parsing its protobuf without onnx.

A checksum covers the bytes of a graph, not what the graph refers to, so weights in other files are refused. Protobuf
parsers differ on bytes that no writer produces: one drops the upper bits of a long field number and finds a graph where
another finds an unknown field. The check therefore accepts only the encoding that protobuf writers produce, and refuses
everything else, so that it reads what onnxruntime reads.

Loops are refused too: the number of their iterations can depend on a text, and no test run on other texts shows that
they end. Without loops, every operator runs at most once.

The field numbers are those of onnx.proto, ONNX IR version 13. The parser enters fields that can contain a tensor or an
operator, and skips all others.
"""

from collections.abc import Iterable, Iterator
from typing import TypeAlias

from edgedistill_serve.errors import BundleError

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MESSAGES: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse tensor"},
    "function": {7: "node", 11: "default"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse tensor", 23: "sparse tensor"},
    "sparse tensor": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
_MESSAGES["default"] = _MESSAGES["branch"] = _MESSAGES["attribute"]
"""A default is an attribute of a function; a branch is an attribute of the operator ``If``."""
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14
_OPERATOR, _DOMAIN = 4, 7
_LOOPS = frozenset({b"Loop", b"Scan", b"SequenceMap"})
_ONNX_DOMAINS = frozenset({b"", b"ai.onnx"})
_Field: TypeAlias = tuple[int, int, int, int]
"""Number, wire type, value of a varint or start of the content, end."""

_MAX_FIELD = 2**29 - 1
_MAX_LENGTH = 2**31 - 1
_MAX_VARINT_BYTES = 10
_FIXED_BYTES = {_FIXED64: 8, _FIXED32: 4}


class _InvalidProtobuf(ValueError):
    pass


def check_graph_file(content: bytes, name: str) -> None:
    """Check that a graph has all its weights in its own file, and no loop.

    Args:
        content: The bytes of the ONNX file.
        name: Name of the graph in error messages.

    Raises:
        BundleError: A tensor has external data, an operator repeats a part of the graph, or the content is not
            protobuf as its writers encode it.
    """
    try:
        fault = _fault(content)
    except _InvalidProtobuf as error:
        raise BundleError(
            f"the file is not an ONNX graph ({error})", where=name, hint="Export the bundle again."
        ) from None
    if fault:
        raise BundleError(fault, where=name, hint="Export the bundle again, with a model that has none.")


def _fault(content: bytes) -> str | None:  # noqa: C901  # one walk over all kinds of messages
    # A work list instead of recursion, because deep nesting would exhaust the stack.
    pending = [("model", 0, len(content))]
    while pending:
        kind, start, end = pending.pop()
        fields: Iterable[_Field] = _fields(content, start, end)
        inner = _MESSAGES[kind]
        if kind == "node":
            fields = list(fields)
            operators, domains = (_texts(content, fields, number) for number in (_OPERATOR, _DOMAIN))
            if not _LOOPS.isdisjoint(operators):
                return "the graph has a loop, whose number of iterations nothing limits"
            if operators == [b"If"] and _ONNX_DOMAINS.issuperset(domains):
                inner = inner | {5: "branch"}
        for number, wire, first, last in fields:
            if kind == "tensor" and _is_external(number, wire, first):
                return "the graph has weights in another file, which no checksum covers"
            if number in inner:
                _check_is_message(wire, number, kind)
                if inner[number] == "graph" and kind in ("attribute", "default"):
                    return "an operator other than If has a graph as its attribute"
                pending.append((inner[number], first, last))
    return None


def _check_is_message(wire: int, number: int, kind: str) -> None:
    if wire != _BYTES:
        raise _InvalidProtobuf(f"field {number} of a {kind} has another type")


def _is_external(number: int, wire: int, value: int) -> bool:
    return number == _EXTERNAL_DATA or (number == _DATA_LOCATION and (wire, value) != (_VARINT, 0))


def _texts(content: bytes, fields: Iterable[_Field], wanted: int) -> list[bytes]:
    """Return every value of a text field; the last one counts, but a writer writes one."""
    return [content[first:last] for number, wire, first, last in fields if (number, wire) == (wanted, _BYTES)]


def _fields(content: bytes, start: int, end: int) -> Iterator[_Field]:  # one branch for each wire type
    position = start
    while position < end:
        tag, position = _varint(content, position, end)
        number, wire = tag >> 3, tag & 7
        first = position
        if not 0 < number <= _MAX_FIELD:
            raise _InvalidProtobuf("a field number is out of range")
        if wire == _VARINT:
            first, position = _varint(content, position, end)
        elif wire == _BYTES:
            length, first = _varint(content, position, end)
            if length > _MAX_LENGTH:
                raise _InvalidProtobuf("a length is out of range")
            position = first + length
        elif wire in _FIXED_BYTES:
            position += _FIXED_BYTES[wire]
        else:  # groups, which ONNX does not have, and types that do not exist
            raise _InvalidProtobuf(f"a field has the type {wire}")
        if position > end:
            raise _InvalidProtobuf("it ends in the middle of a field")
        yield number, wire, first, position


def _varint(content: bytes, position: int, end: int) -> tuple[int, int]:
    """Return a varint and the position after it. Only the shortest encoding of at most 64 bits is valid."""
    value = 0
    for index in range(_MAX_VARINT_BYTES):
        if position >= end:
            raise _InvalidProtobuf("it ends in the middle of a number")
        byte = content[position]
        position += 1
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:  # the highest bit marks that another byte follows
            if (index and not byte) or value >= 2**64:
                raise _InvalidProtobuf("a number is longer than it needs to be")
            return value, position
    raise _InvalidProtobuf("a number is longer than it needs to be")
