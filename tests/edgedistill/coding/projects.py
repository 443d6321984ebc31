"""Small projects to be coded, and their codings."""

import csv
from pathlib import Path

from edgedistill.coding import CodingOptions, CodingSession
from edgedistill.project import read_project

PROJECT = """\
name: praise
task:
  kind: {kind}
  instructions: Code what is praised.
  labels:
  - {{name: process, definition: Praises effort.}}
  - {{name: outcome, definition: Praises the result.}}
  - {{name: person}}
{more}
data: {{human: {human}}}
"""


def write_project(folder: Path, rows: int = 6, *, kind="nominal", more="", human="human.csv", extra=()) -> Path:
    """Write a project whose human file has no labels; `extra` are further columns, each with one value."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "project.yaml").write_text(PROJECT.format(kind=kind, more=more, human=human))
    header = ["id", "response", "label", *(name for name, _ in extra)]
    write_csv(
        folder / human, [header, *([f"r{n}", f"You tried way {n}.", "", *(v for _, v in extra)] for n in range(rows))]
    )
    return folder / "project.yaml"


def write_csv(path: Path, lines) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(lines)


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def open_session(file: Path, **options) -> CodingSession:
    return CodingSession(read_project(file), CodingOptions(**options))


def code_all(session: CodingSession, coder: str, choose) -> None:
    """Code every open row of a coder; `choose` is a function from the id to the code."""
    for row in session.rows(coder):
        if not row["code"] and not row["closed"]:
            session.code(coder, row["id"], choose(row["id"]), row["revision"])
