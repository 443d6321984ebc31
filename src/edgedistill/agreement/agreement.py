"""Agreement between two codings of the same responses, as figures with intervals and as a table."""

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

from edgedistill.agreement.bootstrap import interval_estimate, optional_estimate, resample_confusions
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
from edgedistill.errors import DataError
from edgedistill_serve.task.task import Label, Task

if TYPE_CHECKING:  # pandas is loaded where a DataFrame is asked for
    from pandas import DataFrame


def widen_intervals(found: Agreement) -> Agreement:
    """Return the agreement with every interval as wide as its figure's range.

    Drawing the only group again and again would give intervals without width; drawing its rows, intervals of that group
    alone. So accuracy, precision, recall and F1 get [0, 1], and κ, Matthews' correlation and alpha [-1, 1].
    """
    return replace(
        found,
        accuracy=Estimate(found.accuracy.value, 0.0, 1.0),
        macro_f1=_share(found.macro_f1),
        kappa=_correlation(found.kappa),
        mcc=_correlation(found.mcc),
        alpha=_correlation(found.alpha),
        averages={
            name: Averages(_share(each.precision), _share(each.recall), _share(each.f1))
            for name, each in found.averages.items()
        },
        per_label={name: _label(label) for name, label in found.per_label.items()},
    )


def _label(label: LabelAgreement) -> LabelAgreement:
    intervals = dict.fromkeys(label.intervals, (0.0, 1.0))
    return replace(label, intervals=intervals, kappa=_correlation(label.kappa), alpha=_correlation(label.alpha))


def _share(found: Estimate | None) -> Estimate | None:
    return found and Estimate(found.value, 0.0, 1.0)


