"""`monitor`: reads a journal, and compares it with the reference of the bundle."""

import datetime as dt
import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from edgedistill.data.given_tables import GivenTable, ReadingOptions, read_given_table
from edgedistill.data.types import CODE_COLUMN
from edgedistill.errors import ArgumentError, DataError
from edgedistill.monitoring.changes import Rate, find_changes, watch_items
from edgedistill.monitoring.codes import HumanCodes, judge_codes, read_coded
from edgedistill.monitoring.results import Alarm, CodedNow, Interval, MonitorReport, WatchedItem, WeekFigures
from edgedistill_serve import Bundle
from edgedistill_serve.bundle.reference import Reference, read_reference
from edgedistill_serve.bundle.response_counts import CUTS, ResponseCounts
from edgedistill_serve.grading.table_reader import TableRow
from edgedistill_serve.grading.table_writer import table_writer
from edgedistill_serve.journal.reading import JournalContent, read_journal
from edgedistill_serve.journal.records import AuditedResponse
from edgedistill_serve.task.task import Task, split_labels

if TYPE_CHECKING:  # pandas is imported only where a DataFrame is given
    from pandas import DataFrame

FALSE_ALARMS = 0.05
TOLERANCE = 0.05
_Z = 1.959963984540054
_DAY = 86_400

Weekly = dict[str, dict[str, ResponseCounts]]
"""Responses by item, with the empty item for all of them, and by the Monday of their week."""


def monitor(
    bundle: Bundle | Path | str,
    *journals: Path | str,
    codes: "DataFrame | GivenTable | Path | str | None" = None,
    since: str | None = None,
    false_alarms: float = FALSE_ALARMS,
    tolerance: float = TOLERANCE,
    id_column: str = "id",
    code_column: str = CODE_COLUMN,
    now: float | None = None,
) -> MonitorReport:
    """Compare what a bundle does in use with what it did at its release.

    Args:
        bundle: The bundle, or its folder.
        journals: Folders and files that `serve --journal` and `grade --journal` wrote.
        codes: A table of human codes of the audit slice.
        since: The first day that counts, such as ``2026-10-05``; by default, all do.
        false_alarms: The probability that there is ever an alarm if nothing changes, at most; in (0, 1).
        tolerance: A difference of a share that is no alarm, in [0, 1).
        id_column: Column of ids in ``codes``.
        code_column: Column of human codes.
        now: Present time in seconds since 1970; by default, that of the clock.

    Returns:
        What changed, since when, and the figures of each week and item.

    Raises:
        ArgumentError: An argument is not valid.
        BundleError: The bundle cannot be loaded, or has no reference.
        DataError: A journal or the codes cannot be used, or the bundle scored no response in the journal.

    Example:
        monitor("bundle", "journal/", codes="coded.csv")
    """
    for name, value, lowest in (("false_alarms", false_alarms, 0.0), ("tolerance", tolerance, -1e-300)):
        if not lowest < value < 1:
            raise ArgumentError(f"{name} must be a number {'above' if not lowest else 'from'} 0 and below 1")
    if not journals:
        raise ArgumentError("monitor needs a journal", hint='Name its folder: monitor("bundle", "journal/").')
    loaded = bundle if isinstance(bundle, Bundle) else Bundle.load(bundle)
    reference = read_reference(loaded)
    manifest, task = loaded.manifest, loaded.task
    if reference is None:
        raise DataError(
            "the bundle has no reference: it was exported by an older version, or with fewer than 20 validation rows",
            where=f"{manifest.name}@{manifest.version}",
            hint="Export it again with the same student; its version changes, so serve the new one.",
        )
    table = None if codes is None else read_coded(codes, task, id_column=id_column, code_column=code_column)
    period = _periods(_day(since), time.time() if now is None else now)
    content = read_journal(journals, manifest.name, manifest.version, period=period)
    weekly, notes = _by_week(content, _day(since))
    if not weekly:
        raise _nothing_there(content, manifest.name, manifest.version, notes)
    weeks = sorted(weekly[""])
    watched: list[WatchedItem] = []
    alarms: list[Alarm] = []
    for each in watch_items(weekly, reference, weeks[-1]):
        item, found = find_changes(each, task, Rate(false_alarms, tolerance))
        watched.append(item)
        alarms += found
    watched += _not_watched(weekly, watched)
    return MonitorReport(
        model=manifest.name,
        version=manifest.version,
        rows=sum(counts.rows for counts in weekly[""].values()),
        weeks=(weeks[0], weeks[-1]),
        false_alarms=false_alarms,
        tolerance=tolerance,
        alarms=tuple(alarms),
        watched=tuple(watched),
        by_week=tuple(_figures(weekly, task)),
        reference=_reference_figures(reference, task),
        audit={"with_id": content.with_id, "drawn": len(content.audited)},
        codes=None if table is None else _judged(table, content, loaded, _day(since)),
        notes=(*(table.notes if table else ()), *notes, *_notes(content, reference, weekly)),
    )


