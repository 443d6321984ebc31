"""The chain from human coders to the file that is served, on the same locked rows, with paired intervals."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from itertools import pairwise
from typing import Any

from edgedistill.agreement.bootstrap import bootstrap_groups
from edgedistill.agreement.paired import change
from edgedistill.data.types import TestRows
from edgedistill.pipeline.folder import RunFolder
from edgedistill_serve.task.task import Task

PYTORCH_STEP = "PyTorch"
"""The trained student in a chain's hops, as `edgedistill_export` calls it too."""


def write_chain(folder: RunFolder, hops: Sequence[Mapping[str, Any]]) -> None:
    """Write `chain.json`, the hops from the trained student on, and put them into `evaluation.json` too.

    There they stand after the hops up to the student, in the place of those of an earlier export.
    """
    folder.write_json("chain.json", list(hops))
    up_to_student = [hop for hop in folder.read_json("evaluation.json")["chain"] if hop["after"] == PYTORCH_STEP]
    folder.amend("evaluate", "evaluation.json", {"chain": [*up_to_student, *hops]})


def chain_on(test: TestRows, task: Task) -> Callable[[Mapping[str, Sequence[str]]], list[dict[str, Any]]]:
    """Return what compares the forms of a student on locked rows.

    Args:
        test: The rows.
        task: Their labels.

    Returns:
        A function from each form's labels of the rows, in their order, to the hops of `chain`.
    """
    ids = [row.response.id for row in test]
    groups = bootstrap_groups([row.response.group for row in test])

    def compare(labels: Mapping[str, Sequence[str]]) -> list[dict[str, Any]]:
        codings = {form: dict(zip(ids, given, strict=True)) for form, given in labels.items()}
        human = dict(zip(ids, test.labels, strict=True))
        return chain(human, codings, task, dict(zip(ids, groups, strict=True)) if groups else None)

    return compare


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
