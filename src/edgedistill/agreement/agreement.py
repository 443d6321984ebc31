"""Agreement of two codings of the same responses: figures with intervals, and tables of them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import krippendorff
import numpy as np
from rich import box
from rich.table import Table
from rich.text import Text
from sklearn.metrics import (
    accuracy_score,
    cohen_kappa_score,
    f1_score,
    matthews_corrcoef,
    precision_recall_fscore_support,
)

from edgedistill.agreement.bootstrap import bootstrap_groups, interval_estimate, optional_estimate, resample_confusions
from edgedistill.agreement.confusion import (
    Counts,
    Values,
    accuracies,
    alphas,
    check_groups,
    check_lengths,
    confusion_matrix,
    encode_labels,
    f1s,
    kappas,
    macro,
    macro_f1s,
    mccs,
    precisions,
    recalls,
    weighted,
)
from edgedistill.agreement.multilabel import encode_label_sets, label_set_agreement
from edgedistill.agreement.types import Agreement, Averages, Estimate, LabelAgreement
from edgedistill.displays import html_table
from edgedistill.errors import ArgumentError, DataError
from edgedistill_serve.task.task import LABEL_SEPARATOR, Label, Task

if TYPE_CHECKING:  # pandas is imported only when a DataFrame is requested
    from pandas import DataFrame


_FIGURES = ("precision", "recall", "f1")


def agreement(
    reference: Iterable[str],
    coded: Iterable[str],
    task: Task | None = None,
    *,
    groups: Sequence[str] | None = None,
    positive: str | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> Agreement:
    """Compare a coding with a reference coding of the same rows.

    The figures are those of scikit-learn, alpha is that of the package krippendorff. Intervals are 95 % percentile
    bootstrap intervals (Efron 1979).

    Args:
        reference: The correct label of each row, such as a human code; for multilabel tasks its labels, joined.
        coded: The label of each row to be compared, such as that of a student.
        task: Defines the allowed labels and their order. None: a nominal task of the labels that occur, sorted.
        groups: The group of each row, such as a learner. Whole groups are then resampled, because rows of a group are
            not independent; with a single group every interval is the whole range of its figure. A row whose group is
            missing is its own group. None: rows are independent.
        positive: The label whose precision, recall and F1 become ``averages["binary"]``.
        resamples: Bootstrap resamples, at least 1.
        seed: The seed of the resampling; the same seed gives the same intervals.

    Raises:
        DataError: There are no rows, lengths differ, or a label is missing, not text or not in the task.
    """
    if not (task is None or isinstance(task, Task)):
        raise ArgumentError(f"task must be a Task, not {type(task).__name__}")
    reference, coded = _labels(reference, "reference"), _labels(coded, "coded")
    groups = None if groups is None else bootstrap_groups([None if _is_missing(each) else each for each in groups])
    check_lengths(reference, coded=coded)
    task = task or Task("nominal", tuple(map(Label, sorted({*reference, *coded}))), ("response",))
    check_groups(len(reference), groups, resamples)
    if positive is not None and positive not in task.names:
        raise DataError(f"the task has no label {positive!r}", hint=f"Its labels: {', '.join(task.names)}.")
    if task.kind == "multilabel":
        sets = encode_label_sets(reference, task, "reference"), encode_label_sets(coded, task, "coded")
        result = label_set_agreement(*sets, task, groups, positive, resamples, seed)
    else:
        result = _agreement(reference, coded, task, groups, positive, resamples, seed)
    return _with_full_intervals(result) if result.groups == 1 else result


def _with_full_intervals(agreement: Agreement) -> Agreement:
    """Return an agreement whose intervals are the ranges of the figures: [0, 1] for shares, [-1, 1] for coefficients.

    Resampling a single group would give intervals without width, and resampling its rows intervals for that group only.
    """
    return replace(
        agreement,
        accuracy=Estimate(agreement.accuracy.value, 0.0, 1.0),
        macro_f1=_full_share(agreement.macro_f1),
        kappa=_full_coefficient(agreement.kappa),
        mcc=_full_coefficient(agreement.mcc),
        alpha=_full_coefficient(agreement.alpha),
        averages={
            name: Averages(_full_share(each.precision), _full_share(each.recall), _full_share(each.f1))
            for name, each in agreement.averages.items()
        },
        per_label={
            name: replace(
                label,
                intervals=dict.fromkeys(label.intervals, (0.0, 1.0)),
                kappa=_full_coefficient(label.kappa),
                alpha=_full_coefficient(label.alpha),
            )
            for name, label in agreement.per_label.items()
        },
    )


def _full_share(estimate: Estimate | None) -> Estimate | None:
    return estimate and Estimate(estimate.value, 0.0, 1.0)


def _full_coefficient(estimate: Estimate | None) -> Estimate | None:
    return estimate and Estimate(estimate.value, -1.0, 1.0)


def _labels(coding: object, name: str) -> list[str]:
    """The labels of a coding, each of them text."""
    if isinstance(coding, str) or not isinstance(coding, Iterable) or getattr(coding, "ndim", 1) != 1:
        raise ArgumentError(f"{name} must be a list, an array or a Series with a label per row")
    labels = list(coding)
    for place, label in enumerate(labels, start=1):
        if not isinstance(label, str) or not label:
            where = f"{name} label {place}"
            if isinstance(label, str) or _is_missing(label):
                raise DataError("the label is missing", where=where, hint="Drop rows without a label.")
            hint = f"Convert numbers to text; join the labels of a multilabel task by {LABEL_SEPARATOR!r}."
            raise DataError(f"the label {label!r} is not text", where=where, hint=hint)
    return labels


def _is_missing(value: object) -> bool:
    """Whether a value is None, NaN or NA, which differ from themselves; comparing pandas' NA gives no bool."""
    try:
        return value is None or bool(value != value)
    except (TypeError, ValueError):
        return not isinstance(value, Iterable)


