"""Class shares of many responses, corrected for how often the classifier that coded them errs.

A classifier that confuses labels counts them wrongly even over a million responses. Where its error rates are known
from coded rows, the counts can be corrected: the observed shares are the true shares times the rates, q = Mᵀ p with
M[i][j] the share of reference label i that is coded j, so p solves that system. For two labels this is Rogan & Gladen's
estimator (1978, doi:10.1093/oxfordjournals.aje.a112510): p = (q + specificity - 1) / (sensitivity + specificity - 1).

It fails, and says so, where the rates say nothing: a label has no coded row, or the classifier tells labels apart no
better than chance (M cannot be inverted). It is wrong, and cannot say so, where the rates of the coded rows are not
those of the responses: other questions, other learners, or rows that the classifier was trained on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from edgedistill.agreement.bootstrap import estimate
from edgedistill.agreement.statistics import Counts, Values
from edgedistill.agreement.types import Estimate
from edgedistill.errors import DataError

_LARGEST_CONDITION = 1e6
_FEWEST_SOLVED = 0.5


@dataclass(frozen=True, slots=True)
class Prevalence:
    """The shares of the labels among many responses.

    Attributes:
        rows: Responses that were counted.
        error_rates_from: Coded rows that the error rates come from.
        method: ``Rogan-Gladen`` for two labels and for each label of a multilabel task, else ``confusion matrix
            inverted``.
        observed: By label the share of the classifier's labels; its interval is of the counting alone.
        corrected: By label the corrected share; its interval is of the counting and of the error rates. None where the
            correction fails; of a multilabel task, labels for which it fails are left out.
        clipped: Whether a corrected share fell outside [0, 1]; it is then moved to the edge. The shares sum to 1, but
            for a multilabel task.
        fails: Why there is no correction, or of which labels there is none, else None.
    """

    rows: int
    error_rates_from: int
    method: str
    observed: Mapping[str, Estimate]
    corrected: Mapping[str, Estimate] | None
    clipped: bool
    fails: str | None

    def as_dict(self) -> dict[str, Any]:
        """Return plain dicts, numbers and None, ready for JSON; the keys are the attributes' names."""
        return asdict(self)


def prevalence(
    observed: Mapping[str, int],
    confusion: Sequence[Sequence[int]],
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> Prevalence:
    """Correct the counts of a classifier's labels for its error rates.

    The 95 % percentile bootstrap interval draws the responses and the coded rows of each reference label anew.

    Args:
        observed: By label, in the confusion's order, how many responses the classifier gave it; at least one in all.
        confusion: Row counts of the coded rows, ``[i][j]`` those with reference label *i* coded as label *j*.
        resamples: Bootstrap resamples, at least 1.
        seed: Of the resampling.

    Raises:
        DataError: No responses, or a confusion that is not labels by labels.
    """
    names, counts, coded = list(observed), np.array(list(observed.values())), np.array(confusion)
    if coded.shape != (len(names), len(names)):
        raise DataError(f"{len(names)} labels want a confusion of {len(names)} by {len(names)}")
    if counts.sum() < 1:
        raise DataError("there are no responses whose shares could be told")
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(counts.sum(), counts / counts.sum(), size=resamples)
    shares = drawn / counts.sum()
    corrected, clipped, fails = _corrected(names, counts / counts.sum(), coded, shares, rng)
    return Prevalence(
        rows=int(counts.sum()),
        error_rates_from=int(coded.sum()),
        method="Rogan-Gladen" if len(names) == 2 else "confusion matrix inverted",
        observed=_told(names, counts / counts.sum(), shares),
        corrected=corrected,
        clipped=clipped,
        fails=fails,
    )


def set_prevalence(
    observed: Mapping[str, int],
    rows: int,
    tables: Mapping[str, Sequence[Sequence[int]]],
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> Prevalence:
    """Correct how often each label of a multilabel task is given, each by itself.

    Args:
        observed: By label, how many responses the classifier gave it.
        rows: How many responses there are, at least one.
        tables: By label row counts of the coded rows, ``[in the reference][in the coding]``.
        resamples: Bootstrap resamples, at least 1.
        seed: Of the resampling.

    Raises:
        DataError: As `prevalence` says.
    """
    found = {
        label: prevalence({f"not {label}": rows - count, label: count}, tables[label], resamples=resamples, seed=seed)
        for label, count in observed.items()
    }
    fails = "; ".join(f"{label}: {each.fails}" for label, each in found.items() if each.fails)
    corrected = {label: each.corrected[label] for label, each in found.items() if each.corrected}
    return Prevalence(
        rows=rows,
        error_rates_from=max(each.error_rates_from for each in found.values()),
        method="Rogan-Gladen",
        observed={label: each.observed[label] for label, each in found.items()},
        corrected=corrected or None,
        clipped=any(each.clipped for each in found.values()),
        fails=fails or None,
    )


def _corrected(
    names: Sequence[str], shares: Values, coded: Counts, drawn: Values, rng: np.random.Generator
) -> tuple[dict[str, Estimate] | None, bool, str | None]:
    support = coded.sum(axis=1)
    if absent := [name for name, rows in zip(names, support, strict=True) if not rows]:
        return None, False, f"no coded row has the label {', '.join(absent)}, so its error rates are unknown"
    rates = coded / support[:, None]
    if not _tells_apart(rates[None])[0]:
        return None, False, "the coded rows do not show that the classifier tells the labels apart better than chance"
    solved = np.linalg.solve(rates.T, shares)
    redrawn_rows = [
        rng.multinomial(rows, rate, size=len(drawn)) / rows for rows, rate in zip(support, rates, strict=True)
    ]
    resampled = np.stack(redrawn_rows, axis=1)
    usable = _tells_apart(resampled)
    if usable.mean() < _FEWEST_SOLVED:
        return None, False, "too few coded rows: most resamples of them cannot tell the labels apart"
    redrawn = np.linalg.solve(resampled[usable].swapaxes(1, 2), drawn[usable][:, :, None])[:, :, 0]
    clipped = bool((solved < 0).any() or (solved > 1).any())
    return _told(names, _as_shares(solved[None])[0], _as_shares(redrawn)), clipped, None


def _tells_apart(rates: Values) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Whether each matrix of rates (n, labels, labels) can be inverted, and is no worse than chance."""
    return np.asarray((np.linalg.det(rates) > 0) & (np.linalg.cond(rates) < _LARGEST_CONDITION))


def _as_shares(solved: Values) -> Values:
    inside = np.clip(solved, 0, 1)
    return np.asarray(inside / inside.sum(axis=1, keepdims=True), dtype=np.float64)


def _told(names: Sequence[str], values: Values, resampled: Values) -> dict[str, Estimate]:
    return {name: estimate(float(values[place]), resampled[:, place]) for place, name in enumerate(names)}
