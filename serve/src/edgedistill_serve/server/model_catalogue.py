"""The models that are served: found by name and version, and exchanged while they serve.

ModelCatalogue     the scorers that take requests now
BundleFolders         the bundle folders that they came from; knows when one holds something new
FolderStatus   what is served from one folder, and why what lies there now is not
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event, Lock
from typing import TypeAlias

from edgedistill_serve.bundle.loading import Bundle
from edgedistill_serve.errors import BundleError, EdgeDistillError, UnknownModel, WrongShape
from edgedistill_serve.scoring.score_cache import ENTRIES
from edgedistill_serve.scoring.scorer import Scorer

Loader: TypeAlias = Callable[[Path], Scorer]
"""Returns a scorer that is checked and warm; raises an error of ours for a bundle that cannot be served."""
_Stamp: TypeAlias = tuple[tuple[str, int, int, int], ...]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ModelCatalogue:
    """The scorers that take requests; never changed, only replaced.

    Attributes:
        scorers: In the order of their bundles; no two have the same name and version.
        default: The name of the model that a request means that names none.

    Raises:
        BundleError: Two bundles have the same name and version, or none has the default's name.
    """

    scorers: tuple[Scorer, ...] = ()
    default: str | None = None

    def __post_init__(self) -> None:
        """Check the names."""
        known: set[tuple[str, str]] = set()
        for scorer in self.scorers:
            if (identity := _identity(scorer)) in known:
                raise BundleError(f"two bundles are {'@'.join(identity)}", hint="Serve one of them.")
            known.add(identity)
        if self.scorers and self.default is not None and self.default not in self.names:
            raise BundleError(
                f"no bundle has the default model's name {self.default!r}", hint=f"There is {', '.join(self.names)}."
            )

    @property
    def names(self) -> tuple[str, ...]:
        """The models' names, without their versions, each once."""
        return tuple(dict.fromkeys(_identity(scorer)[0] for scorer in self.scorers))

    def find(self, model: str | None) -> Scorer:
        """Return the scorer that a request means.

        Args:
            model: ``name`` (the first bundle of that name), ``name@version``, or None for the default.

        Raises:
            WrongShape: None is named, and there are several and no default.
            UnknownModel: It is not served.
        """
        names = self.names
        if model is None and self.default is None and len(names) > 1:
            raise WrongShape(
                "several models are served and none is named", where="model", hint=f"Name one: {', '.join(names)}."
            )
        wanted = (self.default or names[0] if names else "") if model is None else model
        for scorer in self.scorers:
            name, version = _identity(scorer)
            if wanted in (name, f"{name}@{version}"):
                return scorer
        raise UnknownModel("no model of this name is served", where="model", hint=f"There is {', '.join(names)}.")


@dataclass(frozen=True, slots=True)
class FolderStatus:
    """What is served from one bundle folder.

    Attributes:
        folder: Its name, without what leads there.
        model: The name of the model that is served from it.
        version: Its version.
        swaps: How often another bundle took over since the start.
        failures: How often what lay there could not be served since the start; the one before it went on serving.
        fault: Why what lies there now is not served; None where it is.
    """

    folder: str
    model: str
    version: str
    swaps: int = 0
    failures: int = 0
    fault: str | None = None


def load_scorer(folder: Path, score_cache: int = ENTRIES, public_key: Path | None = None) -> Scorer:
    """Return a scorer of the bundle in a folder, checked and warm; its threads are those of whoever calls it.

    Args:
        folder: Holds a bundle.
        score_cache: As in `Scorer`.
        public_key: As for `Bundle.load`.

    Raises:
        EdgeDistillError: See `Bundle.load` and `Scorer`.
    """
    return Scorer(Bundle.load(folder, public_key=public_key), threads=1, score_cache=score_cache)


