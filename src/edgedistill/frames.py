"""Rows given in Python (a DataFrame, a Series, an array or a list), validated as strictly as files.

texts_of_rows(X, task)    the inputs of every row
frame_of(X, task)         the same rows as a DataFrame
codes_of(y, task)         the labels of rows
coded_rows(X, y, task)    both together
with_codes(rows, X, …)    the codes of single coders, too
table_rows(frame, id)     a DataFrame as the rows of a table file
train_validation_test_split(X)    as a project's `data.split` does
"""

import json
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence, Set, Sized
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from edgedistill.data.splitting import split_rows
from edgedistill.data.tables import CodedRow
from edgedistill.data.types import CodedResponse, Response, TestRows, TrainRows, ValidationRows, canonical_code
from edgedistill.errors import ArgumentError, DataError
from edgedistill.project.data import SplitSection
from edgedistill.project.reading import checked_section
from edgedistill_serve.grading.table_reader import TableRow
from edgedistill_serve.task.task import LABEL_SEPARATOR, Task, task_inputs

if TYPE_CHECKING:  # pandas is loaded where a DataFrame is made
    from pandas import DataFrame

Rows: TypeAlias = Any
"""A DataFrame with a column per input of the task, or an array with that many columns. If the response is the only
input, also a Series, an array or a list of texts. A list may also hold mappings of the inputs."""
Column: TypeAlias = Any
"""The name of a column of the DataFrame, or a Series, an array or a list with a value per row."""


def frame_of(X: Rows, task: Task) -> "DataFrame":  # noqa: N803  # scikit-learn's name
    """Return rows as a DataFrame: the given one, or a new one with a column per input and the Series' index.

    Raises:
        ArgumentError: It is not one of the types of `Rows`, an input is missing, or two columns have an input's name.
    """
    import pandas as pd

    check_task(task)
    if isinstance(X, pd.DataFrame):
        if missing := [name for name in task.inputs if name not in X.columns]:
            raise ArgumentError(
                f"there is no column {missing[0]!r}; columns are {', '.join(map(str, X.columns))}",
                hint=f"The task's inputs are {', '.join(task.inputs)}.",
            )
        if repeated := [name for name in task.inputs if X[name].ndim > 1]:
            raise ArgumentError(f"there are several columns {repeated[0]!r}", hint="Give each column its own name.")
        return X
    index = X.index if isinstance(X, pd.Series) else None
    cells = [_cells(row, task) for row in _listed(X)]
    return pd.DataFrame(cells, index=index, columns=list(task.inputs), dtype=object)


def check_task(task: object) -> None:
    """Raise an `ArgumentError` unless the argument is a task."""
    if not isinstance(task, Task):
        raise ArgumentError(
            f"task must be a Task, not {type(task).__name__}", hint='Example: Task("nominal", labels=["yes", "no"]).'
        )


def texts_of_rows(X: Rows, task: Task) -> list[dict[str, str]]:  # noqa: N803
    """Return the inputs of every row, redacted if the task has redaction; missing texts are empty.

    Raises:
        ArgumentError: As `frame_of`; or a cell is not text.
    """
    frame = frame_of(X, task)
    columns = [frame[name].tolist() for name in task.inputs]
    return [
        _inputs(dict(zip(task.inputs, cells, strict=True)), index, task)
        for index, cells in zip(frame.index, zip(*columns, strict=True), strict=True)
    ]


def responses_of(X: Rows, task: Task) -> tuple[Response, ...]:  # noqa: N803
    """Return the rows as responses; their ids are their positions, from 0."""
    return tuple(Response(str(place), inputs, "row", place) for place, inputs in enumerate(texts_of_rows(X, task)))


def values_of(given: Column, X: Rows, what: str) -> list[Any]:  # noqa: N803
    """Return the values of a column, one per row of ``X``.

    Raises:
        ArgumentError: The column does not exist or has the wrong length.
    """
    if isinstance(given, str):
        if given not in getattr(X, "columns", ()):
            raise ArgumentError(
                f"there is no column {given!r}", where=what, hint="Name an existing column, or pass the values."
            )
        given = X[given]
    if given is None:
        raise ArgumentError("no values are given", where=what, hint="Name a column, or pass a value per row.")
    if (dimensions := getattr(given, "ndim", 1)) != 1:
        raise ArgumentError(f"the values have {dimensions} dimensions, not one", where=what)
    values = list(_listed(given))
    if len(values) != len(X):
        raise ArgumentError(f"there are {len(X)} rows but {len(values)} values of {what}")
    return values