def _agreement(
    reference: Sequence[str],
    coded: Sequence[str],
    task: Task,
    groups: Sequence[str] | None,
    positive: str | None,
    resamples: int,
    seed: int,
) -> Agreement:
    truth, predicted = encode_labels(reference, task, "reference"), encode_labels(coded, task, "coded")
    labels, ordinal = len(task.names), task.kind == "ordinal"
    drawn = resample_confusions(truth, predicted, labels, groups, resamples, np.random.default_rng(seed))
    figures = {"precision": precisions(drawn), "recall": recalls(drawn), "f1": f1s(drawn)}
    return Agreement(
        rows=len(truth),
        accuracy=interval_estimate(float(accuracy_score(truth, predicted)), accuracies(drawn)),
        macro_f1=interval_estimate(float(f1_score(truth, predicted, average="macro")), macro_f1s(drawn)),
        kappa=_kappa(truth, predicted, drawn, ordinal=ordinal),
        kappa_name="quadratic weighted kappa" if ordinal else "Cohen's kappa",
        per_label=_per_label(truth, predicted, task, figures),
        confusion=tuple(tuple(int(count) for count in row) for row in confusion_matrix(truth, predicted, labels)),
        resamples=resamples,
        groups=None if groups is None else len(set(groups)),
        mcc=_mcc(truth, predicted, drawn),
        alpha=_alpha(truth, predicted, drawn, "ordinal" if ordinal else "nominal"),
        averages=_averages(truth, predicted, drawn, figures, None if positive is None else task.names.index(positive)),
    )


def _kappa(truth: Counts, predicted: Counts, drawn: Counts, *, ordinal: bool) -> Estimate | None:
    if len(np.union1d(truth, predicted)) == 1:
        return None
    weights = "quadratic" if ordinal else None
    value = cohen_kappa_score(truth, predicted, labels=range(drawn.shape[1]), weights=weights)
    return optional_estimate(value, kappas(drawn, quadratic=ordinal))


def _mcc(truth: Counts, predicted: Counts, drawn: Counts) -> Estimate | None:
    if len(np.unique(truth)) == 1 or len(np.unique(predicted)) == 1:
        return None
    return optional_estimate(matthews_corrcoef(truth, predicted), mccs(drawn))


def _alpha(truth: Counts, predicted: Counts, drawn: Counts, level: Literal["nominal", "ordinal"]) -> Estimate | None:
    if len(np.union1d(truth, predicted)) == 1:
        return None
    table = np.array([truth, predicted], dtype=np.float64)
    value = krippendorff.alpha(table, level_of_measurement=level)
    return optional_estimate(value, alphas(drawn, ordinal=level == "ordinal"))


def _averages(
    truth: Counts, predicted: Counts, drawn: Counts, figures: Mapping[str, Values], positive: int | None
) -> dict[str, Averages]:
    averages = {
        "macro": _average(truth, predicted, "macro", [macro(figures[name], drawn) for name in _FIGURES]),
        "weighted": _average(truth, predicted, "weighted", [weighted(figures[name], drawn) for name in _FIGURES]),
    }
    if positive is not None:
        own = precision_recall_fscore_support(truth, predicted, labels=[positive], zero_division=np.nan)[:3]
        resampled = [figures[name][:, positive] for name in _FIGURES]
        averages["binary"] = Averages(
            *(optional_estimate(float(value[0]), of) for value, of in zip(own, resampled, strict=True))
        )
    return averages


def _average(truth: Counts, predicted: Counts, average: str, resampled: Sequence[Values]) -> Averages:
    values = precision_recall_fscore_support(truth, predicted, average=average, zero_division=0)[:3]
    return Averages(*(interval_estimate(float(value), of) for value, of in zip(values, resampled, strict=True)))


