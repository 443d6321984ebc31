"""The chain from human coders to the file that is served, on the same locked rows, with paired intervals."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import pairwise
from typing import Any

from edgedistill.agreement.paired import change
from edgedistill_serve.task import Task

STUDENT = "PyTorch"
"""The trained student in a chain's hops, as `edgedistill_export` calls it too."""


def whole_chain(before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the hops up to the trained student, then the hops from there, whatever came after it earlier."""
    return [dict(hop) for hop in (*(hop for hop in before if hop["after"] == STUDENT), *after)]


def chain(
    human: Mapping[str, str],
    codings: Mapping[str, Mapping[str, str]],
    task: Task,
    groups: Mapping[str, str] | None = None,
) -> list[dict[str, Any]]:
    """Compare each coding with the one before it, both against the human codes.

    Args:
        human: The human code by the row's id.
        codings: By name and in order, such as teacher, PyTorch, ONNX fp32, int8: labels by the row's id. A row that one
            of two neighbours lacks is left out of their hop.
        task: Its labels.
        groups: By the row's id what it belongs to; whole groups are then resampled.

    Returns:
        One entry per hop: ``before``, ``after`` and what `edgedistill.agreement.paired.Change` says.
    """
    hops = []
    for before, after in pairwise(codings):
        rows = [row for row in human if row in codings[before] and row in codings[after]]
        if rows:
            measured = change(
                [human[row] for row in rows],
                [codings[before][row] for row in rows],
                [codings[after][row] for row in rows],
                task,
                groups=[groups[row] for row in rows] if groups else None,
            )
            hops.append({"before": before, "after": after, **asdict(measured)})
    return hops
