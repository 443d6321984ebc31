"""What each column of a table is for: a proposal of `data.columns`, with everything that was assumed."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from edgedistill.data.given_tables import fold_code
from edgedistill.data.spreadsheet_cells import DATES, FORMULA_ERRORS, is_date, is_spreadsheet_error
from edgedistill.data.tables import is_empty_row
from edgedistill.errors import DataError
from edgedistill.new_project.exports import Export, recognise_export
from edgedistill.new_project.label_counts import (
    LabelCounts,
    count_labels,
    describe_labels,
)
from edgedistill.project.data import COLUMN_KEYS
from edgedistill_serve.grading.column_names import (
    check_distinct,
    column_letters,
    describe_column,
    find_column,
    fold_name,
)
from edgedistill_serve.grading.detected_table import DetectedTable
from edgedistill_serve.task.html_text import has_html, html_to_text
from edgedistill_serve.task.task import INPUTS, LABEL_SEPARATOR, Kind, list_some, quote_label
from edgedistill_serve.task.visible_text import is_blank


def _names(listed: str) -> frozenset[str]:
    return frozenset(listed.split("|"))


_CODE_WORDS = _names(
    "label|labels|code|codes|coded|coding|kode|codierung|kodierung|category|kategorie|categor\u00eda|cat\u00e9gorie|"
    "annotation|rater|coder|codificaci\u00f3n|codage|urteil"
)
_SCORE_WORDS = _names("score|scores|points|punkte|rating|grade|mark|marks|level|stufe|bewertung|note|puntos")
_RESPONSE_NAMES = _names("response|responses|answer|text|antwort|respuesta|r\u00e9ponse|resposta|risposta|essay")
_QUESTION_NAMES = _names("question|question text|prompt|frage|fragetext|aufgabe|pregunta|\u00e9nonc\u00e9|item text")
_REFERENCE_NAMES = _names(
    "reference_answer|reference answer|reference|right answer|model answer|sample answer|correct answer|"
    "musterl\u00f6sung|musterantwort|respuesta correcta"
)
_ID_NAMES = _names("id|response id|response_id|responseid|row id|row_id|uuid|answer id|answer_id|nr|nr.|no.")
_LEARNER_NAMES = _names(
    "student|student id|student_id|learner|learner id|learner_id|pupil|email|email address|username|user|user id|"
    "user_id|participant|participant id|participant_id|pseudonym|sch\u00fcler|teilnehmer|matrikelnummer"
)
_FINAL_WORDS = _names(
    "final|finale|consensus|agreed|adjudicated|gold|resolved|endg\u00fcltig|konsens|abgestimmt|consenso|consensuado|"
    "definitivo|d\u00e9finitif"
)
_MACHINE_WORDS = _names("llm|gpt|chatgpt|model|machine|ai|ki|ia|claude|gemini|predicted|prediction|vorhersage")
_WORD = re.compile(r"[^\W_]+")
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
_MOST_LABELS = 30
_LISTED = 12
_LEAST_OF_A_PART = 3
"""Rows of a column below which it is no part of the responses."""


@dataclass(frozen=True)
class _Column:
    """A column of the table, and what its cells look like."""

    name: str
    place: int
    cells: tuple[str, ...]
    raw: tuple[object, ...] = field(repr=False, default=())

    @cached_property
    def filled(self) -> list[str]:
        return [cell.strip() for cell in self.cells if not is_blank(cell)]

    @cached_property
    def distinct(self) -> int:
        return len(set(self.filled))

    @cached_property
    def words(self) -> float:
        """The mean number of words of a cell, of tags and markup none."""
        return sum(len(_WORD.findall(html_to_text(cell))) for cell in self.filled) / max(1, len(self.filled))

    @cached_property
    def dates(self) -> list[int]:
        """The places of cells that are dates."""
        return [
            place
            for place, (cell, raw) in enumerate(zip(self.cells, self.raw, strict=True))
            if is_date(raw) or is_date(cell)
        ]

    @property
    def is_free_text(self) -> bool:
        """Whether the cells look like responses: several words, and mostly different ones."""
        enough = self.words >= 2 and self.distinct > 0.3 * len(self.filled)
        emails = sum(_EMAIL.fullmatch(cell) is not None for cell in self.filled)
        return bool(self.filled) and enough and emails < len(self.filled) / 2 and len(self.dates) < len(self.filled) / 2

    @property
    def is_categorical(self) -> bool:
        """Whether the cells look like codes: few different ones, short, and most of them more than once."""
        most = min(_MOST_LABELS, max(2, len(self.filled) // 2))
        short = sum(map(len, self.filled)) <= 40 * len(self.filled)
        return (
            self.distinct >= 2 and len(count_labels(self.filled).counts) <= most and short and not self.is_date_column
        )

    @property
    def is_date_column(self) -> bool:
        return bool(self.filled) and len(self.dates) == len(self.filled)

    def words_of_name(self) -> set[str]:
        return set(_WORD.findall(fold_name(self.name)))


@dataclass(frozen=True, slots=True)
class Proposal:
    """What the columns of a table are for.

    Attributes:
        export: The tool that wrote it.
        columns: By key, such as ``response``, its column.
        inputs: Of the task.
        row_ids: Whether ids are row numbers.
        coders: Columns with the codes of single coders, besides or with that of ``label``.
        group_by: The column of learners, if a learner has several rows.
        labels: The labels; None if no column has codes.
        html_rows: Number of rows with HTML.
        question: The text of the question, if all rows answer the same one; or empty.
        reference: Its right answer, if the table has one; or empty.
        notes: What was assumed, a sentence each.
        folds_labels: Whether the label or a coder spells a label in several ways.
    """

    export: Export
    columns: Mapping[str, str]
    inputs: tuple[str, ...]
    row_ids: bool
    coders: tuple[str, ...]
    group_by: str | None
    labels: LabelCounts | None
    html_rows: int
    question: str
    reference: str
    notes: tuple[str, ...]
    folds_labels: bool = False


class _Table:
    """The columns of a table, those that nothing is known about first."""

    def __init__(self, table: DetectedTable) -> None:
        self.name, self.names, self.where, self.check = table.name, table.columns, table.where, table.check
        self.faults, self.header_row = table.faults, table.header_row
        rows = [row for row in table.rows if not is_empty_row(row)]  # set aside when the table is read
        self.columns = {
            name: _Column(
                name,
                place,
                tuple(row.values.get(name, "") for row in rows),
                tuple(row.raw.get(name) for row in rows),
            )
            for place, name in enumerate(table.columns)
        }
        self.rows = [row.row for row in rows]
        self.texts = dict(zip(table.columns, table.question_texts, strict=False))
        self.export = recognise_export(table.columns, table.question_texts)

    def free(self, used: Sequence[str] = ()) -> list[_Column]:
        return [each for name, each in self.columns.items() if name not in self.export.own and name not in used]

    def show(self, name: str) -> str:
        return describe_column(name, self.names)

    def words_of(self, column: _Column) -> set[str]:
        """The words of a column's name, and of the question text that Qualtrics has below it."""
        return column.words_of_name() | set(_WORD.findall(fold_name(self.texts.get(column.name, ""))))


