"""Human codes of the audit slice: κ now against κ at release, and the promise tested again."""

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from edgedistill.agreement import agreement
from edgedistill.data.given_tables import GivenTable, ReadingOptions, read_given_table, spelling_hint
from edgedistill.data.types import CODE_COLUMN, canonical_code
from edgedistill.errors import DataError
from edgedistill.monitoring.results import CodedNow, Interval, PromiseNow
from edgedistill.monitoring.sequential import always_valid_limits, log_evidence_above
from edgedistill_serve.bundle.guarantee import Guarantee
from edgedistill_serve.bundle.manifest import Manifest
from edgedistill_serve.grading.table_reader import TableRow
from edgedistill_serve.journal.records import AuditedResponse
from edgedistill_serve.task.task import Task, list_some, quote_columns, quote_label

if TYPE_CHECKING:  # pandas is imported only where a DataFrame is given
    from pandas import DataFrame

Outcome: TypeAlias = Literal["certified again", "withdrawn", "not enough codes"]
_FEWEST = 10
"""Fewer codes have no κ."""
_MOST = 100_000
"""If more codes than this would be needed, no number is stated."""


@dataclass(frozen=True, slots=True)
class Code:
    """A human code of a response.

    Attributes:
        id: Of the response.
        label: In canonical form.
        inclusion_probability: That of the sheet, if it differs from that of the journal.
    """

    id: str
    label: str
    inclusion_probability: float | None = None


@dataclass(frozen=True, slots=True)
class HumanCodes:
    """A table of human codes.

    Attributes:
        name: For messages.
        codes: By id.
        notes: What was assumed when it was read.
    """

    name: str
    codes: Mapping[str, Code]
    notes: tuple[str, ...] = ()


def read_coded_file(file: Path, reading: ReadingOptions, task: Task) -> GivenTable:
    """Read the file of a table of human codes, with the keys ``id`` and ``human_code``.

    Raises:
        DataError: It cannot be read, or a column is missing.
    """
    return read_given_table(
        file,
        reading,
        needed=("id", CODE_COLUMN),
        optional=("inclusion_probability",),
        codes=(CODE_COLUMN,),
        task=task,
    ).without_empty_rows()


def read_coded(
    coded: "DataFrame | GivenTable | Path | str", task: Task, *, id_column: str, code_column: str
) -> HumanCodes:
    """Read human codes.

    Args:
        coded: A table file as people have it, also one that is read already, or a DataFrame.
        task: Its labels.
        id_column: Column of ids.
        code_column: Column of codes; empty in rows that nobody coded.

    Raises:
        DataError: A column is missing, an id is empty or repeated, a label is not one of the bundle, or an inclusion
            probability is not in (0, 1].
    """
    table = _given_table(coded, task, id_column, code_column)
    name = table.name
    codes: dict[str, Code] = {}
    unknown: dict[str, int] = {}
    for line, ident in zip(table.rows, _ids(name, table.rows), strict=True):
        text = line.values.get(CODE_COLUMN, "").strip()
        if not text:
            continue
        try:
            label = canonical_code(text, task)
        except DataError:
            unknown.setdefault(text, line.row)
            continue
        probability = line.values.get("inclusion_probability", "").strip()
        codes[ident] = Code(ident, label, _probability(probability, f"{name}, row {line.row}"))
    if unknown:
        named = list_some(f"{quote_label(label)} (row {row})" for label, row in unknown.items())
        raise DataError(
            f"labels that the bundle does not have: {named}",
            where=name,
            hint=f"Its labels are {', '.join(task.names)}; with another codebook, train another bundle. The codes are "
            f"in the column {table.describe(CODE_COLUMN)}.{spelling_hint(unknown, task)}",
        )
    return HumanCodes(name, codes, table.notes)