def _correlation(found: Estimate | None) -> Estimate | None:
    return found and Estimate(found.value, -1.0, 1.0)


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

    The figures are scikit-learn's, alpha is krippendorff's; the intervals are 95 % percentile bootstrap intervals
    (Efron 1979).

    Args:
        reference: The label per row that counts as right, such as a human code; of a multilabel task the labels that
            hold, joined.
        coded: The label per row that is judged, such as a student's.
        task: Its labels, in codebook order, are the only ones allowed. None: a nominal task of the labels that occur,
            sorted.
        groups: What each row belongs to, such as a learner. With groups the bootstrap draws whole groups, so that the
            interval is honest about rows that resemble each other; one group alone bears no interval, see
            `widen_intervals`. None: every row stands for itself.
        positive: The label whose own precision, recall and F1 are told as ``averages["binary"]``.
        resamples: Bootstrap resamples, at least 1.
        seed: Of the resampling; the same seed gives the same intervals.

    Raises:
        DataError: No rows; lengths that differ; a label that the task does not have.
    """
    reference, coded = list(reference), list(coded)
    groups = None if groups is None else list(groups)
    task = task or _task_of(reference, coded)
    check_lengths(reference, coded=coded)
    check_groups(len(reference), groups, resamples)
    if positive is not None and positive not in task.names:
        raise DataError(f"the task has no label {positive!r}", hint=f"Its labels: {', '.join(task.names)}.")
    if task.kind == "multilabel":
        sets = encode_label_sets(reference, task, "reference"), encode_label_sets(coded, task, "coded")
        found = label_set_agreement(*sets, task, groups, positive, resamples, seed)
    else:
        found = _agreement(reference, coded, task, groups, positive, resamples, seed)
    return widen_intervals(found) if found.groups == 1 else found


def _task_of(*codings: Sequence[str]) -> Task:
    found = {label for coding in codings for label in coding}
    if not all(isinstance(label, str) for label in found):
        raise DataError("a label is not text", hint="Leave out rows without a label; write numbers as text.")
    return Task("nominal", tuple(map(Label, sorted(found))), ("response",))


def _agreement(
    reference: Sequence[str],
    coded: Sequence[str],
    task: Task,
    groups: Sequence[str] | None,
    positive: str | None,
    resamples: int,
    seed: int,
) -> Agreement:
    truth, judged = encode_labels(reference, task, "reference"), encode_labels(coded, task, "coded")
    labels, ordinal = len(task.names), task.kind == "ordinal"
    drawn = resample_confusions(truth, judged, labels, groups, resamples, np.random.default_rng(seed))
    figures = {"precision": precisions(drawn), "recall": recalls(drawn), "f1": f1s(drawn)}
    return Agreement(
        rows=len(truth),
        accuracy=interval_estimate(float(accuracy_score(truth, judged)), accuracies(drawn)),
        macro_f1=interval_estimate(float(f1_score(truth, judged, average="macro")), macro_f1s(drawn)),
        kappa=_kappa(truth, judged, drawn, ordinal=ordinal),
        kappa_name="quadratic weighted kappa" if ordinal else "Cohen's kappa",
        per_label=_per_label(truth, judged, task, figures),
        confusion=tuple(tuple(int(count) for count in row) for row in confusion_matrix(truth, judged, labels)),
        resamples=resamples,
        groups=None if groups is None else len(set(groups)),
        mcc=_mcc(truth, judged, drawn),
        alpha=_alpha(truth, judged, drawn, "ordinal" if ordinal else "nominal"),
        averages=_averages(truth, judged, drawn, figures, None if positive is None else task.names.index(positive)),
    )


def _kappa(truth: Counts, judged: Counts, drawn: Counts, *, ordinal: bool) -> Estimate | None:
    if len(np.union1d(truth, judged)) == 1:
        return None
    weights = "quadratic" if ordinal else None
    value = cohen_kappa_score(truth, judged, labels=range(drawn.shape[1]), weights=weights)
    return optional_estimate(value, kappas(drawn, quadratic=ordinal))


def _mcc(truth: Counts, judged: Counts, drawn: Counts) -> Estimate | None:
    if len(np.unique(truth)) == 1 or len(np.unique(judged)) == 1:
        return None
    return optional_estimate(matthews_corrcoef(truth, judged), mccs(drawn))


def _alpha(truth: Counts, judged: Counts, drawn: Counts, level: Literal["nominal", "ordinal"]) -> Estimate | None:
    if len(np.union1d(truth, judged)) == 1:
        return None
    table = np.array([truth, judged], dtype=np.float64)
    value = krippendorff.alpha(table, level_of_measurement=level)
    return optional_estimate(value, alphas(drawn, ordinal=level == "ordinal"))


def _averages(
    truth: Counts, judged: Counts, drawn: Counts, figures: Mapping[str, Values], positive: int | None
) -> dict[str, Averages]:
    found = {
        "macro": _scikit_learns(truth, judged, "macro", [macro(figures[name], drawn) for name in _FIGURES]),
        "weighted": _scikit_learns(truth, judged, "weighted", [weighted(figures[name], drawn) for name in _FIGURES]),
    }
    if positive is not None:
        own = precision_recall_fscore_support(truth, judged, labels=[positive], zero_division=np.nan)[:3]
        resampled = [figures[name][:, positive] for name in _FIGURES]
        found["binary"] = Averages(
            *(optional_estimate(float(value[0]), of) for value, of in zip(own, resampled, strict=True))
        )
    return found


def _scikit_learns(truth: Counts, judged: Counts, average: str, resampled: Sequence[Values]) -> Averages:
    values = precision_recall_fscore_support(truth, judged, average=average, zero_division=0)[:3]
    return Averages(*(interval_estimate(float(value), of) for value, of in zip(values, resampled, strict=True)))


def _per_label(truth: Counts, judged: Counts, task: Task, figures: Mapping[str, Values]) -> dict[str, LabelAgreement]:
    found = precision_recall_fscore_support(truth, judged, labels=range(len(task.names)), zero_division=np.nan)
    per_label = {}
    for place, name in enumerate(task.names):
        values = {figure: float(of_labels[place]) for figure, of_labels in zip(_FIGURES, found[:3], strict=True)}
        estimates = {figure: optional_estimate(value, figures[figure][:, place]) for figure, value in values.items()}
        precision, recall, f1 = (None if np.isnan(value) else value for value in values.values())
        intervals = {figure: (each.low, each.high) for figure, each in estimates.items() if each}
        per_label[name] = LabelAgreement(precision, recall, f1, int(found[3][place]), intervals)
    return per_label


_UNDEFINED = "-"
_CAPTION = "Under a figure: its 95 % interval. Under a label's F1: its precision, recall and rows. A dash: undefined."

_HTML_CAPTION = "Beside a figure: its 95 % interval. Beside a label's F1: its precision, recall and rows."


def agreement_table(columns: Mapping[str, Agreement]) -> Table:
    """Return a table with a column per comparison; four of them fit into 80 columns.

    Under each headline figure stands its 95 % interval; under each label's F1 its precision, its recall and the number
    of rows whose reference is that label. A dash stands for an undefined figure.

    Args:
        columns: By heading, such as ``student`` or ``teacher``; at least one, all of one task.
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
    """Return the same table as HTML, each interval beside its figure."""
    rows = (
        (name, *(f"{figure} ({detail})" for figure, detail in zip(figures, details, strict=True)))
        if details
        else (name, *figures)
        for name, figures, details in _lines(list(columns.values()))
    )
    return html_table(("", *columns), rows, _HTML_CAPTION)


