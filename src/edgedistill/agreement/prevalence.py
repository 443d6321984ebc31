"""Label shares (prevalence) of many responses, corrected for the misclassification rates of the classifier.

Misclassification biases label counts, however many responses are counted. If the error rates are known from human-coded
rows, the counts can be corrected: the observed shares are q = Mᵀ p, with p the true shares and M[i][j] the share of
rows with reference label i that are coded j, so p solves this system. For two labels this is the estimator of Rogan &
Gladen (1978, doi:10.1093/oxfordjournals.aje.a112510): p = (q + specificity - 1) / (sensitivity + specificity - 1).
Responses with a known human code are counted with it: (known counts + corrected counts of the others) / all.

The interval comes from a Bayesian bootstrap of the responses and of the coded rows (`Rows.draw_cells`), the rows of a
group weighted alike. Each label's count, and each cell of a reference label, gets an additional gamma weight
with a mean of 1 / labels, so that shares and error rates are draws from the posterior under a Dirichlet(1 / labels)
prior, which is Jeffreys' prior for two labels (Berger, Bernardo & Sun 2015, doi:10.1214/14-BA935). Without it, ten rows
without an error would imply an error rate of exactly 0.

There is no correction if the error rates cannot be estimated: a label has no coded row, all coded rows belong to one
group, or the classifier is no better than chance (M is singular). The correction is wrong, without notice, if the error
rates on the coded rows differ from those on the responses: other questions, other learners, or rows that the classifier
was trained on. Where people code a random sample of the responses themselves, `edgedistill.estimates` is more precise.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edgedistill.agreement.bootstrap import TAILS, Rows
from edgedistill.agreement.confusion import Counts, Values, check_groups, check_lengths, confusion_matrix, encode_labels
from edgedistill.agreement.multilabel import encode_label_sets
from edgedistill.agreement.types import Estimate
from edgedistill.errors import DataError
from edgedistill_serve.task.task import Task

_MAX_CONDITION_NUMBER = 1e6
_MIN_INVERTIBLE_SHARE = 0.9


@dataclass(frozen=True, slots=True)
class Prevalence:
    """Shares of the labels among many responses; except for multilabel tasks they sum to 1.

    Attributes:
        rows: Responses counted.
        error_rates_from: Number of coded rows from which the error rates are estimated.
        method: ``Rogan-Gladen`` for two labels and for each label of a multilabel task, else ``confusion matrix
            inverted``.
        observed: Uncorrected shares by label; the interval covers the sampling of the responses.
        corrected: Corrected shares by label; the interval also covers the estimation of the error rates. None if no
            label can be corrected; without labels of a multilabel task that cannot.
        clipped: Whether a corrected share was outside [0, 1] and set to the nearest limit.
        fails: Why there is no correction, for multilabel tasks by label; else None.
        known: Responses counted with a known human code; the classifier coded the others.
    """

    rows: int
    error_rates_from: int
    method: str
    observed: Mapping[str, Estimate]
    corrected: Mapping[str, Estimate] | None
    clipped: bool
    fails: str | None
    known: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class _Case:
    """Data for the labels of a task, or for the absence and presence of one label of a multilabel task.

    Attributes:
        names: Names of the labels.
        known: Number of responses by known code, (labels,).
        scored: Number of the other responses by label of the classifier, (labels,).
        reference: Correct label of each coded row.
        coded: Label of the classifier for each coded row.
    """

    names: Sequence[str]
    known: Counts
    scored: Counts
    reference: Counts
    coded: Counts


def prevalence(
    scored: Sequence[str],
    reference: Sequence[str],
    coded: Sequence[str],
    task: Task,
    *,
    known: Sequence[str] = (),
    groups: Sequence[str] | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> Prevalence:
    """Estimate label shares corrected for misclassification, with 95 % intervals.

    For multilabel tasks each label is corrected separately. The module docstring describes the method.

    Args:
        scored: The classifier's label of each response.
        reference: The correct label of each coded row; at least one row.
        coded: The classifier's label of each coded row.
        task: Defines the allowed labels and their order.
        known: Known codes of further responses.
        groups: The group of each coded row; rows of a group have the same weight. None: rows are independent.
        resamples: Bootstrap resamples, at least 1.
        seed: Of the resampling.

    Raises:
        DataError: There are no responses; also as for `agreement`.
    """
    check_lengths(reference, coded=coded)
    check_groups(len(reference), groups, resamples)
    if not scored and not known:
        raise DataError("there are no responses to estimate label shares from")
    estimates = [
        _prevalence(case, groups, resamples, np.random.default_rng(seed))
        for case in _cases(scored, known, reference, coded, task)
    ]
    return _combine_labels(task.names, estimates) if task.kind == "multilabel" else estimates[0]


def _cases(
    scored: Sequence[str], known: Sequence[str], reference: Sequence[str], coded: Sequence[str], task: Task
) -> list[_Case]:
    codings = {"scored": scored, "known": known, "reference": reference, "coded": coded}
    if task.kind != "multilabel":
        codes = {name: encode_labels(coding, task, name) for name, coding in codings.items()}
        return [_case(task.names, **codes)]
    sets = {name: encode_label_sets(coding, task, name).astype(np.int64) for name, coding in codings.items()}
    return [
        _case((f"not {label}", label), **{name: each[:, column] for name, each in sets.items()})
        for column, label in enumerate(task.names)
    ]


def _case(names: Sequence[str], scored: Counts, known: Counts, reference: Counts, coded: Counts) -> _Case:
    known, scored = (np.bincount(each, minlength=len(names)) for each in (known, scored))
    return _Case(names, known, scored, reference, coded)


def _combine_labels(labels: Sequence[str], estimates: Sequence[Prevalence]) -> Prevalence:
    """Combine the estimates of the labels of a multilabel task."""
    by_label = dict(zip(labels, estimates, strict=True))
    corrected = {label: each.corrected[label] for label, each in by_label.items() if each.corrected}
    return replace(
        estimates[0],
        observed={label: each.observed[label] for label, each in by_label.items()},
        corrected=corrected or None,
        clipped=any(each.clipped for each in estimates),
        fails="; ".join(f"{label}: {each.fails}" for label, each in by_label.items() if each.fails) or None,
    )


def _prevalence(case: _Case, groups: Sequence[str] | None, resamples: int, rng: np.random.Generator) -> Prevalence:
    labels = len(case.names)
    known, scored = (_resample_counts(each, resamples, rng) for each in (case.known, case.scored))
    corrected, clipped, fails = _correct(case, known, scored, groups, rng)
    return Prevalence(
        rows=int(case.known.sum() + case.scored.sum()),
        error_rates_from=len(case.reference),
        method="Rogan-Gladen" if labels == 2 else "confusion matrix inverted",
        observed=_share_estimates(case.names, known + scored),
        corrected=corrected,
        clipped=clipped,
        fails=fails,
        known=int(case.known.sum()),
    )


def _resample_counts(observed: Counts, resamples: int, rng: np.random.Generator) -> Values:
    """Return label counts (1 + resamples, labels), the observed ones first."""
    mass = 1 / len(observed) if observed.any() else 0
    return np.concatenate([observed[None], rng.gamma(observed + mass, size=(resamples, len(observed)))])


def _correct(
    case: _Case, known: Values, scored: Values, groups: Sequence[str] | None, rng: np.random.Generator
) -> tuple[dict[str, Estimate] | None, bool, str | None]:
    """Correct label counts (1 + resamples, labels), the observed ones first."""
    labels = len(case.names)
    if not case.scored.any():
        return _share_estimates(case.names, known), False, None
    counts = confusion_matrix(case.reference, case.coded, labels)
    support = counts.sum(axis=1)
    if absent := [name for name, rows in zip(case.names, support, strict=True) if not rows]:
        return None, False, f"no coded row has the label {', '.join(absent)}, so its error rates are unknown"
    if groups is not None and len(set(groups)) == 1:
        return None, False, "all coded rows belong to one group, so the error rates on other groups are unknown"
    rates = counts / support[:, None]
    if not _is_invertible(rates[None])[0]:
        return None, False, "the coded rows do not show that the classifier is better than chance"
    resampled = _resample_rates(case, groups, len(scored) - 1, rng)
    usable = _is_invertible(resampled)
    if usable.mean() < _MIN_INVERTIBLE_SHARE:
        return None, False, "too few coded rows: in many resamples the error rates cannot be inverted"
    included = np.concatenate([[True], usable])
    solved = _solve(np.concatenate([rates[None], resampled[usable]]), scored[included])
    clipped = bool((solved[0] < 0).any())
    return _share_estimates(case.names, known[included] + _clip(solved)), clipped, None


def _resample_rates(case: _Case, groups: Sequence[str] | None, resamples: int, rng: np.random.Generator) -> Values:
    """Return resampled error rates (resamples, labels, labels)."""
    labels = len(case.names)
    cells = case.reference * labels + case.coded
    rows = Rows.of(len(cells), groups)
    drawn = rows.draw_cells(cells, labels**2, resamples, rng)[1:].reshape(-1, labels, labels)
    mass = drawn + rng.gamma(1 / labels, size=drawn.shape)
    return np.asarray(mass / mass.sum(axis=2, keepdims=True), dtype=np.float64)


def _is_invertible(rates: Values) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Whether each matrix of rates (n, labels, labels) is well-conditioned and better than chance."""
    return np.asarray((np.linalg.det(rates) > 0) & (np.linalg.cond(rates) < _MAX_CONDITION_NUMBER))


