"""What a person reads of what the teacher did."""

from typing import Any

import pytest

from edgedistill.cli.terminal import Terminal
from edgedistill.pipeline import StageResult

COST = {"asked": 9, "cached": 0, "retries": {"the connection broke": 2}}


def shown(capsys: pytest.CaptureFixture[str], *set_aside: dict[str, Any]) -> str:
    """What is printed of a labelling."""
    causes = {row["reason"]: 1 for row in set_aside}
    entry = {"cost": COST, "rows": 9, "labelled": 8, "set_aside": list(set_aside), "set_aside_by_cause": causes}
    Terminal(as_json=False).step(StageResult("label", False, 1.0, entry))
    return capsys.readouterr().out


def test_tries_that_failed_and_were_made_up_for_name_no_file(capsys: pytest.CaptureFixture[str]) -> None:
    out = shown(capsys, {"id": "r1", "reason": "the votes tie", "detail": "process, outcome"})
    assert "2 tries failed: the connection broke" in out
    assert "failures.jsonl" not in out


def test_rows_set_aside_for_what_the_endpoint_said_name_the_file_that_has_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    detail = "failures.jsonl in the cache's folder has it under 0123456789abcdef"
    assert "are in failures.jsonl" in shown(capsys, {"id": "r1", "reason": "refused", "detail": detail})
