"""Teacher watch: a canary set is asked again, past the cache, and its answers are compared with those paid for earlier.

teacher_watch/TEACHER/ in the run folder
├── canary.json        the set: ids, requests by their keys, votes of then; no text
├── history.jsonl      a line per look
└── set-1/look-1/      the answers of a look; an interrupted look continues with them
"""

import datetime as dt
import hashlib
import json
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from edgedistill.agreement import Estimate, agreement
from edgedistill.data.types import Response, countable_labels, labels_in
from edgedistill.decisions.draws_log import codebook_changes, codebook_digests
from edgedistill.errors import (
    AnswersMissing,
    ArgumentError,
    DataError,
    RunError,
    TeacherError,
    TeacherRefusedKey,
    TeacherUnknownModel,
    TeacherUnreachable,
)
from edgedistill.evaluation.files import decode_file, to_plain
from edgedistill.pipeline.run import Run
from edgedistill.teacher import AnswerCache, AnswerFormat, DispatchMode, EstimateOnly
from edgedistill.teacher.canaries import (
    CANARY_VERSION,
    NO_ANSWER,
    Canary,
    CanarySet,
    Look,
    changed_p,
    equal_pairs,
    level,
)
from edgedistill.teacher.labelling import Coding, CodingRequest, LabellingPlan
from edgedistill.teacher.logs import append, is_cut_short
from edgedistill.teacher.parsing import FailureCause
from edgedistill.teacher.runner import RetryPolicy, run_requests
from edgedistill.teacher.teacher import Teacher
from edgedistill_serve.bundle.atomic_folder import replace_file

WATCH = "teacher_watch"
"""The folder in the run folder."""
FEWEST = 10
"""Canaries of a set, at least."""
MOST_MISSING = 0.2
"""Share of votes that may be missing because the endpoint was not reached; with more the look does not count."""
_LEAST_FRESH = 2
"""New votes of a response, at least: with one, nothing would be known of the teacher's noise at ``votes: 1``."""
_UNREACHED = frozenset(
    map(
        str,
        (
            FailureCause.RATE_LIMITED,
            FailureCause.SERVER_ERROR,
            FailureCause.TIMED_OUT,
            FailureCause.DROPPED,
        ),
    )
)
"""Causes that say nothing about the model."""


@dataclass(frozen=True, slots=True)
class WatchOptions:
    """How a teacher is watched.

    Attributes:
        teacher: Its name; empty if the project has one with an endpoint.
        rows: Responses of a new set.
        seed: Of the draw of a new set.
        false_alarms: Of a new set: the probability of any false alarm over all looks, in (0, 1).
        renew: Whether to draw a new set, in place of the present one.
        retry_policy: How long to wait between tries.
    """

    teacher: str = ""
    rows: int = 50
    seed: int = 0
    false_alarms: float = 0.05
    renew: bool = False
    retry_policy: RetryPolicy | None = None

    def __post_init__(self) -> None:
        if self.rows < FEWEST:
            raise ArgumentError(f"a canary set has at least {FEWEST} rows, not {self.rows}")
        if not 0 < self.false_alarms < 1:
            raise ArgumentError(f"the rate of false alarms is between 0 and 1, not {self.false_alarms}")


def watch_teacher(run: Run, options: WatchOptions = WatchOptions(), *, dispatch: DispatchMode | None = None) -> Look:
    """Ask a teacher's canary set again and compare; the first call draws the set.

    The answers of the look are paid for, within the teacher's budget, and do not enter its cache.

    Args:
        run: The project and its run folder.
        options: Which teacher, and how a set is drawn.
        dispatch: What happens before requests are sent; None sends them after a message with their estimated cost.

    Returns:
        The look, which is also the last line of `history.jsonl`.

    Raises:
        ArgumentError: The teacher is not named or not known.
        DataError: The teacher has coded too few responses.
        RunError: The set belongs to another codebook, model or other settings.
        TeacherError: The endpoint was not reached, or refuses the key or the model.
        BudgetReached: The next request could cost more than is left; the same call continues later.
        Paused: The dispatch mode stops here, as an estimate does.
    """
    teacher = _teacher(run, options.teacher)
    folder = run.folder.path / WATCH / teacher.section.called
    found = _read_set(folder)
    if found is None or options.renew:
        found = _draw(run, teacher, options, 1 if found is None else found.number + 1)
        if not isinstance(dispatch, EstimateOnly):
            _write(folder / "canary.json", found)
        run.on_message(f"{len(found.rows)} canaries drawn of the responses that {teacher.section.called} has coded")
    return _look(run, teacher, folder, found, options, dispatch or run.dispatch_for(teacher.section))