def propose(
    table: DetectedTable,
    given: Mapping[str, str] | None = None,
    *,
    kind: Kind | None = None,
    uncoded: bool = False,
    coders: Sequence[str] = (),
) -> Proposal:
    """Propose what the columns of a table are for.

    Args:
        table: The table.
        given: By key, the column that a person names; it is not guessed.
        kind: Of the task; None to find it by the labels.
        uncoded: Whether no column has codes.
        coders: Columns of coders that are known; none to find them.

    Raises:
        DataError: No column looks like responses, several may be the codes, or the codes have dates; the message says
            how to name the column.
    """
    known = _Table(table)
    if not table.rows:
        raise DataError("has no rows", where=table.where)
    named = _find_named(known, given or {})
    response = named.get("response") or _find_response(known, list(named.values()))
    notes = [f"{known.name} is an export of {known.export.tool}"] if known.export.tool else []
    label = None if uncoded else named.get("label") or _find_label(known, response, list(named.values()))
    others = [
        each.name
        for each in known.free([response, *named.values()])
        if each.name != label and each.is_free_text and each.words >= 3
    ]
    others = [
        name for name in others if name not in {*known.export.questions.values(), *known.export.right_answers.values()}
    ]
    if "response" not in named and others:
        notes.append(
            f"the column {known.show(response)} is read as the response; other columns of texts: "
            f'{_listed(known, others)}; --column response="..." takes another'
        )
    notes += _describe_parts(known, response, others)
    columns: dict[str, str] = {"response": response}
    context, question, reference = _find_context(known, response, label, named)
    columns |= context
    ids, of_ids = _find_ids(known, named)
    notes += of_ids
    columns |= ids
    labels: LabelCounts | None = None
    coders, otherwise = tuple(coders), dict[str, str]()
    if label is not None:
        columns["label"] = label
        _refuse_dates(known, known.columns[label])
        labels = count_labels(known.columns[label].cells, kind)
        if len(labels.counts) < 2:
            only = next(iter(labels.counts), None)
            raise DataError(
                f"the column {known.show(label)} has {f'the code {quote_label(only)} alone' if only else 'no code'}",
                where=known.where,
                hint='A task needs two labels. Name another column: --column label="NAME"; or say --uncoded.',
            )
        coders = coders or _find_coders(known, label, [*columns.values()])
        notes += describe_labels(labels)
        notes += _describe_coders(known, coders, label, is_given="label" in named)
        otherwise = _spelled_otherwise(known, coders, labels)
        notes += [f"{column} spells {how}: it is read as the label" for column, how in otherwise.items()]
    if "split" in known.names or "split" in named:
        columns["split"] = named.get("split", "split")
    group, of_group = _find_group(known, list(columns.values()))
    notes += of_group
    ordered = {key: columns[key] for key in COLUMN_KEYS if key in columns}
    for column in (*ordered.values(), *coders, *([group] if group else [])):
        _require_name(known, column)
        known.check(column)
    html = sum(map(has_html, known.columns[response].cells))
    inputs = tuple(name for name in INPUTS if name in ordered)
    return Proposal(
        known.export,
        ordered,
        inputs,
        "id" not in ordered,
        coders,
        group,
        labels,
        html,
        question,
        reference,
        tuple(notes),
        bool(otherwise) or (labels is not None and labels.is_folded),
    )


