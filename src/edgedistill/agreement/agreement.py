"""Agreement of two codings of the same responses: figures with intervals, and tables of them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table
from rich.text import Text

from edgedistill.agreement.bootstrap import bootstrap_groups, required
from edgedistill.agreement.confusion import check_groups, check_lengths, check_rows, confusion_matrix, encode_labels
from edgedistill.agreement.draws import averages_of, draw_confusions, label_agreement
from edgedistill.agreement.multilabel import encode_label_sets, label_set_agreement
from edgedistill.agreement.types import Agreement, Estimate, LabelAgreement
from edgedistill.displays import html_table
from edgedistill.errors import ArgumentError, DataError
from edgedistill_serve.task.task import LABEL_SEPARATOR, Label, Task

if TYPE_CHECKING:  # pandas is imported only when a DataFrame is requested
    from pandas import DataFrame


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

    The figures are those of scikit-learn, alpha is that of the package krippendorff. Intervals are 95 % intervals that
    hold for few rows and for codings that are nearly always right, too; none is without width
    (`edgedistill.agreement.bootstrap`). For shares of independent rows they are those of Clopper and Pearson.

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
    if groups is not None:
        check_rows(groups, "groups", "a group")
    groups = None if groups is None else bootstrap_groups([None if is_missing(each) else each for each in groups])
    check_lengths(reference, coded=coded)
    task = task or Task("nominal", tuple(map(Label, sorted({*reference, *coded}))), ("response",))
    check_groups(len(reference), groups, resamples)
    if positive is not None and positive not in task.names:
        raise DataError(f"the task has no label {positive!r}", hint=f"Its labels: {', '.join(task.names)}.")
    if task.kind == "multilabel":
        sets = encode_label_sets(reference, task, "reference"), encode_label_sets(coded, task, "coded")
        return label_set_agreement(*sets, task, groups, positive, resamples, seed)
    return _agreement(reference, coded, task, groups, positive, resamples, seed)


def _labels(coding: Iterable[Any], name: str) -> list[str]:
    """The labels of a coding, each of them text."""
    check_rows(coding, name)
    labels = list(coding)
    for place, label in enumerate(labels, start=1):
        if not isinstance(label, str) or not label:
            where = f"{name} label {place}"
            if isinstance(label, str) or is_missing(label):
                raise DataError("the label is missing", where=where, hint="Drop rows without a label.")
            hint = f"Convert numbers to text; join the labels of a multilabel task by {LABEL_SEPARATOR!r}."
            raise DataError(f"the label {label!r} is not text", where=where, hint=hint)
    return labels


def is_missing(value: object) -> bool:
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
    draws = draw_confusions(truth, predicted, labels, groups, resamples, seed)
    counts = draws.labels
    averages = {"macro": averages_of(counts.macro), "weighted": averages_of(counts.weighted)}
    if positive is not None:
        place = task.names.index(positive)
        averages["binary"] = averages_of(lambda name: counts.label(name, place))
    return Agreement(
        rows=len(truth),
        accuracy=required(draws.accuracy().estimate()),
        macro_f1=averages["macro"].f1,
        kappa=draws.kappa(quadratic=ordinal).estimate(),
        kappa_name="quadratic weighted kappa" if ordinal else "Cohen's kappa",
        per_label={name: label_agreement(counts, place) for place, name in enumerate(task.names)},
        confusion=tuple(tuple(int(count) for count in row) for row in confusion_matrix(truth, predicted, labels)),
        resamples=resamples,
        groups=None if groups is None else len(set(groups)),
        mcc=draws.mcc().estimate(),
        alpha=draws.alpha(ordinal=ordinal).estimate(),
        averages=averages,
    )


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
