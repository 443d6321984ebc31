"""Shared arguments and options of the commands, and output of lines, JSON, tables and progress."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import msgspec

from edgedistill_serve.bundle.validation import CONTROL_CHARACTERS

BUNDLE = click.argument("bundle", type=click.Path(path_type=Path))
JSON = click.option("--json", is_flag=True, help="Write JSON.")
PUBLIC_KEY = click.option(
    "--public-key", type=click.Path(path_type=Path), help="Public key (PEM) with which the bundle must be signed."
)
THREADS = click.option(
    "--threads",
    type=click.IntRange(min=1),
    help="Number of scoring threads; by default, the number of cores.",
)


_UPDATE_SECONDS = 0.2
"""Shortest time between two updates of the progress line."""


def as_text(value: Any) -> str:
    """Return strings unchanged, and other values as JSON."""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def write(content: Any) -> None:
    """Write a string, or a value as JSON, as one line to stdout."""
    sys.stdout.write(f"{as_text(content)}\n")
    sys.stdout.flush()


def printable(text: str) -> str:
    r"""Return a text whose control characters are escapes, such as ``\\x1b``, so that a terminal does not obey them."""
    if text.isprintable():
        return text
    return CONTROL_CHARACTERS.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)


def write_table(rows: Sequence[tuple[str, str]]) -> None:
    """Write a table with two columns to stdout; the first row has the column names."""
    width = max(len(first) for first, _ in rows)
    for first, second in rows:
        write(printable(f"{first:{width}}  {second}".rstrip()))


class ProgressLine:
    """A progress line on stderr, which is overwritten; nothing is written if stderr is not a terminal.

    Args:
        quiet: Whether to write nothing.
    """

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet or not sys.stderr.isatty()
        self._updated = 0.0

    def show(self, text: str) -> None:
        """Replace the line, unless it was updated a moment ago."""
        if not self._quiet and time.monotonic() - self._updated >= _UPDATE_SECONDS:
            self._updated = time.monotonic()
            sys.stderr.write(f"\r\x1b[K{text}")
            sys.stderr.flush()

    def clear(self) -> None:
        """Clear the line."""
        if not self._quiet:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
