"""Figures of a coding: where the codes come from, and how far the coders agree."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from edgedistill.agreement import human_agreement
from edgedistill.coding.codings import Codings
from edgedistill.coding.journal import Opened, read_journal
from edgedistill.data.types import labels_in
from edgedistill.project.schema import Project
from edgedistill_serve.task.task import Task, list_some

FOLDER = "coding"
"""The folder next to the project file: journals and earlier versions of tables."""


@dataclass(frozen=True, slots=True)
class CodingSummary:
    """Where the codes of a table come from.

    Attributes:
        coders: Number of rows that each coder has coded, by name.
        rows: Rows that are to be coded.
        labelled: Rows with a label.
        from_table: Codes that were in the table already, or that somebody wrote into it.
        double_coded: Rows coded by at least two coders.
        disputed: Double-coded rows whose codes differ.
        adjudicated: Rows whose label somebody decided on the page, having seen all codes.
        memos: Memos on the codebook.
        seed: Seed of the coders' orders.
        double_share: Share of rows to be coded by two.
    """

    coders: dict[str, int]
    rows: int
    labelled: int
    from_table: int
    double_coded: int
    disputed: int
    adjudicated: int
    memos: int
    seed: int
    double_share: float

    @classmethod
    def from_codings(cls, codings: Codings, ids: Iterable[str]) -> Self:
        """Count the codes of some rows."""
        known = tuple(ids)
        codes = [codings.codes(ident) for ident in known]
        names = {**dict.fromkeys(codings.coders), **codings.by_coder}
        counts = {coder: sum(coder in each for each in codes) for coder in names}
        settings = codings.codebook or Opened(by="")
        return cls(
            {coder: count for coder, count in counts.items() if count or coder in codings.coders},
            len(known),
            sum(bool(codings.label(ident)) for ident in known),
            sum(
                coded[ident].source == "file"
                for coded in codings.by_coder.values()
                for ident in known
                if ident in coded
            ),
            sum(len(each) > 1 for each in codes),
            sum(len(set(each.values())) > 1 for each in codes),
            sum(bool(codings.finals[ident].by) for ident in known if ident in codings.finals),
            len(codings.memos),
            settings.seed,
            settings.double_share,
        )


def journal_file(project: Project, sheet: Path | None = None) -> Path:
    """Return where the journal of a project's human file, or of a coding sheet, is."""
    return project.folder / FOLDER / (sheet or project.data.human).name / "journal.jsonl"


def coding_summary(project: Project) -> CodingSummary | None:
    """Return where the codes of a project's human file come from; None if it was not coded with the coding page.

    Args:
        project: The project.

    Raises:
        DataError: The journal is damaged.
    """
    events, _ = read_journal(journal_file(project))
    if not events:
        return None
    codings = Codings()
    for event in events:
        codings.apply(event)
    return CodingSummary.from_codings(codings, codings.plan)


def coder_agreement(
    codings: Codings, ids: Sequence[str], task: Task, *, groups: Mapping[str, str] | None, needed: int
) -> dict[str, Any]:
    """Return the agreement of the coders on double-coded rows, with 95 % intervals, and messages about it.

    Args:
        codings: The state.
        ids: The rows.
        task: Their task.
        groups: The group of each row by id; whole groups are resampled. None: rows are independent.
        needed: Number of double-coded rows from which on there are figures.
    """
    codes = codings.codes_by_coder(ids)
    doubled = [ident for ident in ids if len(codings.codes(ident)) > 1]
    result: dict[str, Any] = {"rows": len(doubled), "needed": needed, "pairs": [], "alpha": None}
    result["messages"] = _lack_of_rows(codings, ids, doubled)
    if len(doubled) < needed:
        return result
    result["messages"] += _doubtful(codes, doubled, task, groups)
    found = human_agreement(codes, task, groups=groups)
    result["alpha"] = found.alpha if len(found.coders) > 2 else None
    result["pairs"] = [
        {
            "first": pair.first,
            "second": pair.second,
            "rows": pair.rows,
            "name": pair.agreement.kappa_name,
            "kappa": asdict(pair.agreement.kappa) if pair.agreement.kappa else None,
            "equal": asdict(pair.agreement.accuracy),
        }
        for pair in found.pairs
        if pair.agreement
    ]
    return result


def _lack_of_rows(codings: Codings, ids: Sequence[str], doubled: Sequence[str]) -> list[str]:
    if doubled:
        return []
    if len(codings.coders) < 2:
        return ["There is one coder: agreement needs a second one, who codes the same rows."]
    planned = sum(len(codings.plan[ident]) > 1 for ident in ids)
    if planned:
        return [f"No row has been coded by two coders yet; {planned} of {len(ids)} rows are to be."]
    return ["No row is to be coded by two coders, so agreement cannot be measured: start again with --double-share."]


def _doubtful(
    codes: Mapping[str, Mapping[str, str]], doubled: Sequence[str], task: Task, groups: Mapping[str, str] | None
) -> list[str]:
    used = {coder: {name for code in mine.values() for name in labels_in(code, task)} for coder, mine in codes.items()}
    messages = [
        # The label is not named, since that would tell all codes of this coder.
        f"{coder} has used only one label so far: κ with {coder} is 0 or undefined, however often the codes are equal."
        for coder, names in used.items()
        if len(names) == 1
    ]
    if unused := [name for name in task.names if not any(name in names for names in used.values())]:
        messages.append(f"No coder has used {list_some(unused)}: agreement says nothing about it.")
    if groups and len({groups[ident] for ident in doubled}) == 1:
        messages.append(
            "All double-coded rows are of one group: no interval can be computed from one group, so the intervals are "
            "as wide as possible."
        )
    return messages