def _given_table(
    coded: "DataFrame | GivenTable | Path | str", task: Task, id_column: str, code_column: str
) -> GivenTable:
    """Return a table with the keys ``id`` and ``human_code``."""
    if isinstance(coded, GivenTable):
        return coded
    columns = {"id": id_column, CODE_COLUMN: code_column}
    if isinstance(coded, str | Path):
        named = {key: name for key, name in columns.items() if key != name}
        return read_coded_file(Path(coded), ReadingOptions(named), task)
    where, names = "the codes", [*map(str, coded.columns)]
    if coded.empty:
        raise DataError("has no rows", where=where)
    if missing := next((name for name in columns.values() if name not in names), None):
        raise DataError(
            f"there is no column {missing!r}; the columns are {quote_columns(names)}",
            where=where,
            hint="Name it with id_column or code_column.",
        )
    records = coded.astype(object).where(coded.notna(), "").to_dict("records")
    cells = [{str(name): str(value) for name, value in record.items()} for record in records]
    keyed = [{**each, **{key: each[name] for key, name in columns.items()}} for each in cells]
    rows = tuple(TableRow(row, each, {}) for row, each in enumerate(keyed, start=1))
    return GivenTable(Path(where), tuple(names), columns, rows, ())


def _ids(name: str, lines: Sequence[TableRow]) -> list[str]:
    seen: dict[str, int] = {}
    for line in lines:
        ident = line.values.get("id", "").strip()
        where = f"{name}, row {line.row}"
        if not ident:
            raise DataError("the id is empty", where=where, hint="Give every row the id of the platform.")
        if ident in seen:
            raise DataError(f"the id is already in row {seen[ident]}", where=where, hint="Keep one of the two rows.")
        seen[ident] = line.row
    return list(seen)


def _probability(text: str, where: str) -> float | None:
    if not text:
        return None
    try:
        number = float(text.replace(",", "."))  # a spreadsheet may have put a decimal comma
    except ValueError:
        number = math.nan
    if not 0 < number <= 1:
        raise DataError(
            "the inclusion probability is not a number above 0 and at most 1", where=where, hint="Leave it as drawn."
        )
    return number


@dataclass(frozen=True, slots=True)
class _Pair:
    """A drawn response with its human code."""

    audited: AuditedResponse
    code: str
    probability: float

    @property
    def wrong(self) -> bool:
        return self.audited.label != self.code


def judge_codes(
    table: HumanCodes, audited: Mapping[str, AuditedResponse], manifest: Manifest, precisions: Iterable[str]
) -> CodedNow:
    """Compare human codes with the labels of the drawn responses.

    Args:
        table: The codes.
        audited: The drawn responses by id.
        manifest: The bundle.
        precisions: The graphs that were in use.

    Raises:
        DataError: No code is of a drawn response.
    """
    pairs = [
        _Pair(audited[code.id], code.label, code.inclusion_probability or audited[code.id].inclusion_probability)
        for code in table.codes.values()
        if code.id in audited
    ]
    if not pairs:
        raise DataError(
            f"none of its {len(table.codes)} coded ids is in the audit slice of the journal, which has {len(audited)}",
            where=table.name,
            hint="Have people code the sheet of `monitor --sheet`; other rows were not drawn by chance.",
        )
    notes = []
    if strange := len(table.codes) - len(pairs):
        notes.append(
            f"{strange} coded ids are not in the audit slice and were not used: only rows drawn by chance speak for "
            "the others"
        )
    if missing := len(audited) - len(pairs):
        notes.append(f"{missing} of {len(audited)} drawn responses have no code")
    used = _equally_likely(pairs)
    if len(used) < len(pairs):
        notes.append(
            f"the inclusion probabilities differ: {len(used)} of {len(pairs)} codes count, drawn so that every "
            "response had the same chance"
        )
    task = manifest.task
    kappa, name = _kappa(used, task)
    release = _kappa_at_release(manifest)
    difference = _difference(kappa, release)
    accepted = [pair for pair in used if pair.audited.decision == "accept"]
    promises, promise_notes = _promises(manifest.guarantee, accepted, len(used), precisions)
    outcome: Literal["lower", "higher", "not shown"] = "not shown"
    if difference is not None and difference.high < 0:
        outcome = "lower"
    elif difference is not None and difference.low > 0:
        outcome = "higher"
    if kappa is None:
        notes.append(f"κ needs {_FEWEST} codes with two labels, and there are {len(used)} codes")
    return CodedNow(
        drawn=len(audited),
        coded=len(pairs),
        used=len(used),
        kappa=kappa,
        kappa_name=name,
        kappa_at_release=release,
        difference=difference,
        kappa_of_accepted=_kappa(accepted, task)[0],
        outcome=outcome,
        promises=tuple(promises),
        notes=(*notes, *promise_notes),
    )


