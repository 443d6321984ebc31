"""Text and HTML representations of results."""

from collections.abc import Iterable, Sequence
from html import escape
from io import StringIO

from rich.console import Console, RenderableType

_WIDTH = 120


def plain_text(shown: RenderableType) -> str:
    """Return a renderable as plain text, ending with a newline."""
    text = StringIO()
    Console(
        file=text,
        width=_WIDTH,
        force_terminal=False,
        force_jupyter=False,
        color_system=None,
        markup=False,
        emoji=False,
        highlight=False,
    ).print(shown)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines()) + "\n"


def html_table(columns: Sequence[str], rows: Iterable[Sequence[str]], caption: str = "") -> str:
    """Return an HTML table with escaped cells; the first cell of each row is its header."""
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "".join(
        f"<tr><th>{escape(first)}</th>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"
        for first, *cells in rows
    )
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    return f"<table>{title}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
