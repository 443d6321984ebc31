"""Hyperparameter search: its space, its SQLite storage, its trials, and the workers that run them.

A trial is one setting with one seed. Workers take trials under a lock, and hold the trial's own lock while they run it.
The system frees that lock when the process dies, so a trial that is running but not locked was interrupted: the next
worker marks it as failed and runs it again.
"""

import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal, TypeAlias

import optuna
from filelock import FileLock, Timeout
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import BaseStorage, InMemoryStorage, RDBStorage
from optuna.trial import FrozenTrial, TrialState

from edgedistill.errors import SearchInterrupted, TrainingFailed
from edgedistill.project.student import CountRange, LearningRange, SearchSection
from edgedistill.student.checkpoints import BestCheckpoint
from edgedistill.student.trial import Setting
from edgedistill.student.types import Epoch, Trial
from edgedistill_serve.errors import first_line

Parameters: TypeAlias = dict[str, Any]
"""``learning_rate``, ``batch_size`` and ``epochs`` of one setting."""

NAMES = ("learning_rate", "batch_size", "epochs")


def distributions(section: SearchSection) -> dict[str, BaseDistribution]:
    """The distribution of each parameter; ranges of learning rates are log-uniform.

    Raises:
        ValueError: A parameter is not set; `presets.complete_search` sets it.
    """
    return {name: _distribution(_values(section, name)) for name in NAMES}


def grid(section: SearchSection) -> list[Parameters]:
    """All combinations of the lists; epochs vary fastest.

    Raises:
        ValueError: A parameter is not set; `presets.complete_search` sets it.
    """
    combinations = product(*(_values(section, name) for name in NAMES))
    return [dict(zip(NAMES, values, strict=True)) for values in combinations]


def _values(section: SearchSection, name: str) -> Any:
    values = getattr(section, name)
    if values is None:
        raise ValueError(f"search.{name} is not set")
    return values


def _distribution(values: tuple[float, ...] | LearningRange | CountRange) -> BaseDistribution:
    if isinstance(values, LearningRange):
        return FloatDistribution(values.low, values.high, log=True)
    if isinstance(values, CountRange):
        return IntDistribution(values.low, values.high)
    return CategoricalDistribution(values)


STORAGE_FILE = "search.sqlite3"
_BUSY_SECONDS = 60


def open_storage(folder: Path | None) -> BaseStorage:
    """Open or create the storage file in a folder; without a folder, store the search in memory.

    Raises:
        SearchInterrupted: The file is not an Optuna storage, or cannot be written.
    """
    if folder is None:
        return InMemoryStorage()
    file = folder / STORAGE_FILE

    def connect() -> sqlite3.Connection:
        return sqlite3.connect(file, timeout=_BUSY_SECONDS, check_same_thread=False)

    with storage_errors(file):
        # A custom connection, because Optuna and SQLAlchemy interpret braces and question marks in paths.
        return RDBStorage("sqlite:///" + STORAGE_FILE, engine_kwargs={"creator": connect})


@contextmanager
def storage_errors(place: Path) -> Iterator[None]:
    """Run the block and turn errors of the storage into ours.

    Raises:
        SearchInterrupted: The storage cannot be read or written.
    """
    try:
        yield
    except Exception as error:
        # Optuna wraps most errors of its database, but lets some through that SQLAlchemy raised from one of sqlite3.
        known = (optuna.exceptions.OptunaError, sqlite3.Error, OSError)
        if not isinstance(error, known) and not isinstance(error.__cause__, sqlite3.Error):
            raise
        raise SearchInterrupted(
            f"the search cannot be stored ({first_line(error.__cause__ or error)})",
            where=str(place),
            hint=f"Free disk space and give write permission; where {STORAGE_FILE} is damaged, delete it.",
        ) from error


@contextmanager
def quiet_optuna() -> Iterator[None]:
    """Run the block with Optuna's log level set to ERROR."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(level)


def trial_setting(trial: FrozenTrial) -> Setting:
    """Return a trial's setting."""
    return Setting(**trial.params, seed=trial.user_attrs["seed"])


def finished_trial(trial: FrozenTrial) -> Trial:
    """Return a finished trial."""
    attributes = trial.user_attrs
    failure, hint = attributes.get("failure", ("", None))
    outcomes: dict[TrialState, Literal["done", "pruned", "failed"]] = {
        TrialState.COMPLETE: "done",
        TrialState.PRUNED: "pruned",
        TrialState.FAIL: "failed",
    }
    return Trial(
        **asdict(trial_setting(trial)),
        history=tuple(Epoch(**epoch) for epoch in attributes["history"]),
        seconds=attributes["seconds"],
        outcome=outcomes[trial.state],
        failure=failure,
        hint=hint,
    )


