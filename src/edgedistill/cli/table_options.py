"""The options by which a person says how a table is read; the same for every command that reads one."""

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Annotated, Any

import typer

from edgedistill.data.given_tables import ReadingOptions
from edgedistill.errors import ArgumentError
from edgedistill.project import Project
from edgedistill_serve.grading.column_names import parse_columns
from edgedistill_serve.grading.dialects import check_delimiter, check_encoding
from edgedistill_serve.grading.header_rows import HeaderRows

_SPELLINGS = ("exact", "folded")


@dataclass(frozen=True, slots=True)
class TableOptions:
    """What a person says about a table; None and empty where nothing is said.

    Attributes:
        keys: What ``column`` may name.
        column: As given, such as ``label=Code (AM)``.
        header_row: The row with the names of the columns.
        first_row: The first row after the header rows.
        sheet_name: Of an xlsx file.
        delimiter: That of CSV and TSV files.
        encoding: That of text files.
        html: Whether the texts are HTML.
        label_spelling: ``exact`` or ``folded``, as `data.label_spelling` of a project.
        sheet_option: The command's name of the option for the sheet.
    """

    keys: tuple[str, ...]
    column: tuple[str, ...] = ()
    header_row: int | None = None
    first_row: int | None = None
    sheet_name: str | None = None
    delimiter: str | None = None
    encoding: str | None = None
    html: bool = False
    label_spelling: str | None = None
    sheet_option: str = "--sheet"

    def given(self) -> Iterator[str]:
        """Yield the options that are given, as on the command line."""
        for name in _OPTIONS:
            if getattr(self, name) not in (None, (), False):
                yield self.sheet_option if name == "sheet_name" else f"--{name.replace('_', '-')}"

    def reading(self, project: Project | None = None) -> ReadingOptions:
        """Return how a table is read; what is not said is as in the section ``data`` of a project.

        Raises:
            DataError: An option cannot be used.
            ArgumentError: The spelling is neither exact nor folded.
        """
        spelling = self.label_spelling or (project.data.label_spelling if project else "exact")
        if spelling not in _SPELLINGS:
            raise ArgumentError(
                f"{spelling!r} is not known", where="--label-spelling", hint=f"Use {' or '.join(_SPELLINGS)}."
            )
        header = HeaderRows(self.header_row or 1, self.first_row, self.sheet_name, self.sheet_option)
        header.check("--first-row")
        return ReadingOptions(
            columns=parse_columns(self.column, self.keys),
            usual_columns={key: (name,) for key, name in project.data.columns.items()} if project else {},
            header=header,
            delimiter=None if self.delimiter is None else check_delimiter(self.delimiter),
            encoding=None if self.encoding is None else check_encoding(self.encoding),
            html=self.html or (project is not None and project.data.html == "remove"),
            fold_labels=spelling == "folded",
        )


_OPTIONS = ("column", "header_row", "first_row", "sheet_name", "delimiter", "encoding", "html", "label_spelling")


def reads_table(
    *keys: str, of: str = "", texts: bool = True, sheet: Sequence[str] = ("--sheet", "--sheet-name")
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add the options of a table to a command, which has them as its argument ``table``.

    Args:
        keys: What ``--column`` may name.
        of: What the options belong to, for their help, such as ``With --on: ``.
        texts: Whether texts are read, which may be HTML.
        sheet: The names of the option for the sheet of an xlsx file.
    """
    named = ", ".join(keys)
    annotations: dict[str, Any] = {
        "column": Annotated[
            list[str] | None,
            typer.Option(
                metavar="KEY=NAME",
                help=f'{of}The column of {named}, such as {keys[-1]}="Code (AM)"; the end of a name may be left out: '
                "2. Explain\u2026",
            ),
        ],
        "header_row": Annotated[
            int | None, typer.Option(min=1, help=f"{of}Row of the column names; default: the first.")
        ],
        "first_row": Annotated[
            int | None, typer.Option(min=2, help=f"{of}First row of responses; default: the one after the header.")
        ],
        "sheet_name": Annotated[
            str | None,
            typer.Option(
                *sheet, metavar="NAME", help=f"{of}Sheet of an xlsx file; default: the first with the columns."
            ),
        ],
        "delimiter": Annotated[
            str | None,
            typer.Option(help=f'{of}Delimiter of CSV and TSV, such as ";" or "tab"; by default, it is detected.'),
        ],
        "encoding": Annotated[
            str | None, typer.Option(help=f"{of}Encoding of text files, such as cp1252; by default, it is detected.")
        ],
        "html": Annotated[
            bool, typer.Option("--html", help=f"{of}The texts are HTML: read what it shows, without tags such as <p>.")
        ],
        "label_spelling": Annotated[
            str | None,
            typer.Option(
                metavar="exact|folded",
                help=f"{of}folded: labels that differ in case, spaces or Unicode form, and 1.0 and 1, are one label.",
            ),
        ],
    }
    if not texts:
        del annotations["html"]

    def with_options(command: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(command)

        @wraps(command)
        def called(**given: Any) -> None:
            words = {name: given.pop(name) for name in annotations}
            words["column"] = tuple(words["column"] or ())
            command(table=TableOptions(keys, **words, sheet_option=sheet[0]), **given)

        own = [each for name, each in signature.parameters.items() if name != "table"]
        more = [
            inspect.Parameter(
                name, inspect.Parameter.KEYWORD_ONLY, default=False if name == "html" else None, annotation=annotation
            )
            for name, annotation in annotations.items()
        ]
        keyword = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in own]
        called.__signature__ = signature.replace(parameters=[*keyword, *more])  # type: ignore[attr-defined]
        called.__annotations__ = {
            **{name: each for name, each in command.__annotations__.items() if name != "table"},
            **annotations,
        }
        return called

    return with_options