def codes_of(y: Sequence[Any], task: Task) -> list[str]:
    """Return labels in canonical form; for a multilabel task, joined.

    Args:
        y: A label per row; for a multilabel task, joined labels, or lists or arrays of labels.
        task: The task.

    Raises:
        ArgumentError: A label is missing or not one of the task's.
    """
    return [_code(value, place, task) for place, value in enumerate(y)]


def coded_rows(
    X: Rows,  # noqa: N803
    y: Column,
    task: Task,
    *,
    groups: Column | None = None,
    ids: Sequence[Hashable] | None = None,
) -> tuple[CodedResponse, ...]:
    """Return human-coded rows.

    Args:
        X: The rows.
        y: Their labels.
        task: The task.
        groups: The group of each row, such as a learner; missing and blank values are groups of one row.
        ids: The id of each row; default: its position.

    Raises:
        ArgumentError: A text, label or group cannot be used.
    """
    texts, codes = texts_of_rows(X, task), codes_of(values_of(y, X, "label"), task)
    names = [str(each) for each in (range(len(texts)) if ids is None else ids)]
    belongs = [None] * len(texts) if groups is None else [_group(each) for each in values_of(groups, X, "groups")]
    return tuple(
        CodedResponse(Response(name, inputs, "row", place, group), code)
        for place, (name, inputs, group, code) in enumerate(zip(names, texts, belongs, codes, strict=True))
    )


def with_codes(
    rows: Sequence[CodedResponse],
    X: "DataFrame",  # noqa: N803
    coders: Sequence[str],
    task: Task,
) -> tuple[CodedResponse, ...]:
    """Return coded rows with the codes of single coders.

    Args:
        rows: The rows.
        X: The same rows, with a column per coder; a missing or blank cell means that the coder did not code the row.
        coders: The columns.
        task: The task.

    Raises:
        ArgumentError: A column is missing, or a code is not a label of the task.
    """
    codes: list[dict[str, str]] = [{} for _ in rows]
    for name in coders:
        column = values_of(name, X, "coders")
        for place, value in enumerate(column):
            if not is_missing(value) and str(value).strip():
                codes[place][name] = _code(value, place, task, name)
    return tuple(replace(row, codes=of_row) for row, of_row in zip(rows, codes, strict=True))


def train_validation_test_split(
    X: "DataFrame",  # noqa: N803
    y: Column = "label",
    *,
    task: Task,
    shares: tuple[float, float, float] = (0.6, 0.2, 0.2),
    groups: Column | None = None,
    held_out_questions: Column | bool = False,
    random_state: int = 0,
) -> tuple["DataFrame", "DataFrame", "DataFrame"]:
    """Split human-coded rows as a project's `data.split` does.

    Rows whose responses are the same to a student (they differ in case, accents, white space or invisible characters)
    stay together, and so do rows of one group. The split is
    stratified by label as far as that allows. It depends on the rows' ids (the column ``id``, or else the index), and
    not on their order.

    Args:
        X: A DataFrame with a column per input of the task.
        y: Their labels: the name of a column, or a label per row.
        task: The task.
        shares: The shares of train, validation and test rows, each in (0, 1); they sum to 1.
        groups: The group of each row, such as a learner: a column's name, or a value per row.
        held_out_questions: Whether validation and test rows answer questions that no train row answers, except half of
            the test rows (``data.questions: held_out``). True: a row's question is what the task reads before the
            response; or the question of each row, as a column's name or a value per row.
        random_state: The seed of the split, an integer.

    Returns:
        Train, validation and test rows, each in the order of ``X``, with its index and columns.

    Raises:
        ArgumentError: Rows, labels or shares cannot be used, or two rows have the same id.
        DataError: A split would be empty.
    """
    frame = frame_of(X, task)
    ids = list(frame.get("id", frame.index))
    names = ["" if is_missing(ident) else str(ident).strip() for ident in ids]
    if not all(names):
        raise ArgumentError(
            "a row has no id", where=f"row {names.index('')}", hint="Give each row a unique id in the column id."
        )
    if len(set(names)) < len(names):
        raise ArgumentError(
            "two rows have the same id", hint="Give each row a unique id in the column id, or in the index."
        )
    if not names:
        raise ArgumentError("there are no rows to split")
    parts = np.ravel(shares).tolist()
    if len(parts) != 3:
        raise ArgumentError("shares must be three numbers: the shares of train, validation and test rows")
    if not isinstance(random_state, int | np.integer):
        raise ArgumentError(f"random_state must be an integer, not {random_state!r}")
    given = {**dict(zip(("train", "validation", "test"), parts, strict=True)), "seed": int(random_state)}
    section = checked_section(SplitSection, given, "shares")
    rows = [CodedRow(row, None) for row in coded_rows(frame, y, task, groups=groups, ids=names)]
    asked = _with_questions(rows, frame, held_out_questions, task)
    splits = split_rows("X", asked, section, task, held_out=held_out_questions is not False)

    def rows_in(split: TrainRows | ValidationRows | TestRows) -> "DataFrame":
        ids = {response.id for response in split.responses}
        return frame[[name in ids for name in names]]

    return rows_in(splits.train), rows_in(splits.validation), rows_in(splits.test)


