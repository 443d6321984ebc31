"""The rows of a table as tasks of Label Studio, with the labelling interface beside them."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgedistill.coding.table import CodingTable, read_table
from edgedistill.data.types import CODE_COLUMN
from edgedistill.errors import DataError
from edgedistill.label_studio.configuration import Control, labelling_configuration
from edgedistill.project.schema import Project
from edgedistill_serve.bundle.atomic_folder import replace_file

ID_FIELD = "response_id"
"""The key of a row's id in a task's data. Label Studio has numbers of its own under ``id``."""
TASKS_FILE, CONFIGURATION_FILE = "tasks.json", "labelling-interface.xml"
LABEL_COLUMN = "label"


@dataclass(frozen=True, slots=True)
class ExportedTasks:
    """What was written.

    Attributes:
        tasks: File of the tasks.
        configuration: File of the labelling interface.
        rows: Number of tasks.
        labelled: Rows of the table that have a label and were left out.
        set_aside: Number of rows that cannot be coded, by reason.
    """

    tasks: Path
    configuration: Path
    rows: int
    labelled: int
    set_aside: Mapping[str, int]

    def as_dict(self) -> dict[str, Any]:
        """Return plain dicts, strings and numbers, ready for JSON."""
        return {**asdict(self), "tasks": str(self.tasks), "configuration": str(self.configuration)}


def export_tasks(
    project: Project,
    out: Path,
    *,
    sheet: Path | None = None,
    all_rows: bool = False,
    control: Control = "choices",
    overwrite: bool = False,
) -> ExportedTasks:
    """Write the uncoded rows of a project as tasks of Label Studio, with the labelling interface.

    A task holds the row's id and the task's inputs, redacted as the project requires: no label, no code of another
    coder, and no prediction, which people would follow.

    Args:
        project: The project.
        out: The folder to write; created if it does not exist.
        sheet: A coding sheet of `edgedistill review`; None: ``data.human``.
        all_rows: Whether to export rows that have a label, too, so that another person can code them.
        control: The tag with which people code.
        overwrite: Whether files of an earlier export may be replaced.

    Raises:
        ArgumentError: A task that is not ordinal cannot be coded with stars.
        DataError: The table cannot be read, no row is left, or a file exists or cannot be written.

    Example:
        >>> export_tasks(read_project(Path("praise/project.yaml")), Path("label-studio"))  # doctest: +SKIP
    """
    configuration = labelling_configuration(project, control)
    table = read_coding_table(project, sheet)
    column = label_column(table, sheet)
    ids = [ident for ident in table.responses if all_rows or not table.cell(column, ident)]
    if not ids:
        raise DataError(
            f"all {len(table.responses)} rows have a label" if table.responses else "no row can be coded",
            where=table.path.name,
            hint="Export them all the same with --all." if table.responses else "",
        )
    tasks = [{"data": {ID_FIELD: ident, **table.responses[ident].inputs}} for ident in ids]
    files = (
        (out / TASKS_FILE, json.dumps(tasks, ensure_ascii=False, indent=1) + "\n"),
        (out / CONFIGURATION_FILE, configuration),
    )
    if not overwrite and (there := [file.name for file, _ in files if file.exists()]):
        raise DataError(f"{', '.join(there)} exists", where=str(out), hint="Replace it with --overwrite.")
    try:
        out.mkdir(parents=True, exist_ok=True)
        for file, text in files:
            replace_file(file, text.encode())
    except OSError as error:
        raise DataError(f"cannot be written ({error.strerror})", where=str(out)) from None
    set_aside: dict[str, int] = {}
    for row in table.set_aside:
        set_aside[row.reason] = set_aside.get(row.reason, 0) + 1
    return ExportedTasks(files[0][0], files[1][0], len(ids), len(table.responses) - len(ids), set_aside)


def read_coding_table(project: Project, sheet: Path | None) -> CodingTable:
    """Read the table that people code: a coding sheet, or the human file."""
    path = (project.folder / project.data.human) if sheet is None else sheet.resolve()
    return read_table(project, path)


def label_column(table: CodingTable, sheet: Path | None) -> str:
    """Return the column for the label on which the coders agree."""
    return CODE_COLUMN if sheet is not None and CODE_COLUMN in table.columns else LABEL_COLUMN