def _judged(table: HumanCodes, content: JournalContent, bundle: Bundle, since: str) -> CodedNow:
    audited = {ident: each for ident, each in content.audited.items() if each.hour[:10] >= since}
    return judge_codes(table, audited, bundle.manifest, content.precisions)


def _day(text: str | None) -> str:
    if text is None:
        return ""
    try:
        return dt.date.fromisoformat(text).isoformat()
    except ValueError:
        raise ArgumentError(f"{text!r} is not a day", hint="Write it as 2026-10-05.") from None


_EARLY, _FUTURE = "early", "future"


def _periods(since: str, now: float) -> Callable[[str], str]:
    """Return what returns the Monday of an hour's week; hours that do not count are `_EARLY` or `_FUTURE`."""
    latest = dt.datetime.fromtimestamp(now + _DAY, dt.UTC).strftime("%Y-%m-%dT%H")

    @cache
    def monday(day: str) -> str:
        date = dt.date.fromisoformat(day)
        return (date - dt.timedelta(days=date.weekday())).isoformat()

    def period(hour: str) -> str:
        day = hour[:10]
        return _EARLY if day < since else _FUTURE if hour > latest else monday(day)

    return period


def _by_week(content: JournalContent, since: str) -> tuple[Weekly, list[str]]:
    """Return the counts of each item and week."""
    weekly: defaultdict[str, dict[str, ResponseCounts]] = defaultdict(dict)
    left_out = Counter[str]()
    for (week, item), counts in sorted(content.cells.items()):
        if week in (_EARLY, _FUTURE):
            left_out[week] += counts.rows
            continue
        for name in ("", item) if item else ("",):
            weekly[name].setdefault(week, ResponseCounts()).add(counts)
    notes = []
    if early := left_out[_EARLY]:
        notes.append(f"{early} responses before {since} do not count")
    if future := left_out[_FUTURE]:
        notes.append(f"{future} responses have an hour in the future and do not count: a clock was wrong")
    return dict(weekly), notes


def _nothing_there(content: JournalContent, model: str, version: str, notes: Sequence[str]) -> DataError:
    if content.other_versions:
        others = ", ".join(f"{name} ({rows})" for name, rows in sorted(content.other_versions.items()))
        return DataError(
            f"the journal has no response that {model}@{version} scored; it has responses of {others}",
            hint="Name the bundle that scored them.",
        )
    if notes:
        return DataError(f"the journal has no response that counts: {'; '.join(notes)}")
    return DataError(
        f"the journal has no responses ({content.files} files, {content.lines} lines)",
        hint="Counts are written a minute after the first response; start the server with --journal.",
    )


def _not_watched(weekly: Weekly, watched: Sequence[WatchedItem]) -> Iterator[WatchedItem]:
    known = {each.item for each in watched}
    for item in sorted(weekly.keys() - known):
        yield WatchedItem(item, sum(counts.rows for counts in weekly[item].values()), "nothing yet", 0, {}, {})


def _notes(content: JournalContent, reference: Reference, weekly: Weekly) -> Iterator[str]:
    if content.other_versions:
        others = ", ".join(f"{name} ({rows})" for name, rows in sorted(content.other_versions.items()))
        yield f"the journal also has responses of other bundles, which do not count: {others}"
    if other := {name: rows for name, rows in content.precisions.items() if name != reference.precision}:
        shown = ", ".join(f"{name} ({rows})" for name, rows in sorted(other.items()))
        yield f"some responses were scored by another graph than the reference ({reference.precision}): {shown}"
    if content.torn:
        yield f"{content.torn} last lines were not written completely, and do not count"
    if content.damaged:
        file, line = content.damaged[0]
        yield f"{len(content.damaged)} damaged lines do not count; the first is line {line} of {file}"
    if content.backwards:
        yield (
            f"the clock of a server went backwards {content.backwards} times; responses count in the hour that it "
            "showed"
        )
    if reference.items:
        known = {cell.item for cell in reference.items}
        new = [item for item in weekly if item and item not in known]
        rows = sum(counts.rows for item in new for counts in weekly[item].values())
        if new:
            yield (
                f"{len(new)} items ({rows} responses) have no reference in the bundle: each is compared with its own "
                "first weeks"
            )


def _figures(weekly: Weekly, task: Task) -> Iterator[WeekFigures]:
    for item, weeks in sorted(weekly.items()):
        for week, counts in weeks.items():
            labels = _label_rows(counts.labels, task)
            yield WeekFigures(
                week=week,
                item=item,
                rows=counts.rows,
                labels={name: wilson(rows, counts.rows) for name, rows in labels.items()},
                review=wilson(counts.reviewed, counts.rows),
                reasons=dict(sorted(counts.reasons.items())),
                means={
                    name: total / counts.rows
                    for name, total in zip(CUTS, counts.sums, strict=True)
                    if sum(getattr(counts, name))
                },
            )