def _with_questions(
    rows: Sequence[CodedRow], frame: "DataFrame", held_out: Column | bool, task: Task
) -> Sequence[CodedRow]:
    if held_out is False:
        return rows
    if held_out is True:
        if task.inputs == ("response",):
            raise ArgumentError(
                "the task has no question",
                where="held_out_questions",
                hint="Give the column with the question of each row, or a value per row.",
            )
        return rows
    names = ["" if is_missing(each) else str(each) for each in values_of(held_out, frame, "held_out_questions")]
    if blank := [row for row, name in enumerate(names) if not name.strip()]:
        raise ArgumentError("a row has no question", where=f"row {blank[0]}", hint="Name every row's question.")
    return [
        replace(row, coded=replace(row.coded, response=replace(row.coded.response, question_name=name)))
        for row, name in zip(rows, names, strict=True)
    ]


def table_rows(frame: "DataFrame", id_column: str) -> Iterator[TableRow]:
    """Yield the rows of a DataFrame as those of a table file; without a column of ids, the index has them.

    The number of a row is its position, from 0.
    """
    names = [str(name) for name in frame.columns]
    columns = [list(frame[name]) for name in frame.columns]
    if id_column not in names:
        names, columns = [id_column, *names], [list(frame.index), *columns]
    for place, cells in enumerate(zip(*columns, strict=True)):
        values = {name: _text(cell) for name, cell in zip(names, cells, strict=True)}
        yield TableRow(place, values, values)


def _text(cell: Any) -> str:
    if is_missing(cell):
        return ""
    if isinstance(cell, list | tuple | set | frozenset):
        return json.dumps([str(each) for each in cell])
    return str(cell)


def is_missing(value: Any) -> bool:
    """Whether a cell is missing for pandas: None, NaN, NaT or NA."""
    import pandas as pd

    return bool(pd.api.types.is_scalar(value)) and bool(pd.isna(value))


def _listed(given: Any) -> Iterable[Any]:
    if not isinstance(given, Iterable) and hasattr(given, "__array__"):
        return np.asarray(given)
    refused = isinstance(given, str | bytes | Mapping | Set) or not isinstance(given, Sized)
    if refused or not isinstance(given, Iterable) or getattr(given, "ndim", 1) == 0:
        raise ArgumentError(
            f"a DataFrame, a Series, an array or a list is needed, not {type(given).__name__}",
            hint="Put a single response in a list.",
        )
    return given


def _cells(row: Any, task: Task) -> tuple[Any, ...]:
    if isinstance(row, Mapping):
        return tuple(row.get(name) for name in task.inputs)
    cells = (row,) if isinstance(row, str | bytes) or is_missing(row) or not isinstance(row, Iterable) else tuple(row)
    if len(cells) != len(task.inputs):
        raise ArgumentError(
            f"a row has {len(cells)} texts, but the task has {len(task.inputs)} inputs",
            hint=f"Give a DataFrame with the columns {', '.join(task.inputs)}.",
        )
    return cells


def _inputs(given: dict[str, Any], index: object, task: Task) -> dict[str, str]:
    for name, value in given.items():
        if is_missing(value):
            given[name] = ""
        elif not isinstance(value, str):
            raise ArgumentError(
                f"{name} is {type(value).__name__}, not text",
                where=f"row {index!r}",
                hint="Convert it to str.",
            )
    try:
        return task_inputs(given, task)
    except DataError as error:
        raise ArgumentError(error.what, where=f"row {index!r}", hint=error.hint) from None


def _code(value: Any, place: int, task: Task, name: str = "y") -> str:
    if task.kind == "multilabel" and isinstance(value, list | tuple | set | frozenset | np.ndarray):
        value = LABEL_SEPARATOR.join(map(str, value)) or "none"
    if is_missing(value) or not isinstance(value, str) or not value.strip():
        what = "the label is missing" if is_missing(value) or value == "" else f"the label {value!r} is not text"
        raise ArgumentError(what, where=f"{name}[{place}]", hint="Remove rows without a label; labels must be strings.")
    try:
        return canonical_code(value.strip(), task)
    except DataError as error:
        raise ArgumentError(error.what, where=f"{name}[{place}]", hint=error.hint) from None


def _group(value: Any) -> str | None:
    return None if is_missing(value) else str(value).strip() or None