class BundleFolders:
    """Bundle folders; of each, the newest bundle that works is served.

    Args:
        folders: One or more.
        default: As in `ModelCatalogue`.
        load: Makes a scorer of a folder.
    """

    def __init__(self, folders: Sequence[Path], *, default: str | None = None, load: Loader = load_scorer) -> None:
        self._folders = tuple(folders)
        self._default = default
        self._load = load
        self._lock = Lock()
        self._stamps: list[_Stamp] = []
        self._catalogue = ModelCatalogue()
        self._states: tuple[FolderStatus, ...] = ()

    @property
    def catalogue(self) -> ModelCatalogue:
        """What is served; empty before `open`."""
        return self._catalogue

    @property
    def states(self) -> tuple[FolderStatus, ...]:
        """What is served from each folder, in order; empty before `open`."""
        return self._states

    def open(self) -> ModelCatalogue:
        """Load every bundle.

        Raises:
            EdgeDistillError: One of them cannot be served.
        """
        with self._lock:
            self._stamps = [_stamp(folder) for folder in self._folders]
            scorers = tuple(map(self._load, self._folders))
            self._catalogue = ModelCatalogue(scorers, self._default)
            pairs = zip(self._folders, scorers, strict=True)
            self._states = tuple(FolderStatus(folder.name, *_identity(scorer)) for folder, scorer in pairs)
            return self._catalogue

    def refresh(self, swap: Callable[[ModelCatalogue], object], *, changed_only: bool = False) -> None:
        """Load the bundles anew; one that cannot be served leaves its place to the one that serves already.

        It raises for no bundle: `states` has the faults.

        Args:
            swap: Given what is served from now on; of two refreshes at a time, the later one's comes last.
            changed_only: Leave alone the folders that hold what they held when they were last looked at.
        """
        with self._lock:
            for place, folder in enumerate(self._folders):
                stamp = _stamp(folder)
                if not changed_only or stamp != self._stamps[place]:
                    self._stamps[place] = stamp
                    self._refresh(place, folder)
            swap(self._catalogue)

    def settled(self, pause: Callable[[], object]) -> bool:
        """Whether the folders look the same before and after a pause: nobody is writing into them."""
        before = [_stamp(folder) for folder in self._folders]
        pause()
        return before == [_stamp(folder) for folder in self._folders]

    @property
    def changed(self) -> bool:
        """Whether a folder holds something else than when it was last looked at."""
        return self._stamps != [_stamp(folder) for folder in self._folders]

    def _refresh(self, place: int, folder: Path) -> None:
        served, state = self._catalogue.scorers, self._states[place]
        try:
            found = Bundle.load(folder).manifest
            # Thresholds that were changed by hand are another model under the same version.
            if found != served[place].bundle.manifest:
                scorer = self._load(folder)
                scorers = (*served[:place], scorer, *served[place + 1 :])
                self._catalogue = ModelCatalogue(scorers, self._default)
                state = FolderStatus(folder.name, *_identity(scorer), state.swaps + 1, state.failures)
                _log.info("%s@%s takes over", state.model, state.version)
            state = replace(state, fault=None)
        except EdgeDistillError as error:
            state = replace(state, failures=state.failures + 1, fault=str(error))
            _log.error("%s@%s goes on serving; what lies there now cannot: %s", state.model, state.version, error)
        self._states = (*self._states[:place], state, *self._states[place + 1 :])


def watch(
    folders: BundleFolders, swap: Callable[[ModelCatalogue], object], stop: Event, *, seconds: float = 2.0
) -> None:
    """Look at the folders again and again until told to stop, and swap in what is new there.

    A folder that somebody is writing into is left alone until it looks the same twice.

    Args:
        folders: Opened.
        swap: Given the new catalogue.
        stop: Set from another thread.
        seconds: Between two looks.
    """
    while not stop.wait(seconds):
        if folders.changed and folders.settled(lambda: stop.wait(seconds)) and not stop.is_set():
            folders.refresh(swap, changed_only=True)


def _identity(scorer: Scorer) -> tuple[str, str]:
    manifest = scorer.bundle.manifest
    return manifest.name, manifest.version


def _stamp(folder: Path) -> _Stamp:
    """Say what the files of a folder look like from outside; it changes where one of them is written or replaced."""
    found = []
    try:
        for file in sorted(folder.rglob("*")):
            status = file.stat()
            found.append((str(file.relative_to(folder)), status.st_mtime_ns, status.st_size, status.st_ino))
    except OSError:  # it is being replaced at this moment
        return ()
    return tuple(found)
