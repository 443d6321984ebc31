"""Shared arguments and options of the commands, and output of lines, JSON, tables and progress."""

import errno
import io
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import click
import msgspec

from edgedistill_serve import bounds
from edgedistill_serve.bundle.validation import printable

BUNDLE = click.argument("bundle", type=click.Path(path_type=Path))
JSON = click.option("--json", is_flag=True, help="Write JSON.")
PUBLIC_KEY = click.option(
    "--public-key", type=click.Path(path_type=Path), help="Public key (PEM) with which the bundle must be signed."
)
THREADS = click.option(
    "--threads",
    type=click.IntRange(int(bounds.THREADS.low), int(bounds.THREADS.high)),
    help="Number of scoring threads; by default, the number of available cores (affinity and control group).",
)


_OF_WRITING = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF})
"""Errors of writing, which have no name of a file; those of other files than stdout are handled where they arise."""
_UPDATE_SECONDS = 0.2
"""Shortest time between two updates of the progress line."""


def as_text(value: Any) -> str:
    """Return strings unchanged, and other values as JSON."""
    if isinstance(value, str):
        return value
    try:
        return msgspec.json.encode(value).decode()
    except UnicodeEncodeError:  # half a character, of the name of a file that is not UTF-8
        return json.dumps(msgspec.to_builtins(value))


_LINE_CHARACTERS = 240


def summarise(value: Any) -> str:
    """Return what a person reads of a value of a manifest in a line: numbers with their intervals, no nested tables.

    Example:
        >>> summarise({"rows": 118, "kappa": {"value": 0.8166, "low": 0.701, "high": 0.8978}, "per_label": {"a": {}}})
        'rows 118, kappa 0.817 [0.701, 0.898]; --json has per_label'
    """
    if value == {}:
        return "none"
    line, left_out = _summary(value)
    if len(line) > _LINE_CHARACTERS:
        line, left_out = f"{line[:_LINE_CHARACTERS].rsplit(', ', 1)[0]}, \u2026", [*left_out, "all"]
    names = ", ".join(left_out)
    return f"{line}; --json has {names}" if line and names else line or f"--json has {names}"


def _summary(value: Any) -> tuple[str, list[str]]:
    """Return a value in a line, and the names of what is left out."""
    if isinstance(value, Mapping):
        shown, left_out = [], []
        for name, each in value.items():
            if (text := _short(each)) is None:
                left_out.append(str(name))
            else:
                shown.append(f"{name} {text}")
        return ", ".join(shown), left_out
    if isinstance(value, list | tuple) and value:
        parts = [_short(each) if not isinstance(each, Mapping) else _summary(each)[0] for each in value]
        return "; ".join(part for part in parts if part), []
    return "none" if value in ((), []) else _short(value) or as_text(value), []


def _short(value: Any) -> str | None:
    """Return a number, a text, or an estimate with its interval; None for a table."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, int | str):
        return str(value)
    if isinstance(value, Mapping) and {"value", "low", "high"} == set(value):
        return f"{_short(value['value'])} [{_short(value['low'])}, {_short(value['high'])}]"
    return None


def write(content: Any) -> None:
    """Write a string, its control characters escaped, or a value as JSON in UTF-8, as one line to stdout."""
    if isinstance(content, str):
        sys.stdout.write(f"{printable(content)}\n")
        sys.stdout.flush()
    else:
        write_json(as_text(content))


def write_json(text: str) -> None:
    """Write JSON and a line break to stdout, in UTF-8 whatever the encoding of stdout is.

    A program that reads JSON expects UTF-8 (RFC 8259), while stdout follows the locale: on Windows, redirected to a
    file, it is often cp1252. A lone surrogate, for example of a file's name, becomes a JSON escape.
    """
    data = f"{text}\n".encode("utf-8", "backslashreplace")
    sys.stdout.flush()
    binary = getattr(sys.stdout, "buffer", None)
    if binary is None:  # a notebook, or a text stream that replaces stdout
        sys.stdout.write(data.decode("utf-8"))
    else:
        binary.write(data)
    sys.stdout.flush()


def prepare_streams() -> None:
    r"""Write characters that stdout or stderr cannot encode as escapes, such as ``\\u6f22``, instead of failing.

    What is written to a stream that the caller has closed is discarded.
    """
    sys.stdout = sys.stdout or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115  # until the process ends
    sys.stderr = sys.stderr or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            with suppress(OSError):  # a file that was replaced by a pipe under the stream, which then cannot seek
                stream.reconfigure(errors="backslashreplace")


def one_line(error: object) -> str:
    """Return an error message as one printable line."""
    return printable(" ".join(str(error).split()))


def end_with(error: OSError, program: str) -> NoReturn:
    """End the process with exit code 2 for an error of the operating system that no command expected, in one line.

    Args:
        error: The error.
        program: The beginning of the line.
    """
    what, hint = error.strerror or type(error).__name__, ""
    if isinstance(error.filename, str | bytes):
        what = f"{os.fsdecode(error.filename)}: {os.strerror(error.errno) if error.errno else what}"
    elif error.errno in _OF_WRITING:
        what = f"the output cannot be written ({what})"
    elif "temporary directory" in what:
        hint = ". Name a folder that can be written with TMPDIR."
    try:
        sys.stdout.flush()
    except OSError:  # what could not be written is not tried once more at the exit
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    with suppress(OSError):
        sys.stderr.write(f"{program}: {one_line(what + hint)}\n")
        sys.stderr.flush()
    sys.exit(2)


def write_table(rows: Sequence[tuple[str, str]]) -> None:
    """Write a table with two columns to stdout; the first row has the column names."""
    width = max(len(first) for first, _ in rows)
    for first, second in rows:
        write(f"{first:{width}}  {second}".rstrip())


class ProgressLine:
    """A progress line on stderr, which is overwritten; nothing is written if stderr is not a terminal.

    Args:
        quiet: Whether to write nothing.
    """

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet or not sys.stderr.isatty()
        self._updated = 0.0

    @property
    def is_shown(self) -> bool:
        """Whether there is a line."""
        return not self._quiet

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
