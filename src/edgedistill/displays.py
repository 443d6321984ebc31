"""How results show themselves: as text in a terminal, as a table in a notebook."""

from collections.abc import Iterable, Sequence
from html import escape
from io import StringIO

from rich.console import Console, RenderableType

_WIDTH = 120


def plain_text(shown: RenderableType) -> str:
    """Return what a terminal without colours shows, its last line ended."""
    text = StringIO()
    Console(file=text, width=_WIDTH, force_terminal=False, force_jupyter=False, color_system=None).print(shown)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines()) + "\n"


def html_table(columns: Sequence[str], rows: Iterable[Sequence[str]], caption: str = "") -> str:
    """Return an HTML table; every cell is escaped, and the first of each row is its heading."""
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "".join(
        f"<tr><th>{escape(first)}</th>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"
        for first, *cells in rows
    )
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    return f"<table>{title}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