def _solve(rates: Values, scored: Values) -> Values:
    """Return the true counts (n, labels) for which the rates (n, labels, labels) yield the scored counts."""
    return np.asarray(np.linalg.solve(rates.swapaxes(1, 2), scored[:, :, None])[:, :, 0], dtype=np.float64)


def _clip(solved: Values) -> Values:
    """Set negative counts to 0 and rescale the others to the same sum."""
    above = np.maximum(solved, 0)
    return np.asarray(above * solved.sum(axis=1, keepdims=True) / above.sum(axis=1, keepdims=True), dtype=np.float64)


def _share_estimates(names: Sequence[str], counts: Values) -> dict[str, Estimate]:
    """Turn counts (1 + resamples, labels), the observed ones first, into shares with intervals."""
    shares = counts / counts.sum(axis=1, keepdims=True)
    ends = np.quantile(shares[1:], TAILS, axis=0).T.tolist()
    # Resampled shares are strictly between 0 and 1. As in Jeffreys' interval, the interval of a label that never occurs
    # begins at 0, that of a label that always occurs ends at 1 (Brown, Cai & DasGupta 2001, doi:10.1214/ss/1009213286).
    return {
        name: Estimate(value, min(low, value), max(high, value))
        for name, value, (low, high) in zip(names, shares[0].tolist(), ends, strict=True)
    }
