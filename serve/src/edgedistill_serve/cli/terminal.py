"""What the commands share: arguments, options, and how they write lines, JSON, tables and progress."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import msgspec

BUNDLE = click.argument("bundle", type=click.Path(path_type=Path))
JSON = click.option("--json", is_flag=True, help="Write JSON, for machines.")
PUBLIC_KEY = click.option(
    "--public-key", type=click.Path(path_type=Path), help="Public key (PEM): the bundle must be signed by its maker."
)
THREADS = click.option(
    "--threads",
    type=click.IntRange(min=1),
    help="Responses scored at a time; as many as there are cores unless said.",
)


_BETWEEN_COUNTS = 0.2
"""Seconds from one writing of a count to the next."""


def as_text(value: Any) -> str:
    """Return a text as it is, and anything else as JSON."""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def write(content: Any) -> None:
    """Write a line to stdout: a text, or JSON."""
    sys.stdout.write(f"{as_text(content)}\n")
    sys.stdout.flush()


def write_table(rows: Sequence[tuple[str, str]]) -> None:
    """Write two columns to stdout, the first row being their names."""
    width = max(len(first) for first, _ in rows)
    for first, second in rows:
        write(f"{first:{width}}  {second}".rstrip())


class Count:
    """A line on stderr that is written over as work goes on; nothing where stderr is no terminal.

    Args:
        quiet: Whether nothing is written at all.
    """

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet or not sys.stderr.isatty()
        self._written = 0.0

    def show(self, text: str) -> None:
        """Write a text over the one before, unless that was written a moment ago."""
        if not self._quiet and time.monotonic() - self._written >= _BETWEEN_COUNTS:
            self._written = time.monotonic()
            sys.stderr.write(f"\r\x1b[K{text}")
            sys.stderr.flush()

    def clear(self) -> None:
        """Leave the line empty."""
        if not self._quiet:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
