"""What is written to stdout in any encoding: JSON in UTF-8, text with escapes, never control characters."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edgedistill_serve.cli.terminal import one_line, printable, summarise, write

LABEL = "новый 漢字 é — \U0001f44d"


def printed(code: str, encoding: str) -> bytes:
    program = f"from edgedistill_serve.cli.terminal import *\nprepare_streams()\nlabel = {LABEL!a}\n{code}"
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


FULL = Path("/dev/full")
COMMANDS = [
    ("edgedistill_serve.cli.main", "key", "new", "one"),
    ("edgedistill_serve.cli.main", "key", "new", "one", "--json"),
    ("edgedistill.cli", "--help"),
    ("edgedistill.cli", "backbones", "list"),
]


def ended(module: str, *words: str, before: str = "", stdout: Any = None) -> "subprocess.CompletedProcess[str]":
    program = [sys.executable, "-c", f"{before}\nfrom {module} import main\nmain()", *words]
    return subprocess.run(program, stdout=stdout, stderr=subprocess.PIPE, text=True, check=False)


@pytest.mark.skipif(not FULL.exists(), reason="there is no device that is always full")
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_stdout_that_takes_nothing_ends_a_command_with_one_line(command: tuple[str, ...]) -> None:
    with FULL.open("w") as full:
        done = ended(*command, stdout=full)
    line = done.stderr.splitlines()[-1]
    assert done.returncode == 2
    assert line.endswith("the output cannot be written (No space left on device)")
    assert "Traceback" not in done.stderr
    assert "ignored" not in done.stderr


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_command_whose_streams_are_closed_does_its_work(command: tuple[str, ...]) -> None:
    before = "import os, sys\nos.close(1), os.close(2)\nsys.stdout = sys.stderr = None"  # as Python begins then
    assert ended(*command, before=before).returncode == 0


def test_an_error_of_the_system_that_nobody_expected_is_one_line() -> None:
    before = "import tempfile\nfrom edgedistill_serve.cli import main as cli\n"
    for fault, line in {
        "FileNotFoundError(2, 'No usable temporary directory found in [/tmp]')": (
            "error: No usable temporary directory found in [/tmp]. Name a folder that can be written with TMPDIR.\n"
        ),
        "PermissionError(13, 'x', 'a\\nfile')": "error: a file: Permission denied\n",
    }.items():
        raising = f"{before}def app():\n    raise {fault}\ncli.app = app"
        done = ended("edgedistill_serve.cli.main", before=raising)
        assert (done.returncode, done.stderr) == (2, line)


def test_figures_of_a_manifest_are_a_line_that_a_person_can_read():
    kappa = {"value": 0.81657, "low": 0.70099, "high": 0.89775}
    figures = {"rows": 118, "kappa": kappa, "per_label": {"a": {"f1": 0.8}}, "groups": None}
    assert summarise(figures) == "rows 118, kappa 0.817 [0.701, 0.898], groups none; --json has per_label"
    assert summarise([{"file": "human.csv", "rows": 299}, {"file": "b.csv", "rows": 5}]) == (
        "file human.csv, rows 299; file b.csv, rows 5"
    )
    assert (summarise("0.1.0"), summarise(0), summarise([]), summarise({})) == ("0.1.0", "0", "none", "none")
    assert summarise({"steps": [1], "more": {}}) == "--json has steps, more"


def test_a_long_line_is_cut_and_says_where_the_rest_is():
    line = summarise({f"number {n}": n for n in range(200)})
    assert len(line) < 300
    assert line.endswith("\u2026; --json has all")
