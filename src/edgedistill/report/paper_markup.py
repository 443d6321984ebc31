r"""Text and tables for a paper, as Markdown (Pandoc's citations), as LaTeX (booktabs, natbib) and as CSV.

A text is plain, with marks for citations (`cite`) and for references to a table (`table_reference`). Each format
escapes everything that is not such a mark, so that a label such as ``50% & \input{x}`` is printed and not obeyed.
"""

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import TypeAlias

from edgedistill.agreement import Estimate
from edgedistill.displays import CONTROL, escape_latex
from edgedistill.report.formatting import estimate, figure
from edgedistill_serve.grading.delimited import write_records

Cell: TypeAlias = str | int | float | bool | Estimate | None

_CITE, _TABLE, _END = "\x01", "\x02", "\x03"
_MARK = re.compile(f"{_CITE}([a-z0-9,]+){_END}|{_TABLE}([a-z_]+){_END}")

_MARKDOWN = re.compile(r"[\\`*_\[\]<>#|~$^@&]|(?<=-)-")
"""What means something to Markdown inside a line."""


def cite(*keys: str) -> str:
    """Return a mark for a citation of entries of `references.bib`."""
    return f"{_CITE}{','.join(keys)}{_END}"


def table_reference(name: str) -> str:
    """Return a mark for a reference to a table."""
    return f"{_TABLE}{name}{_END}"


def plain(text: object) -> str:
    """Return a text of a project, such as a label, on one line and without control characters, so without marks."""
    return " ".join(CONTROL.sub(" ", str(text)).split(" ")).strip()


def cited(text: str) -> list[str]:
    """Return the keys that a text cites, in order."""
    return [key for mark in _MARK.finditer(text) if mark[1] for key in mark[1].split(",")]


def escape_markdown(text: str) -> str:
    """Return a text as Markdown prints it, on one line."""
    return _MARKDOWN.sub(lambda found: f"\\{found[0]}", CONTROL.sub(" ", text))


def to_latex(text: str) -> str:
    """Return a text with its marks as LaTeX."""
    return _marked(text, escape_latex, lambda keys: rf"\citep{{{keys}}}", lambda name: rf"Table~\ref{{tab:{name}}}")


def to_markdown(text: str) -> str:
    """Return a text with its marks as Markdown, with citations as Pandoc reads them."""
    return _marked(
        text,
        escape_markdown,
        lambda keys: "[" + "; ".join(f"@{key}" for key in keys.split(",")) + "]",
        lambda name: f"Table [{name}](tables/{name}.csv)",
    )


def _marked(
    text: str, escape: Callable[[str], str], citation: Callable[[str], str], reference: Callable[[str], str]
) -> str:
    parts, end = [], 0
    for mark in _MARK.finditer(text):
        parts += [escape(text[end : mark.start()]), citation(mark[1]) if mark[1] else reference(mark[2])]
        end = mark.end()
    return "".join([*parts, escape(text[end:])])


@dataclass(frozen=True, slots=True)
class Paragraph:
    """A heading and sentences."""

    heading: str
    sentences: tuple[str, ...]

    @property
    def text(self) -> str:
        """The sentences in a row."""
        return " ".join(self.sentences)


@dataclass(frozen=True, slots=True)
class PaperTable:
    """A table.

    Attributes:
        name: That of its files.
        caption: Under which it is printed.
        columns: Name in the CSV file and heading of each column.
        rows: The cells of each row; an `Estimate` has three columns in the CSV file: ``NAME``, ``NAME_low``,
            ``NAME_high``.
        printed: Number of rows in the LaTeX table; None for all. The CSV file has all.
        estimates: Columns that hold estimates, also where every cell is empty.
    """

    name: str
    caption: str
    columns: tuple[tuple[str, str], ...]
    rows: tuple[tuple[Cell, ...], ...]
    printed: int | None = None
    estimates: frozenset[str] = frozenset()

    def csv(self) -> str:
        """Return the table as CSV, every number with all its digits."""
        header = [
            part
            for place, (name, _) in enumerate(self.columns)
            for part in ((name, f"{name}_low", f"{name}_high") if self._has_estimates(place) else (name,))
        ]
        text = io.StringIO()
        write_records(text, [header, *([*self._raw(row)] for row in self.rows)])
        return text.getvalue()

    def latex(self) -> str:
        """Return the table as LaTeX with the rules of booktabs, every number rounded as in the report."""
        rows = self.rows[: self.printed]
        numeric = [all(not isinstance(row[place], str) for row in self.rows) for place, _ in enumerate(self.columns)]
        header = " & ".join(_bold(heading) for _, heading in self.columns) + r" \\"
        body = (" & ".join(to_latex(shown(cell)) for cell in row) + r" \\" for row in rows)
        return "\n".join(
            [
                r"\begin{table}",
                r"\centering",
                rf"\caption{{{to_latex(self.caption)}}}",
                rf"\label{{tab:{self.name}}}",
                rf"\begin{{tabular}}{{{''.join('r' if each else 'l' for each in numeric)}}}",
                r"\toprule",
                header,
                r"\midrule",
                # After a line break these would be its options.
                *(f"{{}}{line}" if line.startswith(("[", "*")) else line for line in body),
                r"\bottomrule",
                r"\end{tabular}",
                r"\end{table}",
                "",
            ]
        )

    def _has_estimates(self, place: int) -> bool:
        return self.columns[place][0] in self.estimates or any(isinstance(row[place], Estimate) for row in self.rows)

    def _raw(self, row: Sequence[Cell]) -> list[object]:
        cells: list[object] = []
        for place, cell in enumerate(row):
            if isinstance(cell, Estimate):
                cells += [repr(cell.value), repr(cell.low), repr(cell.high)]
            elif self._has_estimates(place):
                cells += ["", "", ""]
            elif isinstance(cell, bool):
                cells.append("yes" if cell else "no")
            else:
                cells.append(repr(cell) if isinstance(cell, float) else cell)
        return cells


def shown(cell: Cell) -> str:
    """Return a cell as the report shows it."""
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, Estimate):
        return estimate(cell)
    return figure(cell) if isinstance(cell, float) else plain(cell)


def _bold(heading: str) -> str:
    return rf"\textbf{{{to_latex(heading)}}}" if heading else ""


def read_references() -> dict[str, str]:
    """Return every entry of `references.bib` by its key."""
    text = (files("edgedistill.report") / "references.bib").read_text("utf-8")
    entries = re.split(r"\n(?=@)", text.strip())
    return {entry.partition("{")[2].partition(",")[0]: entry.strip() for entry in entries}


def bibliography(texts: Sequence[str]) -> str:
    """Return the BibTeX entries that texts cite, in the order of their keys."""
    known = read_references()
    keys = sorted({key for text in texts for key in cited(text)})
    return "\n\n".join(known[key] for key in keys) + "\n" if keys else ""
