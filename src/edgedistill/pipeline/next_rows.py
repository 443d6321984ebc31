"""Which rows people code next: a draw with stated, logged inclusion probabilities, and what its codes may bring.

Signals share out the expected draws (`edgedistill.decisions.row_signals`), a part is always drawn at random, and the
log of draws in the run folder holds what a reviewer needs to draw the same rows again
(`edgedistill.decisions.draws_log`). docs/next-rows.md explains the design.
"""

import datetime as dt
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgedistill.agreement import Agreement
from edgedistill.agreement.confusion import Values
from edgedistill.data.reading import Records, held_out, near_duplicate, read_all_responses, without_train_groups
from edgedistill.data.twins import same_group, same_row
from edgedistill.data.types import Response, TestRows, TrainRows, ValidationRows
from edgedistill.decisions.coding_sheet import (
    build_drawn_sheet,
    candidates,
    require_new,
    responses_file,
    reviewed_ids,
    write_lines,
)
from edgedistill.decisions.draws_log import (
    DESIGN,
    PURPOSES,
    Discard,
    Draw,
    DrawsLog,
    Purpose,
    append_discard,
    append_draw,
    codebook_digests,
    frame_digest,
    read_draws,
    read_log,
    survival,
)
from edgedistill.decisions.expected_gain import expected_interval, expected_width
from edgedistill.decisions.learning_curve import LEARNING_CURVE_FILE, curve_data, read_learning_curve
from edgedistill.decisions.row_signals import coverage, disagreement, novelty_ranks, uncertainty
from edgedistill.decisions.sampling import (
    inclusion_probabilities,
    mixture_sizes,
    sampling_order,
    systematic_sample,
    wave_weight,
)
from edgedistill.errors import ArgumentError, DataError, EdgeDistillError, RunError
from edgedistill.evaluation import read_evaluation
from edgedistill.pipeline.folder import RunFolder, file_digest
from edgedistill.pipeline.label import read_labels
from edgedistill.project.schema import Project
from edgedistill_serve import Bundle, BundleError, Scorer
from edgedistill_serve.scoring.score import Score

if TYPE_CHECKING:  # pandas is imported only when a DataFrame is requested
    from pandas import DataFrame

SIGNALS = ("uncertainty", "disagreement", "novelty", "coverage")
DEFAULT_STRATEGY = "random"
DEFAULT_RANDOM_SHARE = 0.3


@dataclass(frozen=True, slots=True, repr=False)
class NextRows:
    """Rows drawn for people to code; its repr is a summary.

    Attributes:
        draw: The draw, as it is in the log.
        responses: The drawn rows in the order of their file.
        probabilities: The inclusion probability of each.
        notes: What a reader must know about this draw.
        expected: What the codes may be expected to bring, a sentence each.
        sheet: The coding sheet; None if none was written.
    """

    draw: Draw
    responses: tuple[Response, ...]
    probabilities: tuple[float, ...]
    notes: tuple[str, ...]
    expected: tuple[str, ...] = field(default=())
    sheet: Path | None = None

    def __repr__(self) -> str:
        return "\n".join(self.summary())

    def summary(self) -> list[str]:
        """Return the draw in sentences."""
        draw = self.draw
        least, most = min(draw.probabilities), max(draw.probabilities)
        span = f"{least:.3g}" if f"{least:.3g}" == f"{most:.3g}" else f"{least:.3g} to {most:.3g}"
        shares = ", ".join(f"{share:.0%} {name}" for name, share in draw.shares.items())
        drawn = f"{len(draw.ids)} of {len(draw.order)} rows drawn (wave {draw.wave}; {shares})"
        uses = {
            "train": "their codes become train rows",
            "validation": "their codes become validation rows",
            "both": f"codes of {len(draw.validation_ids)} become validation rows, the others train rows",
        }
        excluded = [f"not in the draw: {number} {reason}" for reason, number in draw.excluded.items()]
        missing = [f"no {name}: {reason}" for name, reason in draw.missing_signals.items()]
        return [
            f"{drawn}; inclusion probability {span}",
            uses[draw.purpose],
            *excluded,
            *missing,
            *self.notes,
            *self.expected,
        ]

    def as_dict(self) -> dict[str, Any]:
        """Return the draw as JSON data, without the rows that were not drawn."""
        draw = asdict(self.draw)
        frame, probabilities = draw.pop("order"), draw.pop("probabilities")
        return {
            **draw,
            "frame": len(frame),
            "drawn": dict(zip((row.id for row in self.responses), self.probabilities, strict=True)),
            "smallest_probability": min(probabilities),
            "largest_probability": max(probabilities),
            "notes": list(self.notes),
            "expected": list(self.expected),
        }

    def to_frame(self) -> "DataFrame":
        """Return a DataFrame with a row per drawn response: id, inputs, ``inclusion_probability``, ``purpose``."""
        from pandas import DataFrame

        validation = set(self.draw.validation_ids)
        return DataFrame(
            {
                "id": row.id,
                **row.inputs,
                "inclusion_probability": probability,
                "purpose": "validation" if row.id in validation else "train",
            }
            for row, probability in zip(self.responses, self.probabilities, strict=True)
        )


