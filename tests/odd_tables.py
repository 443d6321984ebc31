"""The same table in the forms in which people have it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import openpyxl

Row = Sequence[str]


@dataclass(frozen=True)
class Form:
    """A form of a table.

    Attributes:
        write: Writes rows, header first, to a file.
        suffix: Of the file.
        options: What a person has to say about it.
        note: What a command says about it.
    """

    write: Callable[[Path, Sequence[Row]], None]
    suffix: str = ".csv"
    options: tuple[str, ...] = ()
    note: str = ""


def _text(delimiter: str = ",", encoding: str = "utf-8", before: str = "", empty: int = 0):
    def write(path: Path, rows: Sequence[Row]) -> None:
        padded = [*([*row, *[""] * empty] for row in rows), *[[""] * (len(rows[0]) + empty)] * empty]
        quoted = ((f'"{cell.replace(chr(34), chr(34) * 2)}"' if cell else "" for cell in row) for row in padded)
        lines = (delimiter.join(row) + "\r\n" for row in quoted)
        path.write_bytes((before + "".join(lines)).encode(encoding))

    return write


def _sheet(*above: Row, below: Sequence[Row] = ()):
    def write(path: Path, rows: Sequence[Row]) -> None:
        book = openpyxl.Workbook()
        for row in (*above, *rows, *below):
            book.active.append(row)
        book.create_sheet("Notes")
        book.save(path)

    return write


def book_of(path: Path, **sheets: Sequence[Row]) -> Path:
    """Write a workbook with these sheets; returns its path."""
    book = openpyxl.Workbook()
    book.remove(book.active)
    for title, rows in sheets.items():
        page = book.create_sheet(title)
        for row in rows:
            page.append(row)
    book.save(path)
    return path


def _on_another_sheet(path: Path, rows: Sequence[Row]) -> None:
    book_of(path, Instructions=[("Read this first",)], Answers=rows)


def _below_a_second_header(write: Callable[[Path, Sequence[Row]], None]):
    def write_both(path: Path, rows: Sequence[Row]) -> None:
        header, *body = rows
        write(path, [header, [f"({n})" for n in range(len(header))], *body])

    return write_both


def _with(change: Callable[[str], str], place: int, write: Callable[[Path, Sequence[Row]], None]):
    """Write rows of which the cells of a column are changed, the header is not."""

    def write_changed(path: Path, rows: Sequence[Row]) -> None:
        header, *body = rows
        write(path, [header, *([*row[:place], change(row[place]), *row[place + 1 :]] for row in body)])

    return write_changed


TEXT, CODE = 1, 2
"""The places of the text and of the code in a row, after the id."""
FORMS = {
    "CSV": Form(_text()),
    "CSV with a byte order mark": Form(_text(encoding="utf-8-sig")),
    "CSV with semicolons in Windows-1252": Form(
        _text(";", "cp1252"), note="is read as Windows-1252, with fields separated by semicolons"
    ),
    "CSV with tabs in UTF-16": Form(_text("\t", "utf-16"), note="is read as UTF-16, with fields separated by tabs"),
    "CSV with Excel's line": Form(
        _text(";", before="sep=;\r\n"), note="is read as UTF-8, with fields separated by semicolons"
    ),
    "CSV with empty rows and columns at the end": Form(_text(empty=3)),
    "TSV": Form(_text("\t"), ".tsv"),
    "xlsx": Form(_sheet(), ".xlsx", note="the sheet 'Sheet' is read, not 'Notes'"),
    "xlsx with titles": Form(
        _sheet(("Class 7b",), ("exported on Monday",)), ".xlsx", ("--header-row", "3"), "the sheet 'Sheet' is read"
    ),
    "xlsx with empty rows at the end": Form(_sheet(below=[(" ", ""), ("", " ")]), ".xlsx", note="the sheet 'Sheet'"),
    "xlsx on another sheet": Form(_on_another_sheet, ".xlsx", note="the sheet 'Answers' is read, not 'Instructions'"),
    "CSV with a second header row": Form(
        _below_a_second_header(_text()), note="looks like a second header row and is not read: --first-row 3"
    ),
    "labels in another spelling": Form(
        _with(str.title, CODE, _text()), options=("--label-spelling", "folded"), note="labels in another spelling"
    ),
}
HTML = Form(
    _with(lambda text: f"<p>{text.replace(' ', '&nbsp;')}</p>", TEXT, _text()), ".csv", ("--html",), "have HTML"
)
"""A table whose texts are HTML, for commands that read texts."""
