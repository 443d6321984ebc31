"""The binary tensor data extension of the Open Inference Protocol, as NVIDIA Triton and its clients use it.

A body with binary tensors is JSON followed by bytes; the header `Inference-Header-Content-Length` is the length of the
JSON. Instead of ``data``, a binary tensor has the parameter ``binary_data_size``; its bytes follow in the order of the
tensors. An element of a BYTES tensor is its length (4 bytes, little-endian) and its bytes; one of an FP64 tensor has 8
bytes, little-endian.
"""

import struct
from collections.abc import Sequence
from typing import Any, Literal

from edgedistill_serve.errors import WrongShape

HEADER_LENGTH = "Inference-Header-Content-Length"
BINARY_SIZE = "binary_data_size"
_LENGTH = struct.Struct("<I")


def split_body(body: bytes, header_length: bytes | None) -> tuple[bytes, memoryview]:
    """Return the JSON of a body and the bytes that follow it.

    Args:
        body: The body.
        header_length: Value of the header `HEADER_LENGTH`; None if there is none.

    Raises:
        WrongShape: The header is not a number up to the length of the body.
    """
    if header_length is None:
        return body, memoryview(b"")
    # A longer number is larger than every body; int() would refuse one of more than 4,300 digits.
    if not header_length.isdigit() or len(header_length) > 12 or (size := int(header_length)) > len(body):
        raise WrongShape(
            f"the header {HEADER_LENGTH} is not a number of bytes up to {len(body)}, the length of the body",
            hint="Send the length of the JSON before the binary tensors.",
        )
    return body[:size], memoryview(body)[size:]


def binary_size(parameters: dict[str, Any] | None, where: str) -> int | None:
    """Return the number of bytes of a binary tensor; None for a tensor in JSON.

    Raises:
        WrongShape: The parameter is not a number of bytes.
    """
    size = (parameters or {}).get(BINARY_SIZE)
    if size is None:
        return None
    if isinstance(size, bool) or not isinstance(size, int) or size < 0:
        raise WrongShape(f"{BINARY_SIZE} is not a number of bytes", where=where)
    return size


def decode_texts(data: memoryview, count: int, where: str) -> list[str]:
    """Return the texts of a BYTES tensor.

    Args:
        data: The bytes of the tensor.
        count: Number of texts, by its shape.
        where: The tensor, for error messages.

    Raises:
        WrongShape: The bytes are not so many texts in UTF-8.
    """
    texts: list[str] = []
    position = 0
    for index in range(count):
        if position + _LENGTH.size > len(data):
            raise WrongShape(f"the binary data ends before text {index} of {count}", where=where)
        (length,) = _LENGTH.unpack_from(data, position)
        position += _LENGTH.size
        if length > len(data) - position:
            raise WrongShape(f"text {index} is longer than the rest of the binary data", where=where)
        try:
            texts.append(str(data[position : position + length], "utf-8"))
        except UnicodeDecodeError:
            raise WrongShape(f"text {index} is not valid UTF-8", where=where, hint="Send texts in UTF-8.") from None
        position += length
    if position != len(data):
        raise WrongShape(f"{len(data) - position} bytes follow the last of {count} texts", where=where)
    return texts


def encode_tensor(datatype: Literal["BYTES", "FP64"], data: Sequence[str | float]) -> bytes:
    """Return the bytes of an output tensor."""
    if datatype == "FP64":
        return struct.pack(f"<{len(data)}d", *data)
    encoded = [str(text).encode() for text in data]
    return b"".join([part for text in encoded for part in (_LENGTH.pack(len(text)), text)])