_POLL_SECONDS = 0.2
_OVER = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


@dataclass(frozen=True, slots=True)
class SearchProgress:
    """The progress of a search, over all its processes.

    Attributes:
        over: Finished trials.
        trials: All trials.
        steps: Optimizer steps of finished trials.
        all_steps: Optimizer steps of all trials; settings not sampled yet count with the mean of the others.
    """

    over: int
    trials: int
    steps: int
    all_steps: int


@dataclass(frozen=True, slots=True)
class RunningTrial:
    """A trial that this process runs.

    Attributes:
        trial: Optuna's trial.
        setting: Its hyperparameters and seed.
        kept: Its best checkpoint, in the trial's folder, which is the same when it is run again.
        lock: Held until it has finished.
    """

    trial: optuna.Trial
    setting: Setting
    kept: BestCheckpoint
    lock: FileLock

    def should_prune(self, epoch: Epoch) -> bool:
        """Report an epoch; return whether the trial should be pruned.

        Raises:
            SearchInterrupted: The storage cannot be read or written.
        """
        with storage_errors(self.kept.folder):
            self.trial.report(epoch.macro_f1, epoch.epoch)
            return self.trial.should_prune()


@dataclass(frozen=True, slots=True)
class _PendingTrial:
    """A trial to run; without parameters, they are sampled first."""

    proposal: int
    seed: int
    parameters: Parameters | None