def _per_label(
    truth: Counts, predicted: Counts, task: Task, figures: Mapping[str, Values]
) -> dict[str, LabelAgreement]:
    scores = precision_recall_fscore_support(truth, predicted, labels=range(len(task.names)), zero_division=np.nan)
    per_label = {}
    for place, name in enumerate(task.names):
        values = {figure: float(label_values[place]) for figure, label_values in zip(_FIGURES, scores[:3], strict=True)}
        estimates = {figure: optional_estimate(value, figures[figure][:, place]) for figure, value in values.items()}
        precision, recall, f1 = (None if np.isnan(value) else value for value in values.values())
        intervals = {figure: (each.low, each.high) for figure, each in estimates.items() if each}
        per_label[name] = LabelAgreement(precision, recall, f1, int(scores[3][place]), intervals)
    return per_label


_UNDEFINED = "-"
_CAPTION = "Below each figure: 95 % interval. Below each F1: precision, recall and rows of the label. -: undefined."

_HTML_CAPTION = "In parentheses: 95 % intervals; for each F1: precision, recall and rows of the label."


def agreement_table(columns: Mapping[str, Agreement]) -> Table:
    """Return a table with a column per agreement; four columns fit into 80 characters.

    Below each overall figure is its 95 % interval, below each label's F1 its precision, recall and support. Undefined
    figures are shown as ``-``.

    Args:
        columns: By heading, such as ``student`` or ``teacher``; at least one, all of the same task.
    """
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, caption=Text(_CAPTION), caption_justify="left")
    table.add_column("", overflow="fold")
    for heading in columns:
        table.add_column(Text(heading), justify="right", overflow="fold")
    for name, figures, details in _lines(list(columns.values())):
        table.add_row(Text(name), *figures)
        if details:
            table.add_row("", *(Text(detail, style="dim") for detail in details))
    return table


def agreement_html(columns: Mapping[str, Agreement]) -> str:
    """Return the table of `agreement_table` as HTML, with intervals in parentheses."""
    rows = (
        (name, *(f"{figure} ({detail})" for figure, detail in zip(figures, details, strict=True)))
        if details
        else (name, *figures)
        for name, figures, details in _lines(list(columns.values()))
    )
    return html_table(("", *columns), rows, _HTML_CAPTION)


def agreement_frame(agreement: Agreement) -> "DataFrame":
    """Return an agreement as a DataFrame, a row per figure.

    Its columns are ``figure``, ``label``, ``value``, ``low``, ``high`` and ``rows``. ``label`` is empty for overall
    figures; undefined figures are NaN.
    """
    from pandas import DataFrame

    lines: list[tuple[str, str, float | None, float | None, float | None, int]] = []
    for name in ("accuracy", "macro_f1", "kappa", "mcc", "alpha"):
        estimate: Estimate | None = getattr(agreement, name)
        ends = (estimate.value, estimate.low, estimate.high) if estimate else (None, None, None)
        lines.append((name, "", *ends, agreement.rows))
    for label, each in agreement.per_label.items():
        for name in ("precision", "recall", "f1"):
            low, high = each.intervals.get(name, (None, None))
            lines.append((name, label, getattr(each, name), low, high, each.support))
    frame = DataFrame(lines, columns=["figure", "label", "value", "low", "high", "rows"])
    return frame.astype({"value": float, "low": float, "high": float})


def _lines(compared: list[Agreement]) -> Iterator[tuple[str, list[str], list[str]]]:
    """Yield the name of each line of the table and, per agreement, its figure and detail."""
    yield "rows", [str(each.rows) for each in compared], []
    kappa = " / ".join(dict.fromkeys(each.kappa_name for each in compared))
    for name, attribute in (("accuracy", "accuracy"), ("macro-F1", "macro_f1"), (kappa, "kappa")):
        estimates: list[Estimate | None] = [getattr(each, attribute) for each in compared]
        intervals = [
            _UNDEFINED if each is None else f"{_figure(each.low)} to {_figure(each.high)}" for each in estimates
        ]
        yield name, [_UNDEFINED if each is None else _figure(each.value) for each in estimates], intervals
    for name in compared[0].labels:
        labels = [each.per_label[name] for each in compared]
        yield f"F1 {name}", [_figure(label.f1) for label in labels], [_detail(label) for label in labels]


def _detail(label: LabelAgreement) -> str:
    return f"{_figure(label.precision, 2)} {_figure(label.recall, 2)} {label.support:>5}"


def _figure(value: float | None, digits: int = 3) -> str:
    return _UNDEFINED if value is None else f"{value:.{digits}f}".replace("0.", ".", 1)