def read_history(run: Run, teacher: str) -> tuple[Look, ...]:
    """Return the looks at a teacher, the earliest first; lines that a kill cut short are skipped.

    Raises:
        RunError: The file cannot be read, or has another line that is no look: the next look would count as one that
            was taken already, and be given its answers.
    """
    file = run.folder.path / WATCH / teacher / "history.jsonl"
    looks = []
    try:
        for number, line in enumerate(file.read_bytes().splitlines(), start=1):
            try:
                looks.append(msgspec.json.decode(line, type=Look))
            except (msgspec.MsgspecError, UnicodeDecodeError):
                if not is_cut_short(line):
                    raise RunError(
                        "is damaged, or another version of EdgeDistill wrote it",
                        where=f"{file}, line {number}",
                        hint="Restore the file from a backup; or move its folder away, and a new set is drawn.",
                    ) from None
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise RunError(f"cannot be read ({error.strerror})", where=str(file)) from None
    return tuple(looks)


def _teacher(run: Run, name: str) -> Teacher:
    asked = run.asked
    if not asked:
        raise RunError(
            "no teacher with an endpoint can be watched: the project has none, or its labels exist already",
            where=str(run.project.path),
        )
    if not name and len(asked) > 1:
        raise ArgumentError(f"there are several teachers; name one of {', '.join(asked)} (--teacher)")
    if name and name not in asked:
        raise ArgumentError(f"there is no teacher {name!r} with an endpoint; there is {', '.join(asked)}")
    return asked[name] if name else next(iter(asked.values()))


def _read_set(folder: Path) -> CanarySet | None:
    file = folder / "canary.json"
    if not file.exists():
        return None
    hint = "Draw a new set: `edgedistill teacher watch PROJECT --renew`."
    found = decode_file(file, CanarySet, hint)
    if found.schema_version != CANARY_VERSION:
        raise RunError(f"has schema version {found.schema_version}, not {CANARY_VERSION}", where=str(file), hint=hint)
    return found


def _write(file: Path, value: object) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        replace_file(file, f"{json.dumps(to_plain(value), ensure_ascii=False, indent=1)}\n".encode())
    except OSError as error:
        raise RunError(f"cannot be written ({error.strerror})", where=str(file)) from None


def _draw(run: Run, teacher: Teacher, options: WatchOptions, number: int) -> CanarySet:
    """Draw responses with a stored answer to every vote."""
    responses = (*run.records.unlabelled, *run.records.splits.validation.responses)
    plan = teacher.plan(responses)
    with AnswerCache(teacher.cache_folder) as cache:
        plan.load_cached(cache)
        distinct: dict[int, tuple[Response, Coding]] = {}
        for response, coding in plan.pairs:
            if coding and coding.known and not coding.open:
                distinct.setdefault(id(coding), (response, coding))
        drawn = _stratified(run, list(distinct.values()), options)
        if len(drawn) < FEWEST:
            raise DataError(
                f"{teacher.section.called} has coded {len(drawn)} responses with these settings, and a canary set has "
                f"at least {FEWEST}",
                where=str(teacher.cache_folder),
                hint="Run `edgedistill gate PROJECT` or `edgedistill label PROJECT` first.",
            )
        models, fingerprints = _versions(cache, plan, [coding for _, coding in drawn])
    return CanarySet(
        CANARY_VERSION,
        number,
        _today(),
        options.seed,
        teacher.section.called,
        teacher.section.model,
        teacher.section.base_url,
        codebook_digests(run.project.task),
        options.false_alarms,
        models,
        fingerprints,
        tuple(
            Canary(response.id, _key(plan, coding), _most(_labels(coding)), _labels(coding))
            for response, coding in drawn
        ),
    )


