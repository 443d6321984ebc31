"""`review-draws.jsonl` in the run folder: every draw of rows for people, complete enough to be made again.

A line holds the rows that could be drawn in the order of the systematic pass, their inclusion probabilities, and the
random starts; `Draw.ids` follows from these, and reading the file checks that it does. A draw that was abandoned stays
in the file, followed by a line that discards it.
"""

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec
import numpy as np

from edgedistill.agreement.confusion import Values
from edgedistill.data.twins import same_row
from edgedistill.data.types import Response
from edgedistill.decisions.sampling import effective_probabilities, systematic_sample
from edgedistill.errors import DataError, RunError
from edgedistill.project.schema import Project
from edgedistill.project.task import TaskSection
from edgedistill_serve.bundle.atomic_folder import replace_file

DRAWS_FILE = "review-draws.jsonl"
DESIGN = "systematic sampling with unequal probabilities, by question and group, in random order within"

Purpose: TypeAlias = Literal["train", "validation", "both"]
PURPOSES: tuple[Purpose, ...] = ("train", "validation", "both")


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """One wave of rows drawn for people to code.

    Attributes:
        wave: Its number, from 1.
        drawn_at: Time in UTC, ISO 8601.
        responses: Name of the file of responses.
        purpose: What the codes are for.
        requested: Rows requested; all that there are, if these are fewer.
        seed: The random state is ``numpy.random.default_rng([seed, wave])``.
        design: `DESIGN`.
        shares: Share of the expected draws by signal, and by ``random``.
        missing_signals: Signals that were not available, with the reason.
        student: SHA-256 of the `bundle.json` whose scores were used; None without.
        codebook: SHA-256 of each label's definition, and under an empty name of the instructions.
        excluded: Rows of the file that could not be drawn, by reason.
        order: Ids of the rows that could be drawn, in the order of the systematic pass.
        probabilities: Their inclusion probabilities.
        start: The random start of the pass, in [0, 1).
        ids: The drawn rows.
        validation_start: For ``both``: the start of the second pass, which makes validation rows of drawn rows; None
            otherwise.
        validation_shares: For ``both``: by drawn row, the probability with which it becomes a validation row.
        validation_ids: Drawn rows whose codes are validation rows; the others are train rows.
        frame_sha256: Of ids and texts of the rows that could be drawn.
        left_sha256: The same without the drawn rows: the frame of a next wave if the files stay the same.
        continues: Whether the frame is what the wave before left over.
        weight: See `wave_weight`.
    """

    wave: int
    drawn_at: str
    responses: str
    purpose: Purpose
    requested: int
    seed: int
    design: str
    shares: Mapping[str, float]
    missing_signals: Mapping[str, str]
    student: str | None
    codebook: Mapping[str, str]
    excluded: Mapping[str, int]
    order: tuple[str, ...]
    probabilities: tuple[float, ...]
    start: float
    ids: tuple[str, ...]
    validation_start: float | None
    validation_shares: tuple[float, ...]
    validation_ids: tuple[str, ...]
    frame_sha256: str
    left_sha256: str
    continues: bool
    weight: float

    @property
    def drawn(self) -> dict[str, float]:
        """By id, the inclusion probability of each drawn row."""
        wanted = set(self.ids)
        return {ident: p for ident, p in zip(self.order, self.probabilities, strict=True) if ident in wanted}

    def recomputed(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Draw again from order, probabilities and starts; return the ids, and those of the validation rows."""
        ids = tuple(self.order[i] for i in systematic_sample(np.array(self.probabilities), self.start))
        return ids, self._validation(ids)

    def _validation(self, ids: tuple[str, ...]) -> tuple[str, ...]:
        if self.purpose != "both" or self.validation_start is None:
            return ids if self.purpose == "validation" else ()
        places = systematic_sample(np.array(self.validation_shares), self.validation_start)
        return tuple(ids[i] for i in places)


class Discard(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A line that takes back the draw before it, whose rows nobody coded.

    Attributes:
        discarded_wave: Its number.
        discarded_at: Time in UTC, ISO 8601.
    """

    discarded_wave: int
    discarded_at: str


@dataclass(frozen=True, slots=True)
class DrawsLog:
    """The log of draws.

    Attributes:
        draws: The draws that count, in order.
        discarded: The others.
    """

    draws: tuple[Draw, ...] = ()
    discarded: tuple[Draw, ...] = ()

    @property
    def waves(self) -> int:
        """The number of all draws."""
        return len(self.draws) + len(self.discarded)


def read_draws(run_folder: Path) -> tuple[Draw, ...]:
    """Read the draws that count; none if there is no file.

    Raises:
        RunError: A line is damaged, or its rows do not follow from its probabilities.
    """
    return read_log(run_folder).draws


def read_log(run_folder: Path) -> DrawsLog:
    """Read the log; an empty one if there is no file.

    Raises:
        RunError: A line is damaged, or its rows do not follow from its probabilities.
    """
    file = run_folder / DRAWS_FILE
    if not file.exists():
        return DrawsLog()
    draws: list[Draw] = []
    discarded: list[Draw] = []
    try:
        lines = file.read_bytes().splitlines()
    except OSError as error:
        raise RunError(f"cannot be read ({error.strerror})", where=str(file)) from None
    for number, line in enumerate(lines, 1):
        try:
            if line.startswith(b'{"discarded_wave"'):
                discard = msgspec.json.decode(line, type=Discard)
                intact = bool(draws) and draws[-1].wave == discard.discarded_wave
                discarded += [draws.pop()] if intact else []
            else:
                draw = msgspec.json.decode(line, type=Draw)
                draws.append(draw)
                waves = len(draws) + len(discarded)
                intact = draw.recomputed() == (draw.ids, draw.validation_ids) and draw.wave == waves
        except (msgspec.MsgspecError, ValueError, IndexError):
            intact = False
        if not intact:
            raise RunError(
                "is damaged: the drawn rows do not follow from the probabilities and the start",
                where=f"{file}, line {number}",
                hint="Restore the file from a backup: without it the inclusion probabilities cannot be shown.",
            )
    return DrawsLog(tuple(draws), tuple(discarded))


def append_draw(run_folder: Path, draw: Draw) -> None:
    """Append a draw to the file.

    Raises:
        RunError: It cannot be written.
    """
    _append(run_folder, json.dumps(asdict(draw), ensure_ascii=False, allow_nan=False))


def append_discard(run_folder: Path, discard: Discard) -> None:
    """Take back the last draw; its line stays in the file.

    Raises:
        RunError: It cannot be written.
    """
    _append(run_folder, msgspec.json.encode(discard).decode())


def _append(run_folder: Path, content: str) -> None:
    file, line = run_folder / DRAWS_FILE, f"{content}\n"
    try:
        run_folder.mkdir(parents=True, exist_ok=True)
        before = file.read_bytes() if file.exists() else b""
        replace_file(file, before + line.encode())  # a full disk must not leave half a line
    except OSError as error:
        raise RunError(
            f"cannot be written ({error.strerror})",
            where=str(file),
            hint="Check the free disk space and the write permission of the run folder.",
        ) from None


def frame_digest(rows: Iterable[Response]) -> str:
    """Return the SHA-256 of ids and texts of rows, whatever their order."""
    total = hashlib.sha256()
    for line in sorted(json.dumps([row.id, *same_row(row.inputs)], ensure_ascii=False) for row in rows):
        total.update(line.encode(errors="surrogatepass") + b"\n")
    return total.hexdigest()


def survival(draws: Sequence[Draw], ids: Sequence[str]) -> Values:
    """Return for rows that no draw drew the probability of that, given each draw's probabilities."""
    left = dict.fromkeys(ids, 1.0)
    for draw in draws:
        for ident, probability in zip(draw.order, draw.probabilities, strict=True):
            if ident in left:
                left[ident] *= 1 - probability
    return np.array([left[ident] for ident in ids], dtype=np.float64)


def codebook_digests(task: TaskSection) -> dict[str, str]:
    """Return the SHA-256 of each label's definition, and under an empty name of the instructions."""
    texts = {"": task.instructions} | {label.name: label.definition for label in task.labels}
    return {name: hashlib.sha256(" ".join(text.split()).encode()).hexdigest() for name, text in texts.items()}


def codebook_changes(then: Mapping[str, str], now: Mapping[str, str]) -> str:
    """Return what differs between two codebooks, naming the labels; empty if nothing does."""
    added, removed = ([name for name in a if name and name not in b] for a, b in ((now, then), (then, now)))
    changed = [name for name in now if name and name in then and then[name] != now[name]]
    parts = [
        f"{what}: {', '.join(map(repr, names))}"
        for what, names in (
            ("labels added", added),
            ("labels removed", removed),
            ("definitions changed", changed),
        )
        if names
    ]
    return "; ".join([*parts, *(["the instructions changed"] if then.get("") != now.get("") else [])])


def require_codebook(project: Project, draws: Sequence[Draw], ids: Collection[str], sheet: str) -> None:
    """Refuse a sheet whose rows were drawn for another codebook than the project has now.

    Raises:
        DataError: The message names the labels.
    """
    now = codebook_digests(project.task)
    for draw in draws:
        if not set(draw.ids).isdisjoint(ids) and (changes := codebook_changes(draw.codebook, now)):
            raise DataError(
                f"the sheet was drawn for an older codebook (wave {draw.wave}; {changes})",
                where=sheet,
                hint="Have these rows coded by the present codebook, or restore the older one; where the change does "
                "not affect the codes, import them with --accept-older-codebook.",
            )


def require_draws_that_count(log: DrawsLog, drawn: Collection[str], sheet: str) -> None:
    """Refuse the sheet of a draw that was discarded.

    Args:
        log: All draws.
        drawn: Ids of the sheet's rows that have an inclusion probability.
        sheet: Its name.

    Raises:
        DataError: The message names the wave.
    """
    counted = {ident for draw in log.draws for ident in draw.ids}
    for draw in log.discarded:
        if gone := set(draw.ids).intersection(drawn) - counted:
            raise DataError(
                f"the sheet has {len(gone)} rows of wave {draw.wave}, which was discarded",
                where=sheet,
                hint="Have the rows of the present draw coded (`review next --again` writes its sheet); to train on "
                "these codes nevertheless, remove the column inclusion_probability.",
            )


def reviewed_probabilities(draws: Sequence[Draw], ids: Collection[str]) -> dict[str, float]:
    """Return the effective inclusion probability of drawn rows, of all waves up to the last one with a code.

    Args:
        draws: All draws.
        ids: Rows with a code.
    """
    coded = set(ids)
    waves = [number for number, draw in enumerate(draws, 1) if not coded.isdisjoint(draw.ids)]
    by_file: dict[str, list[Draw]] = {}
    for draw in draws[: max(waves, default=0)]:
        by_file.setdefault(draw.responses, []).append(draw)
    found: dict[str, float] = {}
    for each in by_file.values():
        found |= effective_probabilities(each)
    return found


def open_rows(draws: Sequence[Draw], ids: Collection[str]) -> dict[int, int]:
    """Return by wave the number of drawn rows without a code, for waves with a code and those before."""
    coded = set(ids)
    last = max((draw.wave for draw in draws if not coded.isdisjoint(draw.ids)), default=0)
    missing = {draw.wave: len(set(draw.ids) - coded) for draw in draws if draw.wave <= last}
    return {wave: rows for wave, rows in missing.items() if rows}
