"""Rows of xlsx files: of their first sheet, whose first row has the names of the columns.

Needs the optional dependency openpyxl. Cells have the values that the spreadsheet showed last, not formulas.
"""

from collections.abc import Collection, Iterator
from typing import Any, BinaryIO

from edgedistill_serve.errors import DataError
from edgedistill_serve.grading.text_rows import TableRow, typed_row, value_text


class Sheet:
    """The first sheet of a workbook.

    Args:
        file: The xlsx file.
        name: Its name, for messages.
        inputs: Columns whose cells are texts, also if they look like numbers; an empty one is an empty text.

    Attributes:
        header: The names of the columns.

    Raises:
        DataError: The file is not a workbook, its first row is empty, or openpyxl is not installed.
    """

    def __init__(self, file: BinaryIO, name: str, inputs: Collection[str]) -> None:
        try:
            from openpyxl import load_workbook
        except ImportError:
            raise DataError(
                "xlsx files require openpyxl", where=name, hint='Install it: pip install "edgedistill-serve[xlsx]".'
            ) from None
        self._name, self._inputs = name, inputs
        try:
            workbook = load_workbook(file, read_only=True, data_only=True, keep_links=False)
            rows = workbook.worksheets[0].iter_rows(values_only=True)
        except Exception as error:  # noqa: BLE001  # a damaged file can raise any
            raise DataError(f"the file is not a valid workbook ({type(error).__name__})", where=name) from None
        self._rows = self._read(rows)
        cells = list(next(self._rows, ()))
        while cells and cells[-1] is None:
            cells.pop()
        if not cells:
            raise DataError("the file is empty: there is no header row", where=name)
        self.header = tuple(map(value_text, cells))

    def rows(self) -> Iterator[TableRow]:
        """Yield the rows with a value."""
        for number, cells in enumerate(self._rows, start=2):
            if any(value is not None for value in cells):
                raw = dict(zip(self.header, [*cells, *([None] * len(self.header))], strict=False))
                yield typed_row(
                    number, {**raw, **{name: value_text(raw[name]) for name in self._inputs if name in raw}}
                )

    def _read(self, rows: Iterator[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
        try:
            yield from rows
        except Exception as error:  # noqa: BLE001
            raise DataError(f"the file cannot be read further ({type(error).__name__})", where=self._name) from None