def _equally_likely(pairs: Sequence[_Pair]) -> list[_Pair]:
    """Keep each response with the smallest inclusion probability divided by its own; the same ones at each call."""
    lowest = min(pair.probability for pair in pairs)

    def chance(pair: _Pair) -> float:
        return int.from_bytes(hashlib.sha256(f"monitor {pair.audited.id}".encode()).digest()[:8]) / 2**64

    return [pair for pair in pairs if chance(pair) < lowest / pair.probability]


def _kappa(pairs: Sequence[_Pair], task: Task) -> tuple[Interval | None, str]:
    if len(pairs) < _FEWEST:
        return None, ""
    found = agreement([pair.code for pair in pairs], [pair.audited.label for pair in pairs], task)
    kappa = found.kappa
    return None if kappa is None else Interval(kappa.value, kappa.low, kappa.high), found.kappa_name


def _kappa_at_release(manifest: Manifest) -> Interval | None:
    found = manifest.metrics.get("student")
    kappa = found.get("kappa") if isinstance(found, dict) else None
    try:
        return None if kappa is None else Interval(*(float(kappa[name]) for name in ("value", "low", "high")))
    except (KeyError, TypeError, ValueError):
        return None


def _difference(now: Interval | None, then: Interval | None) -> Interval | None:
    """Return now - then for independent samples, with the limits of Zou & Donner (2008, doi:10.1002/sim.3095)."""
    if now is None or then is None:
        return None
    value = now.value - then.value
    down = math.hypot(now.value - now.low, then.high - then.value)
    up = math.hypot(now.high - now.value, then.value - then.low)
    return Interval(value, value - down, value + up)


def _promises(
    guarantee: Guarantee | None, accepted: Sequence[_Pair], coded: int, precisions: Iterable[str]
) -> tuple[list[PromiseNow], list[str]]:
    if guarantee is None:
        return [], []
    notes = []
    if other := sorted(set(precisions) - set(guarantee.graphs)):
        notes.append(f"some responses were scored by the graph {other[0]}, for which nothing is promised")
    if guarantee.group_column:
        notes.append(
            f"the promise for each group of {guarantee.group_column!r} cannot be tested: the journal has no groups"
        )
    parts = {"all": accepted}
    for label in guarantee.labels:
        parts[label] = [pair for pair in accepted if pair.audited.label == label]
    return [_promise(of, pairs, guarantee, len(parts), coded) for of, pairs in parts.items()], notes


def _promise(of: str, pairs: Sequence[_Pair], guarantee: Guarantee, parts: int, coded: int) -> PromiseNow:
    """Test a part of the promise, at any time.

    The promise is certified again if the evidence that the share of wrong codes is below the promised one reaches 1 /
    (1 - confidence). It is withdrawn if the evidence that it is above reaches that, times the number of parts.
    """
    rows, wrong = len(pairs), sum(pair.wrong for pair in pairs)
    share, level = guarantee.share, 1 - guarantee.confidence
    outcome = _outcome(rows, wrong, share, level, parts)
    limits = always_valid_limits(wrong, rows, level) if rows else None
    more = None
    if outcome == "not enough codes" and rows:
        more = _more_codes(rows, wrong, share, level, parts, coded)
    return PromiseNow(
        of=of,
        promised=share,
        accepted=rows,
        wrong=wrong,
        share=limits and Interval(wrong / rows, *limits),
        outcome=outcome,
        more=more,
    )


def _outcome(rows: float, wrong: float, share: float, level: float, parts: int) -> Outcome:
    number, errors = np.array(float(rows)), np.array(float(wrong))
    if log_evidence_above(number - errors, number, 1 - share) >= -math.log(level):
        return "certified again"
    if log_evidence_above(errors, number, share) >= -math.log(level / parts):
        return "withdrawn"
    return "not enough codes"


def _more_codes(rows: int, wrong: int, share: float, level: float, parts: int, coded: int) -> int | None:
    """Return how many more codes would decide if errors went on at the rate of (wrong + 1) / (rows + 2)."""
    rate = (wrong + 1) / (rows + 2)

    def decides(more: int) -> bool:
        return _outcome(rows + more, wrong + rate * more, share, level, parts) != "not enough codes"

    high = 1
    while not decides(high):
        high *= 2
        if high > _MOST:
            return None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if decides(middle) else (middle, high)
    return math.ceil(high * max(coded, rows) / rows)