def agreement_frame(found: Agreement) -> "DataFrame":
    """Return an agreement as a DataFrame, a row per figure.

    Its columns are ``figure``, ``label``, ``value``, ``low``, ``high`` and ``rows``. ``label`` is empty for figures of
    all labels together; an undefined figure is NaN.
    """
    from pandas import DataFrame

    lines: list[tuple[str, str, float | None, float | None, float | None, int]] = []
    for name in ("accuracy", "macro_f1", "kappa", "mcc", "alpha"):
        estimate: Estimate | None = getattr(found, name)
        ends = (estimate.value, estimate.low, estimate.high) if estimate else (None, None, None)
        lines.append((name, "", *ends, found.rows))
    for label, each in found.per_label.items():
        for name in ("precision", "recall", "f1"):
            low, high = each.intervals.get(name, (None, None))
            lines.append((name, label, getattr(each, name), low, high, each.support))
    frame = DataFrame(lines, columns=["figure", "label", "value", "low", "high", "rows"])
    return frame.astype({"value": float, "low": float, "high": float})


def _lines(compared: list[Agreement]) -> Iterator[tuple[str, list[str], list[str]]]:
    """What each row of the table holds: its name, and per agreement a figure and what stands under it."""
    yield "rows", [str(each.rows) for each in compared], []
    kappa = " / ".join(dict.fromkeys(each.kappa_name for each in compared))
    for name, attribute in (("accuracy", "accuracy"), ("macro-F1", "macro_f1"), (kappa, "kappa")):
        found: list[Estimate | None] = [getattr(each, attribute) for each in compared]
        intervals = [_UNDEFINED if each is None else f"{_figure(each.low)} to {_figure(each.high)}" for each in found]
        yield name, [_UNDEFINED if each is None else _figure(each.value) for each in found], intervals
    for name in compared[0].labels:
        labels = [each.per_label[name] for each in compared]
        yield f"F1 {name}", [_figure(label.f1) for label in labels], [_detail(label) for label in labels]


def _detail(label: LabelAgreement) -> str:
    return f"{_figure(label.precision, 2)} {_figure(label.recall, 2)} {label.support:>5}"


def _figure(value: float | None, digits: int = 3) -> str:
    return _UNDEFINED if value is None else f"{value:.{digits}f}".replace("0.", ".", 1)