def _stratified(
    run: Run, coded: Sequence[tuple[Response, Coding]], options: WatchOptions
) -> list[tuple[Response, Coding]]:
    """Draw responses in proportion to their labels: one of every N / n, ordered by label and by chance within.

    Every response has the same chance, whatever its stored votes are. If more were drawn of a rare label, many of them
    would have it by the noise of these votes, and new votes of the same model would seem to have changed.
    """
    labels = countable_labels(run.task)

    def place(row: tuple[Response, Coding]) -> tuple[int, bytes]:
        label = labels_in(_most(_labels(row[1])), run.task)[0]
        return labels.index(label), hashlib.sha256(f"{options.seed} {row[0].id}".encode()).digest()

    ordered = sorted(coded, key=place)
    step = max(len(ordered) / options.rows, 1.0)
    start = random.Random(options.seed).random() * step  # noqa: S311 - a sample, not a secret
    places = (int(start + turn * step) for turn in range(options.rows))
    return [ordered[each] for each in places if each < len(ordered)] if step > 1 else ordered


def _labels(coding: Coding) -> tuple[str, ...]:
    return tuple(vote.label for vote in coding.known)


def _most(votes: Sequence[str]) -> str:
    """Return the label of most votes; of equally many, that of the first vote."""
    counts = Counter(votes)
    return max(counts, key=counts.__getitem__)


def _key(plan: LabellingPlan, coding: Coding) -> str:
    return plan.build_request(CodingRequest((coding,), 0), AnswerFormat.SCHEMA).key()


def _versions(
    cache: AnswerCache, plan: LabellingPlan, codings: Sequence[Coding]
) -> tuple[dict[str, int], dict[str, int]]:
    """Return the models and fingerprints that the answers about these responses name."""
    wanted = set(map(id, codings))
    models: Counter[str] = Counter()
    fingerprints: Counter[str] = Counter()
    for entry, about in plan.answers_in(cache):
        if any(coding is not None and id(coding) in wanted for coding in about):
            for counts, name in ((models, "model"), (fingerprints, "system_fingerprint")):
                if isinstance(value := entry.answer.get(name), str):
                    counts[value] += 1
    return dict(models), dict(fingerprints)


@dataclass(frozen=True, slots=True)
class _Asked:
    """The canaries that were asked again, and their new votes.

    Attributes:
        canaries: Those whose prompt is the same.
        votes: The new votes of each; `NO_ANSWER` for a refusal.
        missing: Number of votes that did not arrive.
        models: What the answers name.
        fingerprints: Likewise.
        requests: Requests that were sent.
        nano_dollars: Their cost.
        refused: What the endpoint says if it refuses everything.
    """

    canaries: tuple[Canary, ...]
    votes: tuple[tuple[str, ...], ...]
    missing: int
    models: Mapping[str, int]
    fingerprints: Mapping[str, int]
    requests: int
    nano_dollars: int | None
    refused: str = ""


def _look(
    run: Run, teacher: Teacher, folder: Path, found: CanarySet, options: WatchOptions, dispatch: DispatchMode
) -> Look:
    number = 1 + sum(look.set == found.number for look in read_history(run, teacher.section.called))
    plan, canaries = _same_requests(run, teacher, found)
    cache_folder = folder / f"set-{found.number}" / f"look-{number}"
    asked = _ask(run, teacher, plan, canaries, cache_folder, options, dispatch)
    total = sum(map(len, asked.votes)) + asked.missing
    if asked.missing > MOST_MISSING * total:
        raise TeacherUnreachable(
            f"{asked.missing} of {total} answers did not arrive, so this look does not count",
            where=teacher.section.base_url,
            hint="Those that arrived are saved; run again to continue.",
        )
    look = _compare(run, found, asked, number)
    folder.mkdir(parents=True, exist_ok=True)
    append(folder / "history.jsonl", [to_plain(look)])
    return look