def draw_next(
    project: Project,
    records: Records,
    rows: int,
    *,
    responses: Path | None = None,
    strategy: str | None = None,
    purpose: str = "train",
    random_share: float | None = None,
    seed: int = 0,
    out: Path | None = None,
    on_message: Callable[[str], None] = lambda _: None,
) -> NextRows:
    """Draw uncoded rows for people to code, log the draw, and write a coding sheet.

    Args:
        project: The project.
        records: Its rows.
        rows: How many; all that can be drawn, if these are fewer.
        responses: A file of responses; None for those of the project.
        strategy: ``random``, ``mixed`` (all signals that are available, with equal shares), or signals separated by
            commas: ``uncertainty``, ``disagreement``, ``novelty``, ``coverage``. None: `DEFAULT_STRATEGY`.
        purpose: ``train``; ``validation``: drawn at random; ``both``: the random share becomes validation rows, the
            others train rows.
        random_share: Share of the expected draws at random, in (0, 1]; None: 0.3, and 1 for the strategy ``random``.
        seed: Seed of the draw; at least 0.
        out: The sheet to write, in the table format of its suffix; it must not exist. None writes none.
        on_message: Called with messages for the user.

    Raises:
        ArgumentError: An argument is not valid.
        DataError: There is no row to draw, a file cannot be read or written, or ``out`` exists.
        RunError: A signal that was asked for is not available, or the log of draws is damaged.
    """
    named, required = _strategy(strategy or DEFAULT_STRATEGY)
    share = (DEFAULT_RANDOM_SHARE if named else 1.0) if random_share is None else random_share
    use = _check_arguments(purpose, named, rows, seed, share)
    if out is not None:
        require_new(out)
    file = responses_file(project, responses)
    log = read_log(project.run_folder)
    draws = log.draws
    frame, excluded = _frame(project, records, responses, draws, use)
    if not frame:
        reasons = "; ".join(f"{number} {reason}" for reason, number in excluded.items())
        raise DataError(
            f"there is no row left to draw ({reasons or 'no row can be used'})",
            where=file.name,
            hint="Add responses, or name another file with --responses.",
        )
    found = _Signals(project, records, draws, frame, on_message)
    signals = found.compute(named, required=required)
    floor = share if signals else 1.0
    shares = {"random": floor} | {name: (1 - floor) / len(signals) for name in signals}
    draw, notes = _draw(project, log, frame, signals, shares, use, rows, seed, file.name)
    draw = replace(draw, missing_signals=found.missing, student=found.student, excluded=excluded)
    append_draw(project.run_folder, draw)
    drawn = draw.drawn
    chosen = tuple(row for row in frame if row.id in drawn)
    result = NextRows(
        draw,
        chosen,
        tuple(drawn[row.id] for row in chosen),
        notes,
        tuple(_expected(project, records, (*draws, draw))),
        out,
    )
    if out is not None:
        write_drawn_sheet(project, result, out)
    return result


