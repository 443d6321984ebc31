"""What the teachers would be sent about one response, to be read by a person; nothing is asked."""

from dataclasses import dataclass

from edgedistill.data.types import Response
from edgedistill.errors import DataError
from edgedistill.pipeline.run import Run
from edgedistill.teacher import AnswerFormat, TeacherRequest


@dataclass(frozen=True, slots=True)
class Prompt:
    """One teacher's first request about a response.

    Attributes:
        teacher: The teacher's name.
        request: The request, in the first of the answer formats.
    """

    teacher: str
    request: TeacherRequest


def prompts_of(run: Run, ident: str) -> tuple[Prompt, ...]:
    """Return what each teacher would be sent first about a response, were nothing in the cache.

    With several responses in a request, its neighbours are those of the same split, or the other unlabelled ones.

    Args:
        run: The project and its rows.
        ident: The id of a response, human-coded or unlabelled.

    Raises:
        DataError: No row that is used has this id.
    """
    response, neighbours = _found(run, ident)
    prompts = []
    for teacher in run.panel:
        plan = run.teachers[teacher.called].plan(neighbours if teacher.per_request > 1 else (response,))
        coding = {each.id: coding for each, coding in plan.pairs}[ident]
        requests = [request for request in plan.coding_requests() if coding in request.codings]
        if not requests:
            raise DataError("it holds characters that are no text", where=response.place)
        prompts.append(Prompt(teacher.called, plan.build_request(requests[0], AnswerFormat.SCHEMA)))
    return tuple(prompts)


def _found(run: Run, ident: str) -> tuple[Response, tuple[Response, ...]]:
    splits = run.records.splits
    for rows in (
        run.records.unlabelled,
        splits.validation.responses,
        splits.test.responses,
        splits.train.responses,
    ):
        for response in rows:
            if response.id == ident:
                return response, rows
    raise DataError(
        f"no response that is used has the id {ident!r}",
        where=str(run.project.path),
        hint="Ids stand in the column id; `set_aside.csv` in the run folder names the rows that are not used.",
    )