def find_rows(table: DetectedTable, given: Mapping[str, str], *, uncoded: bool = False) -> tuple[bool, int]:
    """Return whether a table has codes, and how many responses; no responses if it has not the columns that are given.

    Args:
        table: The table, such as a sheet of a workbook.
        given: By key, the column that a person names.
        uncoded: Whether no column has codes.
    """
    known = _Table(table)
    try:
        named = _find_named(known, given)
        response = named.get("response") or _find_response(known, list(named.values()))
    except DataError:
        return False, 0
    try:
        label = None if uncoded else named.get("label") or _find_label(known, response, list(named.values()))
    except DataError:  # several columns may be the codes
        label = response
    return label is not None, len(known.columns[response].filled)


def _find_named(table: _Table, given: Mapping[str, str]) -> dict[str, str]:
    """Return, by key, the column that a person names."""
    named = {
        key: find_column(name, table.names, where=table.where, key=f"--column {key}", letters=True)
        for key, name in given.items()
    }
    check_distinct(named, f"{table.where}, --column")
    return named


def _require_name(table: _Table, column: str) -> None:
    """Raise a `DataError` if a column has no name, which a project file could not refer to."""
    if not column.strip():
        letters, row = column_letters(table.names.index(column)), table.header_row
        raise DataError(
            f"the column {letters} has no name",
            where=f"{table.where}, row {row}",
            hint=f"Write a name into the cell {letters}{row}. If the names are in another row: --header-row.",
        )


def _describe_parts(table: _Table, response: str, others: Sequence[str]) -> Iterator[str]:
    """Yield a note on columns of texts that are never filled together with the responses: one question in two wordings.

    A form whose question was changed has the answers before and after in two columns.
    """
    first = table.columns[response]
    parts = []
    for other in map(table.columns.__getitem__, others):
        both = [not is_blank(one) and not is_blank(two) for one, two in zip(first.cells, other.cells, strict=True)]
        if not any(both) and min(len(first.filled), len(other.filled)) >= _LEAST_OF_A_PART:
            parts.append(other)
    if parts:
        rows = sum(len(each.filled) for each in parts)
        yield (
            f"{table.show(response)} and {_listed(table, [each.name for each in parts])} are never both filled, as if "
            f"the text of the question had changed. {rows} responses are not read: if the question is the same, copy "
            "all of them into one column"
        )


def _find_response(table: _Table, used: Sequence[str]) -> str:
    _check_likely(table, used, lambda column: fold_name(column.name) in _RESPONSE_NAMES)
    candidates = [each for each in table.free(used) if each.is_free_text]
    known = [each for each in candidates if each.name in table.export.responses]
    if not known and len(candidates) > 1:
        known = [each for each in candidates if fold_name(each.name) in _RESPONSE_NAMES]
    names = _QUESTION_NAMES | _REFERENCE_NAMES
    rest = [each for each in candidates if fold_name(each.name) not in names]
    found = known or rest
    if found:
        return max(found, key=lambda each: (each.words * (each.distinct / len(each.filled)), -each.place)).name
    _check_likely(table, used, lambda _: True)
    raise DataError(
        "no column looks like responses, whose cells have several words; the columns are "
        f"{_listed(table, list(table.names))}",
        where=table.where,
        hint='Say which: --column response="NAME". If these are not the names, say which row has them: --header-row.',
    )