def write_drawn_sheet(project: Project, drawn: NextRows, out: Path) -> None:
    """Write the coding sheet of a draw.

    Raises:
        DataError: The file exists or cannot be written; the draw is in the log, and `draw_again` returns it.
    """
    pairs = list(zip(drawn.responses, drawn.probabilities, strict=True))
    try:
        write_lines(out, build_drawn_sheet(pairs, project.task.task, group_by=project.data.group_by))
    except EdgeDistillError as error:
        raise DataError(
            error.what, where=error.where, hint="The draw is logged; write its sheet elsewhere with --again."
        ) from error


def draw_again(project: Project, *, responses: Path | None = None, out: Path | None = None) -> NextRows:
    """Return the last draw once more, for a sheet that was lost; nothing is drawn.

    Args:
        project: The project.
        responses: The file that it was drawn from; None for that of the project.
        out: The sheet to write; it must not exist. None writes none.

    Raises:
        DataError: There is no draw from this file, a drawn row is no longer in it, or ``out`` exists.
        RunError: The log of draws is damaged.
    """
    file = responses_file(project, responses)
    draws = [draw for draw in read_draws(project.run_folder) if draw.responses == file.name]
    if not draws:
        raise DataError("no rows were drawn from this file", where=file.name, hint="Draw some without --again.")
    drawn = draws[-1].drawn
    rows = tuple(row for row in read_all_responses(project, file) if row.id in drawn)
    if gone := sorted(drawn.keys() - {row.id for row in rows}):
        raise DataError(
            f"{len(gone)} drawn rows are no longer in the file, such as {gone[0]!r}",
            where=file.name,
            hint="Restore the file as it was when they were drawn.",
        )
    if out is not None:
        require_new(out)
    result = NextRows(draws[-1], rows, tuple(drawn[row.id] for row in rows), (), (), out)
    if out is not None:
        write_drawn_sheet(project, result, out)
    return result


def discard_last(project: Project, records: Records) -> Draw:
    """Take back the last draw, which nobody will code: its rows can be drawn again. The log keeps it.

    Returns:
        The discarded draw.

    Raises:
        DataError: There is no draw, or some of its rows have a code.
        RunError: The log of draws is damaged or cannot be written.
    """
    draws = read_draws(project.run_folder)
    if not draws:
        raise DataError("there is no draw to discard", where=str(project.run_folder))
    last = draws[-1]
    coded = {row.response.id for rows in _all_splits(records) for row in rows} | reviewed_ids(project)
    if known := sorted(coded.intersection(last.ids)):
        raise DataError(
            f"wave {last.wave} cannot be discarded: {len(known)} of its {len(last.ids)} rows have a code, such as "
            f"{known[0]!r}",
            where=str(project.run_folder),
            hint="Have the other rows coded, too; a draw discarded after codes are known is not a random sample.",
        )
    now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    append_discard(project.run_folder, Discard(last.wave, now))
    return last


def _strategy(strategy: str) -> tuple[tuple[str, ...], bool]:
    """Return the signals that a strategy names, and whether each of them is required."""
    if strategy == "random":
        return (), True
    if strategy == "mixed":
        return SIGNALS, False
    names = tuple(dict.fromkeys(name.strip() for name in strategy.split(",")))
    if unknown := [name for name in names if name not in SIGNALS]:
        raise ArgumentError(
            f"the strategy {unknown[0]!r} is unknown",
            hint=f"Use random, mixed, or one or more of {', '.join(SIGNALS)}, separated by commas.",
        )
    return names, True


def _check_arguments(purpose: str, named: Sequence[str], rows: int, seed: int, share: float) -> Purpose:
    use = next((each for each in PURPOSES if each == purpose), None)
    if use is None:
        raise ArgumentError(f"the purpose {purpose!r} is unknown", hint=f"Use one of {', '.join(PURPOSES)}.")
    if purpose == "validation" and named:
        raise ArgumentError(
            f"validation rows are drawn at random, not by {', '.join(named)}",
            hint="Agreement on rows that were chosen for their difficulty is not that of all rows. Use the strategy "
            "random, or the purpose both.",
        )
    if rows < 1 or seed < 0:
        raise ArgumentError(f"rows must be at least 1 and seed at least 0, not {rows} and {seed}")
    if not 0 < share <= 1:
        raise ArgumentError(f"the random share must be above 0 and at most 1, not {share:g}")
    return use


