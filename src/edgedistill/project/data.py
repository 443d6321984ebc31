"""The section `data`: files of responses, their questions, and the split."""

from collections.abc import Mapping
from typing import Annotated, Literal, Self, TypeAlias

from pydantic import Field, model_validator

from edgedistill.errors import DataError
from edgedistill.project.section import Count, File, Section
from edgedistill_serve.grading.column_names import check_distinct
from edgedistill_serve.grading.header_rows import HeaderRows
from edgedistill_serve.task.task import INPUTS

SheetOf: TypeAlias = Literal["human", "unlabelled", "population"]
"""The files of people in a project: `data.human`, `data.unlabelled` and `evaluation.population`."""
COLUMN_KEYS = ("id", *INPUTS, "label", "split")
"""What a column of a data file can hold."""


class SplitSection(Section):
    """Shares of the human-coded rows; they sum to 1."""

    train: Annotated[float, Field(gt=0, lt=1)] = 0.6
    validation: Annotated[float, Field(gt=0, lt=1)] = 0.2
    test: Annotated[float, Field(gt=0, lt=1)] = 0.2
    known_questions: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """With ``data.questions: held_out``, the share of the test rows that answer questions of train rows, so that the
    report can compare known and unknown questions."""
    seed: int = 0

    @model_validator(mode="after")
    def _sums_to_one(self) -> Self:
        if abs(self.train + self.validation + self.test - 1) > 1e-9:
            raise ValueError(
                f"train, validation and test sum to {self.train + self.validation + self.test:g}; they must sum to 1"
            )
        return self


class DataSection(Section):
    """Data files; paths are relative to the project file."""

    human: File
    columns: Mapping[str, Annotated[str, Field(min_length=1)]] = {}
    """The names of columns as they are in the files: ``response: "2. Explain…"``. A name may be shortened by an
    ellipsis. Columns that are not listed have the names of the keys; files without these columns are read by the keys,
    too, except `human`."""
    ids: Literal["column", "row_numbers"] = "column"
    """``row_numbers``: the id of a row is the name of its file and its number, as a spreadsheet shows it."""
    html: Literal["keep", "remove"] = "keep"
    """``remove``: texts are HTML, and are read as the text that it shows (`edgedistill-serve grade --html` does the
    same)."""
    label_spelling: Literal["exact", "folded"] = "exact"
    """``folded``: labels that differ only in case, white space, Unicode composition or typography are one label, and so
    are ``1`` and ``1.0``."""
    header_row: Count = 1
    """The row with the names of the columns, in CSV, TSV and xlsx files."""
    first_row: Count | None = None
    """The first row of responses. Default: the one after the header; more header rows are recognised by their cells."""
    sheet: Annotated[str, Field(min_length=1)] | Mapping[SheetOf, Annotated[str, Field(min_length=1)]] | None = None
    """The sheet of xlsx files: its name, or one for each file, such as ``{human: Coded, unlabelled: Answers}``.
    Default: the first sheet that has the needed columns."""
    unlabelled: File | None = None
    reviewed: File | None = None
    """Human codes from review, written by `edgedistill review merge`. They are train rows, or validation rows if
    `edgedistill review next` drew them as such; never test rows."""
    group_by: str | None = None
    questions: Literal["known", "held_out"] = "known"
    """``held_out``: validation rows, and test rows, answer questions that no train row answers, so that epoch,
    calibration and decision rule are chosen, and agreement is measured, for new questions."""
    question_by: str | None = None
    """The column that names each row's question. Default: rows with the same question, reference answers and rubric
    have the same question."""
    split: SplitSection = SplitSection()
    max_characters: Count = 10_000
    """Longer responses are set aside: they are rarely answers, and the teacher would bill every token."""

    @model_validator(mode="after")
    def _columns_differ(self) -> Self:
        if unknown := [key for key in self.columns if key not in COLUMN_KEYS]:
            raise ValueError(f"unknown key columns.{unknown[0]}; keys here: {', '.join(COLUMN_KEYS)}")
        if self.ids == "row_numbers" and "id" in self.columns:
            raise ValueError("columns.id and ids: row_numbers exclude each other; remove one of them")
        try:
            check_distinct(self.columns, "columns")
            self.header.check("first_row")
        except DataError as error:
            raise ValueError(str(error)) from None
        return self

    @property
    def header(self) -> HeaderRows:
        """Where the header of the file `human` is."""
        return self.header_of("human")

    def header_of(self, file: SheetOf) -> HeaderRows:
        """Return where the header of a file is, and its sheet."""
        sheet = self.sheet if self.sheet is None or isinstance(self.sheet, str) else self.sheet.get(file)
        return HeaderRows(self.header_row, self.first_row, sheet)

    @model_validator(mode="after")
    def _known_questions_are_of_held_out_ones(self) -> Self:
        if self.questions != "held_out" and "known_questions" in self.split.model_fields_set:
            raise ValueError("split.known_questions needs data.questions: held_out")
        if self.question_by in ("id", "label", "split", "response"):
            raise ValueError(f"question_by: {self.question_by} is not a column of questions")
        return self