def _check_likely(table: _Table, used: Sequence[str], is_likely: Callable[[_Column], bool], more: str = "") -> None:
    """Raise the error about cells that cannot be used, if a column that may be needed has them."""
    for name, error in table.faults.items():
        if name not in used and name not in table.export.own and is_likely(table.columns[name]):
            raise DataError(error.what, where=error.where, hint=f"{error.hint}{more}")


def _find_label(table: _Table, response: str, used: Sequence[str]) -> str | None:
    """Return the column of codes: the final ones, or one whose name says so, the next right of the response first."""
    free = [each for each in table.free([response, *used]) if each.filled]
    _check_likely(table, [response, *used], lambda each: bool(_CODE_WORDS & table.words_of(each)))
    final = [each for each in free if _FINAL_WORDS & table.words_of(each) and each.is_categorical]
    if len(final) == 1:
        return final[0].name
    for words in (_CODE_WORDS, _SCORE_WORDS):
        found = [
            each
            for each in free
            if words & table.words_of(each) and (each.is_categorical or each.dates) and not each.is_free_text
        ]
        if found:
            place = table.columns[response].place
            return min(found, key=lambda each: (each.place < place, each.place)).name
    found = [each for each in free if each.is_categorical and fold_name(each.name) not in _LEARNER_NAMES | _ID_NAMES]
    found = [each for each in found if len(count_labels(each.filled).counts) <= 10]
    if len(found) > 1:
        raise DataError(
            f"{len(found)} columns can be the human codes: {_listed(table, [each.name for each in found])}",
            where=table.where,
            hint='Say which: --column label="NAME"; others with the same labels are then read as those of coders. If '
            "none of them is: --uncoded.",
        )
    if not found:
        _check_likely(table, [response, *used], lambda _: True, " If it has no codes: --uncoded.")
    return found[0].name if found else None


def _find_coders(table: _Table, label: str, used: Sequence[str]) -> tuple[str, ...]:
    """Return the columns of coders: with labels that the label's column has, too, two or more, and no others.

    A column that only has the same first word as the label's may have one of them. Labels of an LLM are no coder's.
    """
    first = table.columns[label]
    labels = set(map(fold_code, count_labels(first.cells).counts))
    word = next(iter(_WORD.findall(fold_name(label))), "")
    found = []
    for each in table.free(used):
        codes = set(map(fold_code, count_labels(each.cells).counts))
        named = word in _CODE_WORDS | _SCORE_WORDS and next(iter(_WORD.findall(fold_name(each.name))), None) == word
        if codes and codes <= labels and (named or len(codes) > 1) and not _MACHINE_WORDS & table.words_of(each):
            found.append(each.name)
    is_final = bool(_FINAL_WORDS & table.words_of(first))
    return (label, *found) if len(found) > 1 and not is_final else tuple(found)


def _describe_coders(table: _Table, coders: Sequence[str], label: str, *, is_given: bool) -> Iterator[str]:
    if not coders:
        return
    yield f"{_listed(table, coders)}: codes of coders with the same labels; evaluation.coders compares them"
    if not is_given and not _FINAL_WORDS & table.words_of(table.columns[label]):
        yield (
            f"no column is called final or the like: {table.show(label)} is the label, with which student and teacher "
            'are compared; --column label="NAME" takes another'
        )


def _spelled_otherwise(table: _Table, coders: Sequence[str], labels: LabelCounts) -> dict[str, str]:
    """Return, by column of a coder that spells a label otherwise than the codebook, an example."""
    folded = {fold_code(label): label for label in labels.counts}
    found = {}
    for name in coders:
        cells = table.columns[name].filled
        codes = [
            part.strip()
            for cell in cells
            for part in (cell.split(LABEL_SEPARATOR) if labels.kind == "multilabel" else [cell])
        ]
        other = next((code for code in codes if folded.get(fold_code(code), code) != code), None)
        if other is not None:
            found[table.show(name)] = f"{quote_label(folded[fold_code(other)])} as {quote_label(other)}"
    return found