def _label_rows(labels: Mapping[str, int], task: Task) -> dict[str, int]:
    rows = dict.fromkeys(task.names, 0)
    for code, number in labels.items():
        for name in split_labels(code, task) if task.kind == "multilabel" else (code,):
            rows[name] = rows.get(name, 0) + number
    return rows


def _reference_figures(reference: Reference, task: Task) -> dict[str, object]:
    every = reference.every
    labels = _label_rows({group.labels[0]: group.rows for group in every.labels}, task)
    return {
        "rows": every.rows,
        "labels": {name: number / every.rows for name, number in labels.items()},
        "review": None if every.reviewed is None else every.reviewed / every.rows,
        "means": dict(every.means),
        "items": len(reference.items),
        "design_effect": reference.design_effect,
    }


def wilson(count: int, rows: int) -> Interval:
    """Return a share with its 95 % interval (Wilson 1927)."""
    share, z2 = count / rows, _Z**2 / rows
    centre, half = (share + z2 / 2) / (1 + z2), _Z / (1 + z2) * (share * (1 - share) / rows + z2 / 4 / rows) ** 0.5
    return Interval(share, max(0.0, centre - half), min(1.0, centre + half))


def write_sheet(
    bundle: Bundle | Path | str,
    *journals: Path | str,
    sheet: Path,
    responses: GivenTable | Path | None = None,
    codes: "DataFrame | GivenTable | Path | str | None" = None,
    rows: int | None = None,
    id_column: str = "id",
    code_column: str = CODE_COLUMN,
    overwrite: bool = False,
) -> tuple[int, list[str]]:
    """Write a sheet for people: drawn responses without a code, in random order, without the label of the model.

    Args:
        bundle: The bundle, or its folder.
        journals: As for `monitor`.
        sheet: The table to write.
        responses: The platform's own table with the ids and the texts; without it, the sheet has ids only.
        codes: A table of codes; its coded ids are left out.
        rows: The largest number of rows, drawn at random from the audit slice.
        id_column: Column of ids.
        code_column: Column of codes.
        overwrite: Whether to replace a file.

    Returns:
        The number of rows, and notes.

    Raises:
        DataError: A table or a journal cannot be used, the file cannot be written, or there is nothing to code.
    """
    loaded = bundle if isinstance(bundle, Bundle) else Bundle.load(bundle)
    manifest, inputs = loaded.manifest, loaded.task.inputs
    audited = read_journal(journals, manifest.name, manifest.version).audited
    done = (
        read_coded(codes, loaded.task, id_column=id_column, code_column=code_column).codes if codes is not None else {}
    )
    open_rows = [each for ident, each in sorted(audited.items()) if ident not in done]
    if not open_rows:
        raise DataError(
            "there is no drawn response without a code",
            hint="Ids are drawn with `serve --journal FOLDER --audit-share 0.01`, if requests have an id.",
        )
    notes: list[str] = []
    texts = None
    if responses is not None:
        if isinstance(responses, Path):
            responses = read_responses_file(responses, ReadingOptions({"id": id_column}), inputs)
        notes += responses.notes
        texts = {line.values["id"].strip(): line.values for line in responses.rows}
        there = [each for each in open_rows if each.id in texts]
        if missing := len(open_rows) - len(there):
            notes.append(f"{missing} drawn ids are not in {responses.name}")
        if not there:
            raise DataError(
                "has none of the drawn ids",
                where=responses.name,
                hint=f"Its ids are in the column {responses.describe('id')}; name another one with --column id=NAME.",
            )
        open_rows = there
    draw = random.SystemRandom()
    chosen = draw.sample(open_rows, min(len(open_rows), rows or len(open_rows)))
    chance = len(chosen) / len(open_rows)
    header = [id_column, *(inputs if texts is not None else ()), "inclusion_probability", code_column]
    with table_writer(sheet, dict.fromkeys(header), {}, overwrite=overwrite) as write:
        for number, each in enumerate(chosen, start=1):
            cells = _sheet_row(each, texts, inputs, id_column, chance) | {code_column: ""}
            write(TableRow(number, cells, {}), {})
    return len(chosen), notes


def read_responses_file(file: Path, reading: ReadingOptions, inputs: Sequence[str]) -> GivenTable:
    """Read the platform's own table, with the keys ``id`` and the inputs.

    Raises:
        DataError: It cannot be read, or a column is missing.
    """
    return read_given_table(file, reading, needed=("id", *inputs), texts=inputs)


def _sheet_row(
    each: AuditedResponse,
    texts: Mapping[str, Mapping[str, str]] | None,
    inputs: Sequence[str],
    id_column: str,
    chance: float,
) -> dict[str, str]:
    row = {id_column: each.id}
    if texts is not None:
        row |= {name: texts[each.id].get(name, "") for name in inputs}
    return row | {"inclusion_probability": repr(each.inclusion_probability * chance)}
