"""What is written to stdout in any encoding: JSON in UTF-8, text with escapes, never control characters."""

import json
import os
import subprocess
import sys

import pytest

from edgedistill_serve.cli.terminal import one_line, printable, write

LABEL = "новый 漢字 é — \U0001f44d"


def printed(code: str, encoding: str) -> bytes:
    program = f"from edgedistill_serve.cli.terminal import *\nescape_unencodable()\nlabel = {LABEL!a}\n{code}"
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": encoding},
        check=False,
    )
    assert done.stderr == b""
    return done.stdout


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1", "utf-8", "utf-16", "shift_jis"])
def test_json_is_utf8_whatever_the_encoding_of_stdout_is(encoding: str) -> None:
    assert json.loads(printed("write({'label': label})", encoding).decode("utf-8")) == {"label": LABEL}


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1", "utf-8"])
def test_text_that_stdout_cannot_encode_is_escaped(encoding: str) -> None:
    expected = f"{LABEL}, accept\n".encode(encoding, "backslashreplace")
    assert printed("write(label + ', accept')", encoding) == expected


def test_half_a_character_of_a_file_name_is_an_escape_of_json() -> None:
    assert json.loads(printed('write_json(\'{"out": "\\udc80"}\')', "ascii")) == {"out": "\udc80"}


@pytest.mark.parametrize("control", ["\x1b[2J", "\x07", "\r", "\n", "\u2028", "\u202e", "\x9b"])
def test_no_text_controls_the_terminal(control: str, capsys: pytest.CaptureFixture[str]) -> None:
    write(f"praise{control}: accept")
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert control not in out.removesuffix("\n")
    assert "\x1b" not in printable(control)
    assert len(one_line(f"first{control}second\n third").splitlines()) == 1