def _frame(
    project: Project, records: Records, responses: Path | None, draws: Sequence[Draw], purpose: Purpose
) -> tuple[list[Response], dict[str, int]]:
    """Return the rows that can be drawn, and the numbers of the others by reason.

    A row that is the same to a student as an earlier one of the file, or as one drawn earlier, is not drawn: its code
    is that of the other row, which stands for both.
    """
    rows, excluded = candidates(project, records, responses)
    drawn_ids = {ident for draw in draws for ident in draw.ids}
    seen = {same_row(row.inputs) for row in rows if row.id in drawn_ids}
    frame: list[Response] = []
    reasons: Counter[str] = Counter(excluded)
    for row in rows:
        key = same_row(row.inputs)
        if row.id in drawn_ids:
            reasons["drawn in an earlier wave"] += 1
        elif key in seen:
            reasons["the same as another row of the file"] += 1
        else:
            seen.add(key)
            frame.append(row)
    if purpose != "train" and frame:
        kept = without_train_groups(frame, records.splits, near_duplicate(project), held_out=held_out(project))
        reasons.update(row.reason for row in kept.set_aside)
        frame = list(kept.rows)
    return frame, dict(reasons)


class _Signals:
    """Computes the signals of the rows that can be drawn; `missing` says which there are not, and why."""

    def __init__(
        self,
        project: Project,
        records: Records,
        draws: Sequence[Draw],
        frame: Sequence[Response],
        on_message: Callable[[str], None],
    ) -> None:
        self._project, self._records, self._draws, self._frame = project, records, draws, frame
        self._on_message = on_message
        self.missing: dict[str, str] = {}
        self.student: str | None = None

    def compute(self, names: Sequence[str], *, required: bool) -> dict[str, Values]:
        """Return the available ones of some signals.

        Raises:
            RunError: One is not available, and all are required.
        """
        if not names:
            return {}
        scores = self._scores() if set(names) - {"coverage"} else None
        found = {}
        for name in names:
            value: Values | str = getattr(self, f"_{name}")(scores)
            if isinstance(value, str):
                self.missing[name] = value
            elif not (value > 0).any():
                self.missing[name] = "it is 0 for every row"
            else:
                found[name] = value
        if required and self.missing:
            raise RunError(
                "; ".join(f"there is no {name}: {reason}" for name, reason in self.missing.items()),
                where=str(self._project.path),
                hint="Use the strategy mixed, which takes the signals that there are, or random.",
            )
        return found

    def _scores(self) -> list[Score] | str:
        folder = self._project.run_folder / "bundle"
        if not folder.is_dir():
            return "there is no bundle; `edgedistill run PROJECT` exports one"
        try:
            bundle = Bundle.load(folder)
        except BundleError as error:
            return f"the bundle cannot be loaded ({error.what})"
        if bundle.task != self._project.task.task:
            return "the bundle was made with another codebook"
        self.student = file_digest(folder / "bundle.json")
        self._on_message(f"scoring {len(self._frame)} rows with the student")
        return Scorer(bundle).score([dict(row.inputs) for row in self._frame])

    def _uncertainty(self, scores: list[Score] | str) -> Values | str:
        if isinstance(scores, str):
            return scores
        return uncertainty(np.array([[*score.probabilities.values()] for score in scores], dtype=np.float64))

    def _novelty(self, scores: list[Score] | str) -> Values | str:
        if isinstance(scores, str):
            return scores
        values = [getattr(score, "novelty", None) for score in scores]
        if any(value is None for value in values):
            return "the bundle measures no novelty"
        return novelty_ranks(np.array(values, dtype=np.float64))

    def _disagreement(self, scores: list[Score] | str) -> Values | str:
        folder = RunFolder(self._project.run_folder)
        if not folder.has("labels.jsonl"):
            return "the teacher has coded no responses; `edgedistill label PROJECT` has it code them"
        labels = {label.id: label for label in read_labels(folder)}
        ids = [row.id for row in self._frame]
        if labels.keys().isdisjoint(ids):
            return "the teacher has coded none of these responses"
        if unknown := {name for label in labels.values() for name in label.shares} - set(self._project.task.task.names):
            return f"the teacher's labels are of another codebook ({', '.join(sorted(unknown))})"
        student = None
        if not isinstance(scores, str):
            student = {ident: score.label for ident, score in zip(ids, scores, strict=True)}
        return disagreement(ids, labels, student, self._project.task.task)

    def _coverage(self, _: object) -> Values | str:
        coded = [row.response for rows in _all_splits(self._records) for row in rows]
        known = {row.id for row in coded}
        drawn = {ident for draw in self._draws for ident in draw.ids} - known
        coded += [row for row in self._records.unlabelled if row.id in drawn]
        project = self._project
        found = coverage([_strata(row, project) for row in self._frame], [_strata(row, project) for row in coded])
        return "all rows have the same question and the same group" if found is None else found


