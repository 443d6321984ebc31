"""What it costs to search a sheet for formulas and merged cells, beside reading it.

    python benchmarks/sheet_search.py

Writes docs/results/sheet_search.json: the processor time of the search as a share of that of reading the sheet with it,
the least of several takes turn by turn.
"""

import io
import json
import time
from collections.abc import Callable
from pathlib import Path

from openpyxl import Workbook

from edgedistill_serve.grading import spreadsheets

ROWS, COLUMNS, TAKES = 20_000, 6, 5
RESULT = Path(__file__).parents[1] / "docs" / "results" / "sheet_search.json"
TEXT = "ice floats because it is lighter than the water around it, number "


def workbook() -> bytes:
    """Return a workbook of texts and numbers."""
    book = Workbook(write_only=True)
    sheet = book.create_sheet("Form Responses 1")
    sheet.append([f"column {number}" for number in range(COLUMNS)])
    for row in range(ROWS):
        sheet.append([row, f"{TEXT}{row}", row % 3, f"s{row}@school.example", "process", row / 7])
    stream = io.BytesIO()
    book.save(stream)
    return stream.getvalue()


def read(data: bytes) -> int:
    """Read all rows."""
    return sum(1 for _ in spreadsheets.Sheet(io.BytesIO(data), "in.xlsx", ["column 1"]).rows())


def search(data: bytes) -> int:
    """Search the sheet's XML."""
    return spreadsheets.read_facts(io.BytesIO(data), "xl/worksheets/sheet1.xml").formulas


def seconds(work: Callable[[bytes], int], data: bytes) -> float:
    """Return the processor time of work on a workbook."""
    before = time.process_time()
    work(data)
    return time.process_time() - before


def main() -> None:
    """Measure and write the result."""
    data = workbook()
    takes = [(seconds(read, data), seconds(search, data)) for _ in range(TAKES)]
    share = min(each for _, each in takes) / min(each for each, _ in takes)
    result = {"rows": ROWS, "columns": COLUMNS, "takes": TAKES, "share_of_reading": round(share, 4)}
    RESULT.write_text(json.dumps(result, indent=2) + "\n", "utf-8")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
