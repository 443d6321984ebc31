"""Agreements side by side, as a table for the terminal."""

from collections.abc import Iterable, Mapping

from rich import box
from rich.table import Table
from rich.text import Text

from edgedistill.agreement.types import Agreement, Estimate, LabelAgreement

_UNDEFINED = "-"
_CAPTION = "Under a figure: its 95 % interval. Under a label's F1: its precision, recall and rows. A dash: undefined."


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
    compared = list(columns.values())
    table.add_row("rows", *(str(each.rows) for each in compared))
    _add_headline(table, "accuracy", [each.accuracy for each in compared])
    _add_headline(table, "macro-F1", [each.macro_f1 for each in compared])
    _add_headline(table, " / ".join(dict.fromkeys(each.kappa_name for each in compared)), [c.kappa for c in compared])
    for name in compared[0].labels:
        labels = [each.per_label[name] for each in compared]
        _add(table, f"F1 {name}", (_figure(label.f1) for label in labels), (_detail(label) for label in labels))
    return table


def _add_headline(table: Table, name: str, found: list[Estimate | None]) -> None:
    intervals = (_UNDEFINED if each is None else f"{_figure(each.low)} to {_figure(each.high)}" for each in found)
    _add(table, name, (_UNDEFINED if each is None else _figure(each.value) for each in found), intervals)


def _add(table: Table, name: str, figures: Iterable[str], details: Iterable[str]) -> None:
    table.add_row(Text(name), *figures)
    table.add_row("", *(Text(detail, style="dim") for detail in details))


def _detail(label: LabelAgreement) -> str:
    return f"{_figure(label.precision, 2)} {_figure(label.recall, 2)} {label.support:>5}"


def _figure(value: float | None, digits: int = 3) -> str:
    return _UNDEFINED if value is None else f"{value:.{digits}f}".replace("0.", ".", 1)
