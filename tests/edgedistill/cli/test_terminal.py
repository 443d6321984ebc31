"""What a person reads of what the teacher did."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from rich.table import Table

import edgedistill
from edgedistill.cli.terminal import Terminal
from edgedistill.displays import plain_text
from edgedistill.pipeline import StageResult

COST = {"asked": 9, "cached": 0, "nano_dollars": 1_230_000_000, "retries": {"the connection broke": 2}}


def shown(capsys: pytest.CaptureFixture[str], *set_aside: dict[str, Any]) -> str:
    """What is printed of a labelling."""
    causes = {row["reason"]: 1 for row in set_aside}
    entry = {"cost": COST, "rows": 9, "labelled": 8, "set_aside": list(set_aside), "set_aside_by_cause": causes}
    Terminal(as_json=False).step(StageResult("label", False, 1.0, entry))
    return capsys.readouterr().out


def test_tries_that_failed_and_were_made_up_for_name_no_file(capsys: pytest.CaptureFixture[str]) -> None:
    out = shown(capsys, {"id": "r1", "reason": "the votes tie", "detail": "process, outcome"})
    assert "2 tries failed: the connection broke" in out
    assert "9 asked, $1.23, 2 tries" in out
    assert "failures.jsonl" not in out


def test_rows_set_aside_for_what_the_endpoint_said_name_the_file_that_has_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    detail = "failures.jsonl in the cache's folder has it under 0123456789abcdef"
    assert "are in failures.jsonl" in shown(capsys, {"id": "r1", "reason": "refused", "detail": detail})


NAME = "[off-topic] [/x] [bold]b[/bold] [link=a]c[/link] :smile: [red"
"""A name that rich would read as markup or emoji."""


def test_names_of_users_are_printed_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    terminal = Terminal(as_json=False)
    counts = SimpleNamespace(file=NAME, read=2, used={NAME: 1}, set_aside={NAME: 1})
    records = SimpleNamespace(row_counts=[counts], notes=[NAME], splits=SimpleNamespace(notes=[NAME]))
    terminal.opening(cast("Any", SimpleNamespace(name=NAME, path=Path(NAME))), cast("Any", records))
    assert capsys.readouterr().out.count(NAME) == 6
    entry = {"rows": 2, "by_source_and_label": {NAME: 2}, "notes": [NAME], "headline": NAME}
    terminal.step(StageResult("mix", False, 1.0, entry))
    assert capsys.readouterr().out.count(NAME) == 3
    terminal.say(NAME)
    terminal.console.print(f"signed  {NAME}")
    assert capsys.readouterr().out.count(NAME) == 2
    diversity = {"of": NAME, "label": NAME, "temperature": None, "rows": 1, "words": (1.0,)}
    figures = {"distinct_1": 0.5, "distinct_2": None, "self_bleu": 0.1}
    terminal.console.width = 200
    terminal.generation({"regraded": None, "diversity": [diversity | figures]})
    assert capsys.readouterr().out.count(NAME) == 2
    step = {"before": NAME, "after": NAME, "rows": 1, "flips": 0, "flip_rate": 0.0, "max_probability_difference": 0.0}
    terminal.fidelity({"steps": [step], "notes": [NAME]})
    assert capsys.readouterr().out.count(NAME) == 3


def test_names_of_users_in_tables_of_python_are_printed_as_they_are() -> None:
    table = Table(NAME)
    table.add_row(NAME)
    assert plain_text(table).count(NAME) == 2


def test_no_console_of_ours_reads_markup() -> None:
    for file in Path(edgedistill.__file__).parent.rglob("*.py"):
        for call in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(call, ast.Call) and getattr(call.func, "id", "") in ("Console", "TextColumn"):
                literal = {word.arg: getattr(word.value, "value", None) for word in call.keywords}
                assert literal.get("markup", "stderr" not in literal) is False, f"{file}:{call.lineno}"


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_commands_write_json_in_utf8_and_escape_text_in_other_encodings(tmp_path: Path, encoding: str) -> None:
    def stdout(*words: str) -> bytes:
        program = [sys.executable, "-c", "from edgedistill.cli import main; main()", "init", *words]
        done = subprocess.run(program, cwd=tmp_path, capture_output=True, env=environ, check=False)
        assert (done.returncode, done.stderr) == (0, b"")
        return done.stdout

    environ = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    assert json.loads(stdout("новый/praise", "--json").decode("utf-8"))["files"][0].startswith("новый")
    assert "漢字".encode(encoding, "backslashreplace") in stdout("漢字/praise")