class Search:
    """A search: its trials and its best checkpoint so far.

    Args:
        section: The search space.
        seeds: Each setting runs once per seed.
        name: Fingerprint of rows and settings; it identifies the search within the storage.
        store: Folder of the storage file, which other processes may share; None: in memory.
        folder: Folder of checkpoints and locks.

    Raises:
        SearchInterrupted: The storage cannot be read or written.
    """

    def __init__(
        self, section: SearchSection, seeds: Sequence[int], name: str, store: Path | None, folder: Path
    ) -> None:
        self._section, self._seeds, self._name, self._folder = section, seeds, name, folder / name
        with storage_errors(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder / "store.lock"):
                self._storage = open_storage(store)
        self.best = BestCheckpoint(self._folder)
        self._lock = FileLock(self._folder / "search.lock")
        self.notes: tuple[str, ...] = ()
        with storage_errors(self._folder), self._lock:
            self._open()

    def take(self) -> RunningTrial | None:
        """Take the next trial; return None when all have finished, including other processes'.

        Raises:
            SearchInterrupted: The storage cannot be read or written.
        """
        while True:
            with storage_errors(self._folder), self._lock:
                self._fail_interrupted()
                if running := self._next():
                    return running
                others = self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
            if not others:
                return None
            with self._lock_of(others[0].number).acquire(poll_interval=_POLL_SECONDS):
                pass  # its process has finished it, or died

    def finish(self, running: RunningTrial, history: Sequence[Epoch], seconds: float, *, early: bool) -> None:
        """Record a finished trial, and keep its checkpoint if it is the best.

        Args:
            running: The trial.
            history: Its epochs, at least one.
            seconds: Its wall time.
            early: Whether it was pruned.

        Raises:
            SearchInterrupted: The storage or the student cannot be written.
        """
        with storage_errors(self._folder), self._lock:
            self._note(running, history, seconds)
            self.best.adopt(running.kept)
            if early:
                self._study.tell(running.trial, state=TrialState.PRUNED)
            else:
                self._study.tell(running.trial, max(epoch.macro_f1 for epoch in history))
        self._leave(running)

    def fail(self, running: RunningTrial, history: Sequence[Epoch], seconds: float, failure: TrainingFailed) -> None:
        """Record a failed trial.

        Raises:
            SearchInterrupted: The storage cannot be written.
        """
        with storage_errors(self._folder), self._lock:
            self._note(running, history, seconds)
            running.trial.set_user_attr("failure", [failure.what, failure.hint])
            self._study.tell(running.trial, state=TrialState.FAIL)
        self._leave(running)

    @property
    def trials(self) -> tuple[Trial, ...]:
        """All finished trials, by setting and seed."""
        with storage_errors(self._folder):
            over = [trial for trial in self._live() if trial.state in _OVER]
        place = {seed: number for number, seed in enumerate(self._seeds)}
        over.sort(key=lambda trial: (trial.user_attrs["proposal"], place[trial.user_attrs["seed"]]))
        return tuple(map(finished_trial, over))

    def progress_so_far(self, rows: int) -> SearchProgress:
        """Return the progress of the search on so many rows."""
        with storage_errors(self._folder):
            over = [trial_setting(trial).steps(rows) for trial in self._live() if trial.state in _OVER]
            proposed = [Setting(**parameters, seed=0).steps(rows) for parameters in self._proposals().values()]
        unknown = (self._section.trials or len(proposed)) - len(proposed)
        mean = sum(proposed) / len(proposed) if proposed else 0
        settings = len(proposed) + unknown
        all_steps = round(sum(proposed) + unknown * mean) * len(self._seeds)
        return SearchProgress(len(over), settings * len(self._seeds), sum(over), all_steps)

    def _open(self) -> None:
        others = {study.study_name for study in self._storage.get_all_studies()} - {self._name}
        if others:
            self.notes += (
                f"{STORAGE_FILE} has {len(others)} more searches, with other rows or settings; they are not used.",
            )
        self._study = self._created()
        self._fail_interrupted()
        live = self._live()
        if live and all(trial.state in _OVER for trial in live) and self._begins_anew(live):
            optuna.delete_study(study_name=self._name, storage=self._storage)
            self._study = self._created()

    def _begins_anew(self, over: Sequence[FrozenTrial]) -> bool:
        """Whether the search must start over: all trials failed, or the best checkpoint is missing."""
        if all(trial.state is TrialState.FAIL for trial in over):
            return True
        if self.best.checkpoint is None:
            self.notes += ("The best checkpoint of the search was missing, so the search started over.",)
            return True
        return False

    def _created(self) -> optuna.Study:
        pruner = optuna.pruners.MedianPruner(n_warmup_steps=1) if self._section.prune else optuna.pruners.NopPruner()
        return optuna.create_study(
            study_name=self._name, storage=self._storage, direction="maximize", pruner=pruner, load_if_exists=True
        )

    def _fail_interrupted(self) -> None:
        for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            lock = self._lock_of(trial.number)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                continue
            self._study.tell(trial.number, state=TrialState.FAIL)
            lock.release()

    def _next(self) -> RunningTrial | None:
        # A waiting trial was queued by a process that died before it ran it.
        waiting = self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        wanted = None if waiting else self._wanted()
        if not waiting and wanted is None:
            return None
        if wanted and wanted.parameters:
            marks = {"proposal": wanted.proposal, "seed": wanted.seed}
            self._study.enqueue_trial(wanted.parameters, user_attrs=marks)
        # The seed differs between trials, so that a resumed search does not repeat its first samples.
        chance = (self._seeds[0] + len(self._study.get_trials(deepcopy=False))) % 2**32
        self._study.sampler = optuna.samplers.TPESampler(seed=chance, constant_liar=True)
        trial = self._study.ask(distributions(self._section))
        if wanted and not wanted.parameters:
            trial.set_user_attr("proposal", wanted.proposal)
            trial.set_user_attr("seed", wanted.seed)
        lock = self._lock_of(trial.number)
        lock.acquire()
        attributes = trial.user_attrs
        place = self._folder / f"trial-{attributes['proposal']}-{attributes['seed']}"
        return RunningTrial(trial, Setting(**trial.params, seed=attributes["seed"]), BestCheckpoint(place), lock)

    def _wanted(self) -> _PendingTrial | None:
        """The next trial that no process has taken."""
        running = {(trial.user_attrs["proposal"], trial.user_attrs["seed"]) for trial in self._live()}
        proposals = self._proposals()
        for proposal, parameters in sorted(proposals.items()):
            for seed in self._seeds:
                if (proposal, seed) not in running:
                    return _PendingTrial(proposal, seed, parameters)
        if len(proposals) < (self._section.trials or 0):
            return _PendingTrial(len(proposals), self._seeds[0], None)
        return None

    def _proposals(self) -> dict[int, Parameters]:
        """The grid's settings, or those sampled so far, including in interrupted trials."""
        if self._section.method == "grid":
            return dict(enumerate(grid(self._section)))
        wanted = set(distributions(self._section))
        trials = self._study.get_trials(deepcopy=False)
        return {
            trial.user_attrs["proposal"]: trial.params
            for trial in trials
            if "proposal" in trial.user_attrs and set(trial.params) == wanted
        }

    def _live(self) -> list[FrozenTrial]:
        """All trials except interrupted ones."""
        return [
            trial
            for trial in self._study.get_trials(deepcopy=False)
            if "seed" in trial.user_attrs and (trial.state is not TrialState.FAIL or "failure" in trial.user_attrs)
        ]

    def _note(self, running: RunningTrial, history: Sequence[Epoch], seconds: float) -> None:
        running.trial.set_user_attr("history", [asdict(epoch) for epoch in history])
        running.trial.set_user_attr("seconds", seconds)

    def _leave(self, running: RunningTrial) -> None:
        shutil.rmtree(running.kept.folder, ignore_errors=True)
        running.lock.release()

    def _lock_of(self, number: int) -> FileLock:
        return FileLock(self._folder / f"trial-{number}.lock")
