"""Detection of the encoding and the delimiter of text tables.

The encoding is that of a byte order mark; without one, UTF-8, unless the bytes beyond ASCII are mostly not UTF-8: then
Windows-1252, which western European spreadsheets write. The delimiter is the one that gives the header the columns that
are needed. Both can be wrong, so `Dialect` describes what was detected.
"""

import codecs
import re
from collections.abc import Collection
from dataclasses import dataclass
from io import TextIOWrapper
from typing import BinaryIO

from edgedistill_serve.errors import DataError
from edgedistill_serve.grading.column_names import has_column
from edgedistill_serve.grading.text_rows import open_text, read_record

DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
"""Those that are detected, with their names."""

_BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32",  # begins as UTF-16 does, so it is tried before
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_NAMES = {"utf-8": "UTF-8", "cp1252": "Windows-1252", "utf-16": "UTF-16", "utf-32": "UTF-32"}
_SEPARATOR_LINE = re.compile(r'"?[sS][eE][pP]=([^\r\n"])?"?(?:\r\n|\r|\n)')
_SAMPLE = '"a";b\r\n'
_BLOCK = 2**20
_HEADER_CHARACTERS = 2**17


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a text table is read.

    Attributes:
        encoding: Name of the codec.
        delimiter: Separates the fields; empty for JSONL.
        separator_line: Whether the first line names the delimiter, as Excel writes ``sep=;``.
    """

    encoding: str = "utf-8"
    delimiter: str = ","
    separator_line: bool = False

    @property
    def encoding_name(self) -> str:
        """The encoding as messages name it."""
        return _NAMES.get(self.encoding, self.encoding)

    def open(self, file: BinaryIO, newline: str = "") -> TextIOWrapper:
        """Return the text of a file after its byte order mark and its line with the delimiter."""
        text = open_text(file, "utf-8-sig" if self.encoding == "utf-8" else self.encoding, newline)
        if self.separator_line:
            text.readline(16)
        return text

    def __str__(self) -> str:
        fields = f", with fields separated by {DELIMITERS.get(self.delimiter, repr(self.delimiter))}"
        return f"{self.encoding_name}{fields if self.delimiter else ''}"


def check_encoding(name: str) -> str:
    """Return the name of Python's codec for a text encoding.

    Raises:
        DataError: There is none.
    """
    try:
        codec = codecs.lookup(name).name
        is_text = _SAMPLE.encode(codec).decode(codec) == _SAMPLE
    except (LookupError, UnicodeError, ValueError):
        is_text = False
    if not is_text:
        raise DataError(
            f"the encoding {name[:40]!r} is not known", where="--encoding", hint="Use utf-8, cp1252 or utf-16, say."
        )
    return codec.removesuffix("-sig")


def check_delimiter(delimiter: str) -> str:
    r"""Return a delimiter; ``\\t`` and ``tab`` stand for a tab.

    Raises:
        DataError: It is not one character that can separate fields.
    """
    found = {"\\t": "\t", "tab": "\t"}.get(delimiter, delimiter)
    if len(found) != 1 or found in '"\r\n\ufeff\0' or found.isalnum():
        raise DataError(
            f"{delimiter[:20]!r} cannot separate fields", where="--delimiter", hint='Use ",", ";", "|" or "tab".'
        )
    return found


def detect_encoding(file: BinaryIO) -> str:
    """Return the codec of a text file, which is read to its end, in constant memory."""
    first = file.read(_BLOCK)
    for mark, encoding in _BYTE_ORDER_MARKS.items():
        if first.startswith(mark):
            return encoding
    head = first[:1024]
    if head.count(0) > len(head) // 4:  # texts in UTF-16 without a mark, of a language with Latin letters
        return "utf-16-le" if head[1::2].count(0) > head[::2].count(0) else "utf-16-be"
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    valid = invalid = 0
    block = first
    while True:
        text = decoder.decode(block, final=not block)
        if not text.isascii():
            bad = sum(map(len, _ESCAPED.findall(text)))
            invalid += bad
            valid += sum(map(len, _BEYOND_ASCII.findall(text))) - bad
        if not block:
            break
        block = file.read(_BLOCK)
    return "cp1252" if invalid > valid else "utf-8"


_ESCAPED = re.compile("[\udc80-\udcff]+")
_BEYOND_ASCII = re.compile("[^\0-\x7f]+")


def detect_delimiter(
    file: BinaryIO, encoding: str, usual: str, needed: Collection[str], header_row: int = 1
) -> tuple[str, bool]:
    """Return the delimiter of a CSV or TSV file, and whether its first line names it.

    Args:
        file: The file, at its beginning.
        encoding: Its codec.
        usual: The delimiter that its suffix stands for; if others fit as well, it is the one.
        needed: Columns that the header should have.
        header_row: The row with the names of the columns, the first being 1.
    """
    with open_text(file, "utf-8-sig" if encoding == "utf-8" else encoding) as text:
        head = text.read(_HEADER_CHARACTERS)
    if (named := _SEPARATOR_LINE.match(head)) and named[1]:
        return named[1], True
    candidates = dict.fromkeys([usual, *DELIMITERS])
    headers = {each: read_record(head, each, header_row) for each in candidates}

    def fits(delimiter: str) -> tuple[bool, int]:
        header = headers[delimiter]
        return all(has_column(name, header) for name in needed), len(header)

    return max(candidates, key=fits), False