def _all_splits(records: Records) -> tuple[TrainRows, ValidationRows, TestRows]:
    return records.splits.train, records.splits.validation, records.splits.test


def _strata(row: Response, project: Project) -> tuple[str | None, ...]:
    """The strata of a row: its question with what else is not the response, and its group."""
    context = {name: text for name, text in row.inputs.items() if name != "response"}
    question = ("\n".join(same_row(context)),) if context else ()
    return (*question, *((same_group(row.group),) if project.data.group_by else ()))


def _draw(
    project: Project,
    log: DrawsLog,
    frame: Sequence[Response],
    signals: Mapping[str, Values],
    shares: Mapping[str, float],
    purpose: Purpose,
    rows: int,
    seed: int,
    file: str,
) -> tuple[Draw, tuple[str, ...]]:
    """Draw rows; return the draw, and what a reader must know about it."""
    earlier = [draw for draw in log.draws if draw.responses == file]
    size = min(rows, len(frame))
    digest = frame_digest(frame)
    continues = bool(earlier) and earlier[-1].left_sha256 == digest
    chain = 0
    for draw in reversed(earlier if continues else []):
        chain += len(draw.ids)
        if not draw.continues:
            break
    wave = log.waves + 1
    rng = np.random.default_rng([seed, wave])
    ids = [row.id for row in frame]
    # Earlier draws by difficulty left the easier rows. A row that was the less likely to be left is now the likelier to
    # become a validation row, so that all rows of the first frame were equally likely.
    at_random = np.ones(len(frame)) if purpose == "train" else 1 / np.maximum(survival(earlier, ids), 1e-3)
    sizes = mixture_sizes({**signals, "random": at_random}, shares, len(frame))
    largest = size / (size + chain)
    probabilities = inclusion_probabilities(sizes, size, largest if largest * len(frame) >= size else 1.0)
    order = sampling_order([_strata(row, project) for row in frame], rng)
    start = float(rng.random())
    chosen = order[systematic_sample(probabilities[order], start)]
    validation_start, validation_shares = None, np.zeros(0)
    validation = chosen if purpose == "validation" else chosen[:0]
    if purpose == "both":
        floor = size * shares["random"] * at_random / at_random.sum()
        validation_start, validation_shares = float(rng.random()), np.minimum(floor / probabilities, 1)[chosen]
        validation = chosen[systematic_sample(validation_shares, validation_start)]
    taken = set(chosen.tolist())
    draw = Draw(
        wave=wave,
        drawn_at=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        responses=file,
        purpose=purpose,
        requested=rows,
        seed=seed,
        design=DESIGN,
        shares=dict(shares),
        missing_signals={},
        student=None,
        codebook=codebook_digests(project.task),
        excluded={},
        order=tuple(ids[i] for i in order),
        probabilities=tuple(probabilities[order].tolist()),
        start=start,
        ids=tuple(ids[i] for i in chosen),
        validation_start=validation_start,
        validation_shares=tuple(validation_shares.tolist()),
        validation_ids=tuple(ids[i] for i in validation),
        frame_sha256=digest,
        left_sha256=frame_digest(row for i, row in enumerate(frame) if i not in taken),
        continues=continues,
        weight=wave_weight(size, chain, float(probabilities.max())),
    )
    return draw, tuple(_notes(draw, earlier))


