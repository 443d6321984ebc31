"""Fidelity of a graph to fp32, which needs no human codes, and its loss of agreement with the human codes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from sklearn.metrics import cohen_kappa_score

from edgedistill_export.verify.parity import Logits, flipped, probabilities, probability_differences
from edgedistill_serve.task.label_decoding import LabelDecoder
from edgedistill_serve.task.task import Task, split_labels

LEAST_OF_A_GROUP = 10
"""Smaller groups get no flip rate."""
_LEAST_ALIKE = 20
_BINS = 10
Holds: TypeAlias = npt.NDArray[np.bool_]
"""Which labels are assigned, of shape (rows, labels)."""


@dataclass(frozen=True, slots=True)
class LogitFidelity:
    """A graph compared with fp32 on the same rows.

    Attributes:
        flips: Rows whose label differs from fp32's.
        flip_rate: Their share, in [0, 1].
        expected_flip_rate: The estimate of `expected_flip_rate`.
        max_probability_difference: Largest change of a probability.
        worst_group_flip_rate: Highest flip rate of a group of at least 10 rows; None without such a group.
    """

    flips: int
    flip_rate: float
    expected_flip_rate: float
    max_probability_difference: float
    worst_group_flip_rate: float | None


@dataclass(frozen=True, slots=True)
class AgreementLoss:
    """A graph's loss of agreement with the human codes.

    Attributes:
        kappa_lost: Cohen's κ of fp32 minus that of the graph, quadratic weighted for an ordinal task; None if one is
            undefined. For a multilabel task, the mean over the labels for which both are defined.
        calibration_error: Expected calibration error in ten bins (Guo et al. 2017, equation 3); for a multilabel task,
            over the probabilities of all labels.
        worst_recall_change: The largest loss of recall of any label against fp32, at most 0.
    """

    kappa_lost: float | None
    calibration_error: float
    worst_recall_change: float


def measure_fidelity(fp32: Logits, logits: Logits, decoder: LabelDecoder, groups: Sequence[str] = ()) -> LogitFidelity:
    """Compare a graph with fp32.

    Args:
        fp32: Logits of fp32, of shape (rows, labels), at least one row.
        logits: Logits of the graph for the same rows.
        decoder: Decodes the logits of both.
        groups: The group of each row; empty if there are none.
    """
    flips = flipped(fp32, logits, decoder)
    named = np.array(groups)
    rates = [float(flips[named == group].mean()) for group in set(groups) if (named == group).sum() >= LEAST_OF_A_GROUP]
    return LogitFidelity(
        flips=int(flips.sum()),
        flip_rate=float(flips.mean()),
        expected_flip_rate=expected_flip_rate(fp32, logits, decoder),
        max_probability_difference=float(probability_differences(fp32, logits, decoder).max()),
        worst_group_flip_rate=max(rates, default=None),
    )


def expected_flip_rate(fp32: Logits, logits: Logits, decoder: LabelDecoder) -> float:
    """Return the share of pairs of similar rows where one row's change of logits would flip the other's label.

    With few rows, the observed flip rate is coarse. Among rows with similar margins (`LabelDecoder.margins`) it is
    random which row has which change of its logits, so all pairs of such rows give an estimate with less variance.
    Each row is paired with the tenth of the rows with the nearest margins, at least 20: rows with small margins change
    more than others, so arbitrary pairs would be biased.

    Args:
        fp32: Logits of fp32, of shape (rows, labels).
        logits: Logits of the graph for the same rows.
        decoder: Decodes the logits of both.

    Returns:
        The estimate, in [0, 1].
    """
    rows = np.argsort(decoder.margins(fp32))
    change = (logits - fp32).astype(np.float64)[rows]
    alike = min(len(rows), max(_LEAST_ALIKE, len(rows) // 10))
    rates = []
    for place, row in enumerate(fp32[rows]):
        start = min(max(place - alike // 2, 0), len(rows) - alike)
        rates.append(flipped(row[None], row + change[start : start + alike], decoder))
    return float(np.mean(rates))


def measure_agreement_loss(fp32: Logits, logits: Logits, decoder: LabelDecoder, codes: Sequence[str]) -> AgreementLoss:
    """Compare a graph and fp32 with the human codes of the same rows, at least one."""
    truth = _coded(codes, decoder.task)
    wanted, found = decoder.label_mask(fp32), decoder.label_mask(logits)
    pairs = zip(_kappas(truth, wanted, decoder.task), _kappas(truth, found, decoder.task), strict=True)
    lost = [before - after for before, after in pairs if before is not None and after is not None]
    return AgreementLoss(
        kappa_lost=float(np.mean(lost)) if lost else None,
        calibration_error=_calibration_error(probabilities(logits, decoder), truth, decoder),
        worst_recall_change=min(0.0, float((_recalls(truth, found) - _recalls(truth, wanted)).min())),
    )


def _coded(codes: Sequence[str], task: Task) -> Holds:
    """The labels of each code, of shape (rows, labels)."""
    if task.kind == "multilabel":
        return np.array([[name in split_labels(code, task) for name in task.names] for code in codes])
    places = np.array([task.names.index(code) for code in codes])
    given: Holds = np.arange(len(task.names)) == places[:, None]
    return given


def _recalls(truth: Holds, given: Holds) -> npt.NDArray[np.float64]:
    """The recall of every label that occurs in the codes; 1 if none occurs."""
    known = truth.any(axis=0)
    recalls: npt.NDArray[np.float64] = (truth & given)[:, known].sum(axis=0) / truth[:, known].sum(axis=0)
    return recalls if known.any() else np.ones(1)


def _kappas(truth: Holds, given: Holds, task: Task) -> list[float | None]:
    """One κ; for a multilabel task, one per label."""
    if task.kind == "multilabel":
        return [_kappa(truth[:, place], given[:, place], range(2)) for place in range(truth.shape[1])]
    weights = "quadratic" if task.kind == "ordinal" else None
    return [_kappa(truth.argmax(axis=1), given.argmax(axis=1), range(len(task.names)), weights)]


def _kappa(
    truth: npt.NDArray[Any], given: npt.NDArray[Any], codes: Sequence[int], weights: str | None = None
) -> float | None:
    if len(set(truth) | set(given)) == 1:
        return None
    return float(cohen_kappa_score(truth, given, labels=codes, weights=weights))


def _calibration_error(given: npt.NDArray[np.float64], truth: Holds, decoder: LabelDecoder) -> float:
    if decoder.is_multilabel:
        sure, right = given.ravel(), truth.ravel()
    else:
        sure, right = given.max(axis=1), given.argmax(axis=1) == truth.argmax(axis=1)
    bins = np.minimum((sure * _BINS).astype(int), _BINS - 1)
    parts = [(bins == number) for number in range(_BINS)]
    return float(sum(abs(sure[part].mean() - right[part].mean()) * part.mean() for part in parts if part.any()))