def _same_requests(run: Run, teacher: Teacher, found: CanarySet) -> tuple[LabellingPlan, dict[int, Canary]]:
    """Return a plan for the responses of the set whose request is the same as then, and each one's canary by coding.

    Raises:
        RunError: The codebook, the model or other settings have changed, or most responses are gone.
    """
    section, splits = teacher.section, run.records.splits
    hint = "Draw a new set with --renew; it is compared with the answers that were paid for with these settings."
    where = f"canary set {found.number} of {found.drawn}"
    if changes := codebook_changes(found.codebook, codebook_digests(run.project.task)):
        raise RunError(f"it was drawn for an older codebook ({changes})", where=where, hint=hint)
    for name, then, now in (("model", found.model, section.model), ("address", found.base_url, section.base_url)):
        if then != now:
            raise RunError(f"it was drawn for the {name} {then}, and the project has {now}", where=where, hint=hint)
    rows = (splits.train, splits.validation, splits.test)
    known = {response.id: response for each in rows for response in each.responses}
    known |= {response.id: response for response in run.records.unlabelled}
    there = [known[canary.id] for canary in found.rows if canary.id in known]
    votes = max(section.votes, _LEAST_FRESH)
    more = section.model_copy(update={"votes": votes})
    plan = LabellingPlan(there, teacher.codebook, more, teacher.example_selector)
    by_id = {canary.id: canary for canary in found.rows}
    same = {
        id(coding): by_id[response.id]
        for response, coding in plan.pairs
        if coding and _key(plan, coding) == by_id[response.id].key
    }
    if len(same) < max(FEWEST, len(found.rows) // 2):
        what = (
            "prompts or parameters have changed (examples, formats, temperature, max_output_tokens and so on)"
            if len(there) >= len(found.rows) // 2
            else "most of its responses are no longer in the data"
        )
        raise RunError(f"{what}: {len(same)} of {len(found.rows)} requests are the same", where=where, hint=hint)
    if len(same) < len(plan.codings):
        kept = [response for response, coding in plan.pairs if id(coding) in same]
        plan = LabellingPlan(kept, teacher.codebook, more, teacher.example_selector)
        same = {id(coding): by_id[response.id] for response, coding in plan.pairs if coding}
    return plan, same


def _ask(
    run: Run,
    teacher: Teacher,
    plan: LabellingPlan,
    canaries: Mapping[int, Canary],
    folder: Path,
    options: WatchOptions,
    dispatch: DispatchMode,
) -> _Asked:
    """Ask for every vote that this look does not have yet."""
    refused, requests, cost = "", 0, None
    with AnswerCache(folder) as cache:
        plan.load_cached(cache)
        for parse in (plan.parse, plan.parse_single):  # of a shared request, texts without a vote are then sent alone
            if not (open_requests := plan.coding_requests()):
                break
            try:
                usage = run_requests(
                    [plan.pending_request(request) for request in open_requests],
                    parse,
                    teacher.section,
                    cache,
                    on_progress=lambda _: run.on_progress("teacher watch", plan.done, plan.total),
                    budget=teacher.budget("watch"),
                    retry_policy=options.retry_policy,
                    dispatch=dispatch,
                )
            except (TeacherUnreachable, TeacherRefusedKey, TeacherUnknownModel, AnswersMissing):
                raise
            except TeacherError as error:
                refused = error.what
                break
            requests += usage.asked
            cost = usage.nano_dollars if cost is None else cost + (usage.nano_dollars or 0)
        models, fingerprints = _versions(cache, plan, plan.codings)
    votes, missing = [], 0
    for coding in plan.codings:
        now, lacking = _new_votes(coding, everything_refused=bool(refused))
        votes.append(now)
        missing += lacking
    return _Asked(
        tuple(canaries[id(coding)] for coding in plan.codings),
        tuple(votes),
        missing,
        models,
        fingerprints,
        requests,
        cost,
        refused,
    )


def _new_votes(coding: Coding, *, everything_refused: bool) -> tuple[tuple[str, ...], int]:
    """Return the new votes of a response, and the number of those that are missing."""
    known = _labels(coding)
    lacking = len(coding.votes) - len(known)
    if not lacking:
        return known, 0
    if everything_refused or (coding.failure and str(coding.failure.cause) not in _UNREACHED):
        return (*known, *[NO_ANSWER] * lacking), 0
    return known, lacking


def _compare(run: Run, found: CanarySet, asked: _Asked, number: int) -> Look:
    stored = [canary.votes for canary in asked.canaries]
    p, limit = changed_p(stored, asked.votes), level(found.false_alarms, number)
    new_models, new_fingerprints = (
        {name: count for name, count in now.items() if name not in then} if then else {}
        for now, then in ((asked.models, found.served_models), (asked.fingerprints, found.fingerprints))
    )
    # Written so that a p-value that is not a number is an alarm.
    changed = not p > limit
    return Look(
        schema_version=CANARY_VERSION,
        set=found.number,
        look=number,
        date=_today(),
        teacher=found.teacher,
        rows=len(asked.canaries),
        lost=len(found.rows) - len(asked.canaries),
        votes=sum(map(len, asked.votes)),
        missing=asked.missing,
        no_answer=sum(votes.count(NO_ANSWER) for votes in asked.votes),
        equal=equal_pairs(stored, asked.votes),
        equal_before=equal_pairs(stored),
        equal_now=equal_pairs(asked.votes),
        p=p,
        level=limit,
        kappa=_kappa(run, stored, asked.votes),
        shares=_shares(run, stored, asked.votes),
        new_models=new_models,
        new_fingerprints=new_fingerprints,
        verdict="answers changed" if changed else "model renamed" if new_models else "no change shown",
        notes=tuple(_notes(found, asked, stored)),
        requests=asked.requests,
        nano_dollars=asked.nano_dollars,
    )


def _kappa(run: Run, stored: Sequence[Sequence[str]], fresh: Sequence[Sequence[str]]) -> Estimate | None:
    pairs = [(_most(one), _most(other)) for one, other in zip(stored, fresh, strict=True) if one and other]
    coded = [pair for pair in pairs if NO_ANSWER not in pair]
    if not coded:
        return None
    return agreement([one for one, _ in coded], [other for _, other in coded], run.task).kappa


def _shares(
    run: Run, stored: Sequence[Sequence[str]], fresh: Sequence[Sequence[str]]
) -> dict[str, tuple[float, float]]:
    """Return the mean share of votes for each label; votes of a multilabel task count for each of their labels."""

    def share(votes: Sequence[Sequence[str]], label: str) -> float:
        rows = [
            sum(label == vote or (vote != NO_ANSWER and label in labels_in(vote, run.task)) for vote in of_row)
            / len(of_row)
            for of_row in votes
            if of_row
        ]
        return sum(rows) / len(rows) if rows else 0.0

    return {label: (share(stored, label), share(fresh, label)) for label in (*countable_labels(run.task), NO_ANSWER)}


def _notes(found: CanarySet, asked: _Asked, stored: Sequence[Sequence[str]]) -> list[str]:
    notes = []
    if asked.refused:
        notes.append(f"The endpoint refuses one response after the other: {asked.refused}.")
    if lost := len(found.rows) - len(asked.canaries):
        notes.append(f"{lost} canaries are no longer in the data, or their prompt has changed; they were not asked.")
    if asked.missing:
        notes.append(f"{asked.missing} votes did not arrive, and do not count.")
    if any(len(votes) == 1 for votes in stored):
        notes.append(
            "One stored vote per response does not show how much its answers varied; the new votes measure it."
        )
    return notes


def _today() -> str:
    return dt.datetime.now(dt.UTC).date().isoformat()
