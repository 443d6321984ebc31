"""Results of an estimation: a line per estimand and method, as a table, CSV, LaTeX and JSON."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import msgspec

if TYPE_CHECKING:  # pandas and rich are imported only when a table is requested
    from pandas import DataFrame
    from rich.table import Table

ESTIMATES_VERSION = 1
"""`schema_version` of `estimates.json`."""
ESTIMATES_FILE = "estimates.json"
"""The JSON form, in a run folder."""
NAIVE = "naive"
HUMAN_ONLY = "human only"
ROGAN_GLADEN = "Rogan-Gladen"
PPI = "PPI++"
DSL = "DSL"
METHODS = (NAIVE, HUMAN_ONLY, ROGAN_GLADEN, PPI, DSL)
"""The methods in the order of the tables."""
COLUMNS = ("estimand", "method", "estimate", "95 % interval", "SE", "worth codes")


@dataclass(frozen=True, slots=True)
class MethodEstimate:
    """An estimand, estimated by one method.

    Attributes:
        estimand: Such as ``share of process``, ``mean score`` or the name of a coefficient.
        group: The group of responses, ``GROUP - REFERENCE`` for a difference, or empty for all responses.
        method: One of `METHODS`.
        value: The estimate; None if there is none, for the reason in ``note``.
        standard_error: Its standard error; positive.
        low: Lower end of the 95 % interval.
        high: Upper end.
        human_codes: Human-coded rows that the estimate rests on.
        effective_human_codes: Human codes that the human-only estimate would need for the same variance:
            ``human_codes`` times its variance, divided by that of this method. None for naive and human-only estimates.
        machine_weight: λ of PPI++, in [0, 1]: 0 ignores the machine codes. None for other methods.
        note: Why there is no estimate, or what it needs; else empty.
    """

    estimand: str
    group: str
    method: str
    value: float | None = None
    standard_error: float | None = None
    low: float | None = None
    high: float | None = None
    human_codes: int = 0
    effective_human_codes: float | None = None
    machine_weight: float | None = None
    note: str = ""


@dataclass(frozen=True, slots=True, repr=False)
class EstimateTable:
    """Estimates from machine codes of all rows and human codes of some; its repr is a table.

    Attributes:
        rows: Responses counted.
        human_codes: Those with a human code that correct the machine codes.
        clusters: Clusters of the human-coded rows; None if rows are independent.
        primary: The method to report; the design decides, not the data.
        estimates: A line per estimand, group and method.
        notes: Assumptions, and rows that were not used.
        formula: The formula of a regression, or None.
        model: ``ols`` or ``logistic`` for a regression, or None.
        schema_version: Of the JSON form.
    """

    rows: int
    human_codes: int
    clusters: int | None
    primary: str
    estimates: tuple[MethodEstimate, ...]
    notes: tuple[str, ...] = ()
    formula: str | None = None
    model: str | None = None
    schema_version: int = ESTIMATES_VERSION

    @property
    def title(self) -> str:
        """What was estimated from how many codes."""
        of = f"{self.model} {self.formula}, " if self.formula else ""
        clusters = "" if self.clusters is None else f" in {self.clusters} clusters"
        return f"{of}{self.rows} responses with machine codes, {self.human_codes} of them coded by people{clusters}"

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a reader of the table must know: the method to report, why estimates are missing, and the notes."""
        missing: dict[tuple[str, str], list[str]] = {}
        for each in self.estimates:
            if each.note:
                missing.setdefault((each.method, each.note), []).append(_named(each))
        reasons = (f"no {method} of {', '.join(of)}: {note}" for (method, note), of in missing.items())
        lacks = any(each.value is None for each in self.estimates if each.method == self.primary)
        other = f"; where it has no estimate: {HUMAN_ONLY}" if lacks else ""
        return (f"* the method to report: {self.primary}{other}", *reasons, *self.notes)

    def __repr__(self) -> str:
        from edgedistill.displays import plain_text

        return plain_text(self.table()) + "".join(f"{note}\n" for note in self.remarks)

    def _repr_html_(self) -> str:
        from html import escape

        from edgedistill.displays import html_table

        notes = "".join(f"<li>{escape(note)}</li>" for note in self.remarks)
        return html_table(COLUMNS, self.lines(), self.title) + f"<ul>{notes}</ul>"

    def table(self) -> "Table":
        """Return the table for a terminal."""
        from rich import box
        from rich.table import Table
        from rich.text import Text

        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=Text(self.title), title_justify="left")
        for place, column in enumerate(COLUMNS):
            table.add_column(
                column, justify="right" if place in (2, 4, 5) else "left", overflow="fold", no_wrap=place > 0
            )
        before = ""
        for name, *cells in self.lines():
            if before and name != before:
                table.add_section()
            table.add_row(Text("" if name == before else name), *map(Text, cells))
            before = name
        return table

    @property
    def columns(self) -> tuple[str, ...]:
        """Headings of `lines`."""
        return COLUMNS

    def lines(self) -> Iterator[tuple[str, ...]]:
        """Yield the cells of each line of the table."""
        for each in self.estimates:
            named = (_named(each), each.method + (" *" if each.method == self.primary else ""))
            if each.value is None or each.low is None or each.high is None or each.standard_error is None:
                yield *named, "-", "", "", ""
                continue
            worth = "" if each.effective_human_codes is None else f"{each.effective_human_codes:.0f}"
            interval = f"{each.low:.3f} to {each.high:.3f}"
            yield *named, f"{each.value:.3f}", interval, f"{each.standard_error:.3f}", worth

    def of(self, method: str, estimand: str | None = None, group: str = "") -> MethodEstimate:
        """Return the estimate of a method.

        Args:
            method: One of `METHODS`.
            estimand: Its name; None: the first one.
            group: Its group.

        Raises:
            KeyError: There is none.
        """
        for each in self.estimates:
            if each.method == method and each.group == group and estimand in (None, each.estimand):
                return each
        raise KeyError((method, estimand, group))

    def to_frame(self) -> "DataFrame":
        """Return a DataFrame with a row per line and the attributes of `MethodEstimate` as columns."""
        from pandas import DataFrame

        return DataFrame([asdict(each) for each in self.estimates])

    def to_csv(self, path: Path | str | None = None) -> str:
        """Return the lines as CSV, and write them to a file if one is given."""
        from io import StringIO

        from edgedistill_serve.grading.delimited import write_records

        text = StringIO()
        names = list(MethodEstimate.__dataclass_fields__)
        write_records(text, [names, *([getattr(each, name) for name in names] for each in self.estimates)])
        return _written(text.getvalue(), path)

    def to_latex(self, path: Path | str | None = None) -> str:
        """Return the table in LaTeX (with the package booktabs), and write it to a file if one is given."""
        from pandas import DataFrame

        from edgedistill.displays import escape_latex

        frame = DataFrame(list(self.lines()), columns=list(COLUMNS)).map(escape_latex)
        # After a line break these would be its options.
        first = [f"{{}}{cell}" if cell.startswith(("[", "*")) else cell for cell in frame[COLUMNS[0]]]
        frame[COLUMNS[0]] = first
        frame.columns = [escape_latex(name) for name in COLUMNS]
        return _written(frame.to_latex(index=False, escape=False, caption=escape_latex(self.title)), path)

    def as_dict(self) -> dict[str, Any]:
        """Return plain dicts, lists, numbers and None, ready for JSON; the keys are the attributes' names."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        return plain

    def to_json(self, path: Path | str | None = None) -> str:
        """Return the JSON form, and write it to a file if one is given."""
        text = msgspec.json.format(msgspec.json.encode(self), indent=2).decode() + "\n"
        return _written(text, path)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return a table from the output of `as_dict`, also after a round trip through JSON."""
        return msgspec.convert(values, cls)


def _named(each: MethodEstimate) -> str:
    return f"{each.estimand}, {each.group}" if each.group else each.estimand


def _written(text: str, path: Path | str | None) -> str:
    if path is not None:
        Path(path).write_text(text, "utf-8", newline="")
    return text
