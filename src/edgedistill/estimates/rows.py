"""The rows of an estimation without ids and texts, from which it can be made again: `estimates_rows.json`.

record_rows()       what an estimation was made from
estimate_again()    the estimation of such a record
"""

from collections.abc import Mapping
from typing import Any

from edgedistill.estimates.codes import INCLUSION_PROBABILITY, Codes
from edgedistill.estimates.estimate import estimate
from edgedistill.estimates.results import EstimateTable
from edgedistill.task import Label, Task

ROWS_FILE = "estimates_rows.json"
ROWS_VERSION = 1
_MACHINE, _HUMAN, _CLUSTER, _SPLIT = "machine code", "human code", "cluster", "split"


def record_rows(
    codes: Codes,
    *,
    by: str | None = None,
    reference: str | None = None,
    formula: str | None = None,
    model: str = "ols",
    scores: Mapping[str, float] | None = None,
    random_state: int = 0,
) -> dict[str, Any]:
    """Return the counted rows as columns of plain values, and the arguments of `estimate`, which has accepted them.

    Ids are left out and clusters numbered. The columns ``by`` and those of the formula are kept as they are.
    """
    frame = codes.frame
    columns: dict[str, list[Any]] = {
        _MACHINE: list(codes.machine_codes),
        _HUMAN: [code or "" for code in codes.human_codes],
        _SPLIT: ["train" if known else "" for known in codes.known.tolist()],
    }
    if (codes.weights[codes.coded] != 1).any():
        columns[INCLUSION_PROBABILITY] = [1 / weight if weight > 0 else None for weight in codes.weights.tolist()]
    if codes.clustered:
        columns[_CLUSTER] = [f"cluster-{number:09}" for number in codes.clusters.tolist()]  # sorted by number
    if codes.probabilities is not None:
        for place, name in enumerate(codes.task.names):
            columns[f"probability_{name}"] = codes.probabilities[:, place].tolist()
    if by is not None:
        columns[by] = [None if value is None or value != value else value for value in frame[by].tolist()]
    for name in _covariates(formula):
        columns[name] = [None if value is None or value != value else value for value in frame[name].tolist()]
    return {
        "schema_version": ROWS_VERSION,
        "kind": codes.task.kind,
        "labels": list(codes.task.names),
        "clustered": codes.clustered,
        "arguments": {
            "by": by,
            "reference": reference,
            "formula": formula,
            "model": model,
            "scores": None if scores is None else dict(scores),
            "random_state": random_state,
        },
        "columns": columns,
    }


def _covariates(formula: str | None) -> list[str]:
    if formula is None:
        return []
    from formulaic import Formula

    return sorted(map(str, Formula(formula.partition("~")[2]).required_variables))


def estimate_again(record: Mapping[str, Any]) -> EstimateTable:
    """Return the estimates of a record; its notes may differ from those of the first estimation."""
    from pandas import DataFrame

    return estimate(
        DataFrame(record["columns"]),
        task=Task(record["kind"], labels=[Label(name) for name in record["labels"]]),
        machine_column=_MACHINE,
        human_column=_HUMAN,
        clusters=_CLUSTER if record["clustered"] else None,
        **record["arguments"],
    )
