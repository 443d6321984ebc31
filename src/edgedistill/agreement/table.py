"""Agreements side by side: as a table for the terminal, for a notebook, and as a DataFrame."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table
from rich.text import Text

from edgedistill.agreement.types import Agreement, Estimate, LabelAgreement
from edgedistill.displays import html_table

if TYPE_CHECKING:  # pandas is loaded where a DataFrame is asked for
    from pandas import DataFrame

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
