"""Columns of tables: lists of Python values, or Arrow arrays, which keep every type of Parquet.

The functions here are pure: they take columns and return columns.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from edgedistill_serve.errors import DataError
from edgedistill_serve.grading.column_names import (
    closest_columns,
    column_letters,
    is_long,
    list_columns,
    matching_columns,
)
from edgedistill_serve.grading.table_reader import ExactTime
from edgedistill_serve.grading.text_rows import value_text
from edgedistill_serve.scoring.score import Columns as AddedColumns
from edgedistill_serve.task.task import Task

Column: TypeAlias = Any
"""A list of Python values, or an Arrow array."""
Kind: TypeAlias = Any
"""The type of a column: an Arrow field, or one of `str`, `int`, `float` and `bool`."""


class _Missing:
    """The value of a key that a JSON object does not have."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "MISSING"


_MOST_NAMED = 3
"""Columns that a hint names."""
MISSING: Final = _Missing()


@dataclass(frozen=True, slots=True)
class Rejection:
    """A row that could not be read.

    Attributes:
        file: Name of its file.
        row: Its number in the file.
        reason: Why, and how to correct it.
    """

    file: str
    row: int
    reason: str


@dataclass(frozen=True, slots=True)
class Batch:
    """Consecutive rows of a table.

    Attributes:
        columns: By name, in order; all of the same length.
        rows: Number of rows.
        rejected: Rows that could not be read, before or among these.
        ends_part: Whether these are the last rows of a part.
    """

    columns: Mapping[str, Column]
    rows: int
    rejected: tuple[Rejection, ...] = ()
    ends_part: bool = False


def check_columns(
    names: Sequence[str], task: Task, added: AddedColumns, where: str, columns: Mapping[str, str] | None = None
) -> None:
    """Check that a table has the inputs of a task and none of the columns that grading adds.

    Args:
        names: The columns of the table.
        task: Its inputs.
        added: The columns that grading adds.
        where: The table, for messages.
        columns: By input, its column, if the column has another name.

    Raises:
        DataError: It does not.
    """
    for name in task.inputs:
        column = (columns or {}).get(name, name)
        if column not in names:
            near = closest_columns(column, names, most=1) or [each for each in names if is_long(each)]
            letters = [column_letters(list(names).index(each)) for each in near]
            is_clear = len(letters) <= _MOST_NAMED and not any(matching_columns(each, names) for each in letters)
            named = f"{name}={' or '.join(letters)}" if letters and is_clear else f'{name}="NAME"'
            raise DataError(
                f"there is no column {column!r}",
                where=where,
                hint=f"The task's inputs are {', '.join(task.inputs)}; the file has {list_columns(names)}. If another "
                f"column has the {name}, say so by its name or its letter: --column {named}",
            )
    duplicates = [name for name in added if name in names]
    if duplicates:
        raise DataError(
            f"the file already has the column {duplicates[0]!r}, which grading would add",
            where=where,
            hint="Add a prefix to the new columns, such as --prefix scored_.",
        )


def values(column: Column) -> list[Any]:
    """Return the values of a column as Python has them.

    Times in nanoseconds, which no type of Python holds, are texts, also inside of lists and structures.

    Raises:
        DataError: A value is outside the range of Python's type, such as a year beyond 9999.
    """
    if isinstance(column, list):
        return column
    kind = _with_texts(column.type)
    try:
        found: list[Any] = (column if kind == column.type else column.cast(kind)).to_pylist()
    except (ValueError, OverflowError, NotImplementedError) as error:  # Arrow's errors are of these types, too
        raise DataError(
            f"a value of the type {column.type} cannot be converted ({error})", hint="Write a Parquet file."
        ) from None
    return found


def texts(column: Column) -> list[str]:
    """Return the values of a column as cells of a CSV file have them; missing values are empty."""
    return [value if type(value) is str else "" if value is MISSING else value_text(value) for value in values(column)]


def records(columns: Mapping[str, Column]) -> Iterable[dict[str, Any]]:
    """Yield the rows of columns as dictionaries, without missing values."""
    lists = [values(column) for column in columns.values()]
    if any(MISSING in column for column in lists if isinstance(column, list)):
        for row in zip(*lists, strict=True):
            yield {name: value for name, value in zip(columns, row, strict=True) if value is not MISSING}
    else:
        yield from (dict(zip(columns, row, strict=True)) for row in zip(*lists, strict=True))


def _with_texts(kind: Any) -> Any:
    """Return an Arrow type with text in the place of nanoseconds and of dictionaries of them."""
    import pyarrow as pa

    types = pa.types
    if getattr(kind, "unit", None) == "ns":
        return pa.string()
    if types.is_dictionary(kind) or types.is_run_end_encoded(kind):
        inner = _with_texts(kind.value_type)
        return kind if inner == kind.value_type else inner
    if types.is_map(kind):
        return pa.map_(_with_texts(kind.key_type), _with_texts(kind.item_type))
    if types.is_struct(kind):
        return pa.struct([field.with_type(_with_texts(field.type)) for field in kind])
    if types.is_fixed_size_list(kind):
        return pa.list_(_with_texts(kind.value_type), kind.list_size)
    if types.is_list(kind) or types.is_large_list(kind):
        make = pa.list_ if types.is_list(kind) else pa.large_list
        return make(kind.value_field.with_type(_with_texts(kind.value_type)))
    return kind


def arrow_type(kind: Kind) -> Any:
    """Return the Arrow type of a Python type."""
    import pyarrow as pa

    return {str: pa.string(), float: pa.float64(), int: pa.int64(), bool: pa.bool_()}[kind]


def arrow_field(name: str, kind: Kind) -> Any:
    """Return the Arrow field of a column, given its kind or its Arrow type."""
    import pyarrow as pa

    if isinstance(kind, pa.Field):
        return kind
    return pa.field(name, arrow_type(kind) if isinstance(kind, type) else kind)


def arrow_column(column: Column, kind: Kind) -> Any:
    """Return a column as Arrow; a list is converted to the Arrow type of ``kind``, values of other types to text."""
    import pyarrow as pa

    if not isinstance(column, list):
        return column
    if not isinstance(kind, type):
        exact = (value.number if isinstance(value, ExactTime) else value for value in column)
        return pa.array([None if value is MISSING else value for value in exact], kind.type)
    if kind is str:
        column = [value if value is None or type(value) is str else _text_or_null(value) for value in column]
    elif kind is float:
        column = [None if value is None or value is MISSING else float(value) for value in column]
    else:
        column = [None if value is MISSING else value for value in column]
    return pa.array(column, arrow_type(kind))


def _text_or_null(value: Any) -> str | None:
    return None if value is MISSING else value_text(value)


class KindOfColumn:
    """Finds the narrowest type that holds the values of a column: `bool`, `int`, `float`, else `str`."""

    def __init__(self) -> None:
        self._types: set[type] = set()

    def add(self, value: Any) -> None:
        """Take one value of the column into account."""
        kind = type(value)
        if kind is int and not -(2**63) <= value < 2**63:
            kind = str
        self._types.add(kind)

    @property
    def kind(self) -> Kind:
        """The type; `str` also for a column without values."""
        found = self._types - {type(None)}
        if found == {bool} or found == {int}:
            return next(iter(found))
        return float if found and found <= {int, float} else str