def _notes(draw: Draw, earlier: Sequence[Draw]) -> Iterator[str]:
    if len(draw.ids) < draw.requested:
        yield f"{draw.requested} rows were requested, and only {len(draw.ids)} can be drawn: all of them are"
    if earlier and not draw.continues:
        before = set(earlier[-1].order) - set(earlier[-1].ids)
        now = set(draw.order)
        yield (
            f"the rows to draw from are not those that wave {earlier[-1].wave} left ({len(now - before)} new, "
            f"{len(before - now)} gone: a file or the purpose changed); inclusion probabilities are from now on about "
            "the present rows, and rows drawn earlier count as known"
        )


def _expected(project: Project, records: Records, draws: Sequence[Draw]) -> Iterator[str]:
    """Return what the codes of the last draw are expected to bring, a sentence each."""
    draw, folder = draws[-1], RunFolder(project.run_folder)
    ordinal, validation = project.task.kind == "ordinal", len(draw.validation_ids)
    student = _student(folder, project)
    if validation and folder.has("gate.json"):
        for teacher in folder.read_json("gate.json").get("teachers", ()):
            yield from _expected_gate(teacher, validation, ordinal=ordinal)
    if validation and student and (found := expected_interval(student, "kappa", validation, ordinal=ordinal)):
        low, _, high = found.low
        yield (
            f"for comparison: {validation} more test rows would put the lower end of the student's kappa at "
            f"{low:.2f} to {high:.2f} (now {found.now.low:.2f} on {found.rows} rows)"
        )
    if student:
        yield _expected_estimate(student, draws)
    if len(draw.ids) > validation:
        yield from _expected_training(folder, records)


def _student(folder: RunFolder, project: Project) -> Agreement | None:
    """The agreement of the evaluated student; None before an evaluation with these labels."""
    try:
        found = read_evaluation(folder / "evaluation.json")
    except RunError:  # not done, or of an older version: the draw does not depend on it
        return None
    return found.student if found.labels == project.task.task.names else None


def _expected_gate(teacher: Mapping[str, Any], rows: int, *, ordinal: bool) -> Iterator[str]:
    decisive = teacher.get("agreement_of_all") or teacher.get("agreement")
    if not decisive:
        return
    metric, at_least = str(teacher["metric"]), float(teacher["at_least"])
    found = expected_interval(Agreement.from_dict(decisive), metric, rows, ordinal=ordinal, at_least=at_least)
    if found is None or found.reaches is None:
        return
    low, _, high = found.low
    yield (
        f"gate: with {rows} more validation codes the lower end of {teacher['teacher']}'s {metric} is expected at "
        f"{low:.2f} to {high:.2f} (90 % of simulations; now {found.now.low:.2f} on {found.rows} rows); it reaches "
        f"{at_least:g} in {found.reaches:.0%}"
    )


def _expected_estimate(student: Agreement, draws: Sequence[Draw]) -> str:
    same = [draw for draw in draws if draw.responses == draws[-1].responses]
    found = expected_width(
        student,
        [dict(zip(draw.order, draw.probabilities, strict=True)) for draw in same],
        [len(draw.ids) for draw in same],
    )
    waves = f" of {len(same)} waves" if len(same) > 1 else ""
    return (
        f"estimate: with the {found.codes} drawn codes{waves} the share of {found.label!r} is expected within "
        f"± {found.corrected:.3f} (95 %) by the student's codes corrected by people's, ± {found.human_only:.3f} by "
        "people's alone"
    )


def _expected_training(folder: RunFolder, records: Records) -> Iterator[str]:
    curve = read_learning_curve(folder / LEARNING_CURVE_FILE)
    if curve is None:
        yield "`edgedistill review curve PROJECT` measures how much more train codes would help"
        return
    older = "" if curve.data == curve_data(records.splits.train, records.splits.validation) else " (of earlier rows)"
    yield f"learning curve{older}: {curve.reason}"
    for each in curve.predictions[:1]:
        yield (
            f"learning curve{older}: with {each.rows} train rows the student's {curve.kappa_name} is expected at "
            f"{each.kappa.value:.2f} [{each.kappa.low:.2f}, {each.kappa.high:.2f}]"
        )
