"""The transfer set: further human-coded rows that judge, apart from all that is learnt from or chosen by."""

from collections.abc import Iterable
from pathlib import Path

from edgedistill.errors import DataError
from edgedistill.project import Project
from edgedistill.records import CodedResponse, Records, TestRows
from edgedistill.records.coding import Columns, read_coded
from edgedistill.studies.texts import account, whole
from edgedistill_serve.tables import read_rows


def read_transfer(file: Path, project: Project, records: Records) -> tuple[TestRows, str]:
    """Read a transfer set; rows whose text is a train or validation row's are set aside.

    Args:
        file: Columns ``id``, the task's inputs and ``label``.
        project: Its task.
        records: Its other rows.

    Returns:
        The rows that are kept, and a sentence that accounts for all.

    Raises:
        DataError: The file or a row cannot be used, an id stands elsewhere with another text, or no row is left.
    """
    columns = Columns(project.task.task, project.data.group_by, project.data.max_characters)
    coded = read_coded(file.name, read_rows(file), columns)
    rows = [row.coded for row in coded.rows]
    _refuse_taken_ids(rows, records)
    seen = {
        whole(row.response.inputs): f"repeats a {name} row"
        for name, side in (("train", records.splits.train), ("validation", records.splits.validation))
        for row in side
    }
    reasons = [row.reason for row in coded.set_aside]
    kept: list[CodedResponse] = []
    for row in rows:
        if reason := seen.get(whole(row.response.inputs)):
            reasons.append(reason)
        else:
            kept.append(row)
    told = account(file.name, "transfer rows", coded.read, len(kept), reasons)
    if not kept:
        raise DataError(
            f"no row is left to judge by; {told}",
            where=str(file),
            mend="A transfer set holds texts that no train or validation row has.",
        )
    return TestRows(tuple(kept)), told


def _refuse_taken_ids(rows: Iterable[CodedResponse], records: Records) -> None:
    splits = records.splits
    others = (*splits.train.responses, *splits.validation.responses, *splits.test.responses, *records.unlabelled)
    by_id = {response.id: response for response in others}
    for row in rows:
        twin = by_id.get(row.response.id)
        if twin and whole(twin.inputs) != whole(row.response.inputs):
            raise DataError(
                f"the id {twin.id!r} stands in {twin.place} already, with another text",
                where=row.response.place,
                mend="Give the rows of the transfer set ids of their own: labels are found by id.",
            )