def _find_context(
    table: _Table, response: str, label: str | None, named: Mapping[str, str]
) -> tuple[dict[str, str], str, str]:
    """Return the columns of question and reference answer, or their text where all rows have the same."""
    columns: dict[str, str] = {}
    single = {"question": "", "reference_answer": ""}
    tools = {
        "question": table.export.questions.get(response),
        "reference_answer": table.export.right_answers.get(response),
    }
    for key, names in (("question", _QUESTION_NAMES), ("reference_answer", _REFERENCE_NAMES)):
        found = named.get(key) or tools[key]
        if found is None:
            others = [
                each.name
                for each in table.free([response, *([label] if label else [])])
                if fold_name(each.name) in names
            ]
            found = others[0] if others else None
        if found is None:
            continue
        column = table.columns[found]
        if key in named or column.distinct > 1:
            columns[key] = found
        elif column.filled:
            single[key] = html_to_text(column.filled[0])
    if "rubric" in named:
        columns["rubric"] = named["rubric"]
    question = single["question"]
    if not question and "question" not in columns:
        text = table.texts.get(response) or response
        question = re.sub(r"^[0-9]{2,}: ", "", text).strip() if len(_WORD.findall(text)) >= 3 else ""
    return columns, question, single["reference_answer"]


def _find_ids(table: _Table, named: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    if "id" in named:
        return {"id": named["id"]}, []
    candidates = [table.export.id] if table.export.id else []
    if not table.export.tool:
        candidates += [name for name in table.names if fold_name(name) in _ID_NAMES]
    for name in candidates:
        column = table.columns[name]
        if len(column.filled) == len(column.cells) == column.distinct:
            return {"id": name}, []
        why = "has empty cells" if len(column.filled) < len(column.cells) else "has values that repeat"
        return {}, [f"the column {table.show(name)} {why}, so that row numbers are the ids"]
    return {}, ["no column has ids: row numbers are the ids, so add new rows at the end of the table only"]


def _find_group(table: _Table, used: Sequence[str]) -> tuple[str | None, list[str]]:
    learner = table.export.learner
    if learner is None and not table.export.tool:
        learner = next((name for name in table.names if fold_name(name) in _LEARNER_NAMES and name not in used), None)
    if learner is None:
        return None, []
    column = table.columns[learner]
    if column.distinct == len(column.filled) or column.distinct < 3:
        return None, []
    return learner, [
        f"{column.distinct} learners ({table.show(learner)}) have {len(column.filled)} rows: none is in two splits"
    ]


def _refuse_dates(table: _Table, column: _Column) -> None:
    if column.dates and not column.is_date_column:
        rows = ", ".join(str(table.rows[place]) for place in column.dates[:5])
        raise DataError(
            f"{len(column.dates)} cells of the column {table.show(column.name)} are dates (row {rows})",
            where=table.where,
            hint=DATES,
        )
    if column.is_date_column:
        raise DataError(
            f"the column {table.show(column.name)} has dates and no codes",
            where=table.where,
            hint='Name the column of codes: --column label="NAME". Spreadsheets turn entries such as 1-2 into dates.',
        )
    if wrong := [place for place, cell in enumerate(column.cells) if is_spreadsheet_error(cell)]:
        rows = ", ".join(str(table.rows[place]) for place in wrong[:5])
        raise DataError(
            f"{len(wrong)} cells of the column {table.show(column.name)} are errors of formulas, such as "
            f"{column.cells[wrong[0]].strip()} (row {rows})",
            where=table.where,
            hint=FORMULA_ERRORS,
        )


def _listed(table: _Table, names: Sequence[str]) -> str:
    return list_some(map(table.show, names), _LISTED)


def guess_header_row(rows: Sequence[Sequence[str]]) -> int:
    """Return which of the first rows has the names of the columns, from 1.

    It is the first one, unless two or more of its columns, and a third of all, have no name, and a later row has names
    for all of them: texts that are neither numbers nor dates.

    Args:
        rows: The first rows, header rows included.
    """
    width = max((_width(row) for row in rows), default=0)
    for number, row in enumerate(rows, start=1):
        missing = width - sum(bool(cell.strip()) for cell in row[:width])
        if missing < 2 or 3 * missing < width:
            return number if number == 1 or _is_header(row[:width]) else 1
    return 1


def _width(row: Sequence[str]) -> int:
    return max((place for place, cell in enumerate(row, start=1) if cell.strip()), default=0)


def _is_header(row: Sequence[str]) -> bool:
    return all(
        cell.strip() and not re.fullmatch(r"[-+0-9.,:% ]+", cell.strip()) and not is_date(cell)
        for cell in row
        if cell.strip()
    )


def preview_rows(table: DetectedTable, proposal: Proposal) -> Iterator[dict[str, str]]:
    """Yield the rows that have a response, as they would be read: by key, the text of the cell."""
    for row in table.rows:
        values = {key: row.values.get(name, "") for key, name in proposal.columns.items()}
        if is_blank(values["response"]):
            continue
        if proposal.html_rows:
            values["response"] = html_to_text(values["response"])
        yield {"row": str(row.row), **values}
