"""The served models: lookup by name and version, and replacement at run time.

ModelCatalogue   the scorers for new requests
BundleFolders    the folders of the bundles, with detection of new bundles
FolderStatus     the model served from one folder, and the error of a newer bundle that cannot be served
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event, Lock
from typing import TypeAlias

from edgedistill_serve.bundle.loading import Bundle
from edgedistill_serve.bundle.manifest import NAME_RULE, is_servable
from edgedistill_serve.errors import BundleError, EdgeDistillError, UnknownModel, WrongShape
from edgedistill_serve.scoring.score_cache import ENTRIES
from edgedistill_serve.scoring.scorer import Scorer

Loader: TypeAlias = Callable[[Path], Scorer]
"""Returns a checked and warmed up scorer; raises an `EdgeDistillError` for a bundle that cannot be served."""
Fingerprint: TypeAlias = tuple[tuple[str, int, int, int], ...]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ModelCatalogue:
    """The scorers for new requests; immutable.

    Attributes:
        scorers: The scorers in the order of their bundles, with distinct names and versions.
        default: Name of the model for requests that name none.

    Raises:
        BundleError: Two bundles have the same name and version, the name or the version of a bundle cannot stand in a
            path, a header or ``NAME@VERSION``, or no bundle has the name of the default.
    """

    scorers: tuple[Scorer, ...] = ()
    default: str | None = None

    def __post_init__(self) -> None:
        """Check names and versions."""
        known: set[tuple[str, str]] = set()
        for scorer in self.scorers:
            _check_identity(scorer.bundle)
            if (identity := _identity(scorer)) in known:
                raise BundleError(f"two bundles are {'@'.join(identity)}", hint="Serve one of them.")
            known.add(identity)
        if self.scorers and self.default is not None and self.default not in self.names:
            raise BundleError(
                f"no bundle has the name of the default model, {self.default!r}",
                hint=f"Name one of {', '.join(self.names)}.",
            )

    @property
    def names(self) -> tuple[str, ...]:
        """The distinct names of the models, without versions."""
        return tuple(dict.fromkeys(_identity(scorer)[0] for scorer in self.scorers))

    def find(self, model: str | None) -> Scorer:
        """Return the scorer for a request.

        Args:
            model: ``name`` (the first bundle with that name), ``name@version``, or None for the default.

        Raises:
            WrongShape: The request names no model, and several are served without a default.
            UnknownModel: The model is not served.
        """
        names = self.names
        if model is None and self.default is None and len(names) > 1:
            raise WrongShape(
                "several models are served and the request names none",
                where="model",
                hint=f"Name one of {', '.join(names)}.",
            )
        requested = (self.default or names[0] if names else "") if model is None else model
        for scorer in self.scorers:
            name, version = _identity(scorer)
            if requested in (name, f"{name}@{version}"):
                return scorer
        raise UnknownModel("no model of this name is served", where="model", hint=f"Name one of {', '.join(names)}.")


@dataclass(frozen=True, slots=True)
class FolderStatus:
    """The model served from one bundle folder.

    Attributes:
        folder: Name of the folder, without its parents.
        model: Name of the served model.
        version: Version of the served model.
        swaps: Number of replacements since the start.
        failures: Number of bundles since the start that could not be served; the previous one stayed in service.
        fault: Error of the current content of the folder; None if it is served.
    """

    folder: str
    model: str
    version: str
    swaps: int = 0
    failures: int = 0
    fault: str | None = None


def load_scorer(folder: Path, score_cache: int = ENTRIES, public_key: Path | None = None) -> Scorer:
    """Load the bundle in a folder, and return a checked and warmed up scorer, which has no threads of its own.

    Args:
        folder: A bundle.
        score_cache: As for `Scorer`.
        public_key: As for `Bundle.load`.

    Raises:
        EdgeDistillError: See `Bundle.load` and `Scorer`.
    """
    return Scorer(Bundle.load(folder, public_key=public_key), threads=1, score_cache=score_cache)


class BundleFolders:
    """The bundle folders of a server. The last valid bundle of each folder is served.

    Args:
        folders: One or more folders.
        default: As in `ModelCatalogue`.
        load: Loads a scorer from a folder.
    """

    def __init__(self, folders: Sequence[Path], *, default: str | None = None, load: Loader = load_scorer) -> None:
        self._folders = tuple(folders)
        self._default = default
        self._load = load
        self._lock = Lock()
        self._fingerprints: list[Fingerprint] = []
        self._catalogue = ModelCatalogue()
        self._statuses: tuple[FolderStatus, ...] = ()

    @property
    def catalogue(self) -> ModelCatalogue:
        """The served models; empty before `open`."""
        return self._catalogue

    @property
    def statuses(self) -> tuple[FolderStatus, ...]:
        """The status of each folder, in order; empty before `open`."""
        return self._statuses

    def open(self) -> ModelCatalogue:
        """Load every bundle.

        Raises:
            EdgeDistillError: A bundle cannot be served.
        """
        with self._lock:
            self._fingerprints = [fingerprint(folder) for folder in self._folders]
            scorers = tuple(map(self._load, self._folders))
            self._catalogue = ModelCatalogue(scorers, self._default)
            pairs = zip(self._folders, scorers, strict=True)
            self._statuses = tuple(FolderStatus(folder.name, *_identity(scorer)) for folder, scorer in pairs)
            return self._catalogue

    def refresh(self, swap: Callable[[ModelCatalogue], object], *, changed_only: bool = False) -> None:
        """Load the bundles again. If a bundle cannot be served, the model already served from its folder stays.

        Invalid bundles raise no error; `statuses` reports them.

        Args:
            swap: Called with the new catalogue. Concurrent refreshes call it in order.
            changed_only: Whether to skip folders that have not changed since they were last checked.
        """
        with self._lock:
            candidate = self._prepare(changed_only=changed_only)
            for before, after in zip(self._statuses, candidate.statuses, strict=True):
                log_swap(before, after)
            self._install(candidate)
            swap(self._catalogue)

    def prepare(self) -> "Candidate":
        """Load the bundles again as `refresh` does, but serve them only after `install`."""
        with self._lock:
            return self._prepare(changed_only=False)

    def install(self, candidate: "Candidate") -> None:
        """Make a candidate the served models."""
        with self._lock:
            self._install(candidate)

    def reject(self, candidate: "Candidate", fault: str) -> None:
        """Keep the served models, and report the fault for each folder whose model the candidate would replace."""
        with self._lock:
            statuses = []
            for before, after in zip(self._statuses, candidate.statuses, strict=True):
                is_replaced = after.swaps > before.swaps
                statuses.append(replace(before, failures=before.failures + 1, fault=fault) if is_replaced else after)
            self._statuses = tuple(statuses)

    def settled(self, pause: Callable[[], object]) -> bool:
        """Return whether the folders do not change during a pause, so that no process is writing to them."""
        before = [fingerprint(folder) for folder in self._folders]
        pause()
        return before == [fingerprint(folder) for folder in self._folders]

    @property
    def changed(self) -> bool:
        """Whether a folder has changed since it was last checked."""
        return self._fingerprints != [fingerprint(folder) for folder in self._folders]

    def _prepare(self, *, changed_only: bool) -> "Candidate":
        catalogue, statuses = self._catalogue, list(self._statuses)
        for index, folder in enumerate(self._folders):
            found = fingerprint(folder)
            if changed_only and found == self._fingerprints[index]:
                continue
            self._fingerprints[index] = found
            catalogue, statuses[index] = self._load_again(catalogue, index, statuses[index])
        return Candidate(catalogue, tuple(statuses))

    def _install(self, candidate: "Candidate") -> None:
        self._catalogue, self._statuses = candidate.catalogue, candidate.statuses

    def _load_again(
        self, catalogue: ModelCatalogue, index: int, status: FolderStatus
    ) -> tuple[ModelCatalogue, FolderStatus]:
        served, folder = catalogue.scorers, self._folders[index]
        try:
            manifest = Bundle.load(folder).manifest
            # Compared in full: thresholds can be edited without a new version.
            if manifest != served[index].bundle.manifest:
                scorer = self._load(folder)
                scorers = (*served[:index], scorer, *served[index + 1 :])
                catalogue = ModelCatalogue(scorers, self._default)
                status = FolderStatus(folder.name, *_identity(scorer), status.swaps + 1, status.failures)
            return catalogue, replace(status, fault=None)
        except Exception as error:  # noqa: BLE001  # whatever is wrong with a new bundle, the previous one is served
            # Without the message of a foreign exception, which may contain texts.
            fault = str(error) if isinstance(error, EdgeDistillError) else f"it cannot be loaded ({_type_name(error)})"
            return catalogue, replace(status, failures=status.failures + 1, fault=fault)


@dataclass(frozen=True, slots=True)
class Candidate:
    """Models that were loaded and checked, and are not served yet.

    Attributes:
        catalogue: The models.
        statuses: The status of each folder once they are served.
    """

    catalogue: ModelCatalogue
    statuses: tuple[FolderStatus, ...]


def log_swap(before: FolderStatus, after: FolderStatus) -> None:
    """Log that a folder's model was replaced, or that its new bundle cannot be served."""
    fields = {"model": after.model, "version": after.version}
    if after.swaps > before.swaps:
        _log.info("%s@%s is now served", *fields.values(), extra={"event": "model_swapped", "fields": fields})
    elif after.failures > before.failures:
        extra = {"event": "bundle_refused", "fields": fields}
        message = "the new bundle cannot be served; %s@%s stays: %s"
        _log.error(message, after.model, after.version, after.fault, extra=extra)


def watch(
    folders: BundleFolders,
    swap: Callable[[ModelCatalogue], object],
    stop: Event,
    *,
    seconds: float = 2.0,
    on_check: Callable[[BaseException | None], object] = lambda _: None,
) -> None:
    """Check the folders periodically, and serve new bundles. A check that fails does not end the checks.

    A folder that is being written is skipped until two checks in a row see the same content.

    Args:
        folders: Opened folders.
        swap: Called with the new catalogue.
        stop: Ends the function; set by another thread.
        seconds: Time between two checks.
        on_check: Called after each check with the exception that it raised, or None.
    """
    while not stop.wait(seconds):
        fault: BaseException | None = None
        try:
            if folders.changed and folders.settled(lambda: stop.wait(seconds)) and not stop.is_set():
                folders.refresh(swap, changed_only=True)
        except BaseException as error:  # noqa: BLE001  # later bundles must be noticed
            fault = error
        on_check(fault)


def _check_identity(bundle: Bundle) -> None:
    manifest = bundle.manifest
    for key, text in (("name", manifest.name), ("version", manifest.version)):
        if not is_servable(text):
            raise BundleError(
                f"the {key} {text[:100]!r} cannot stand in the path /v2/models/NAME/versions/VERSION",
                where=f"{bundle.folder.name}/bundle.json, {key}",
                hint=f'Change "{key}" there: {NAME_RULE}. Sign the bundle again if it was signed. Its scores do not '
                "change.",
            )


def _type_name(error: Exception) -> str:
    return type(error).__name__


def _identity(scorer: Scorer) -> tuple[str, str]:
    manifest = scorer.bundle.manifest
    return manifest.name, manifest.version


def fingerprint(folder: Path) -> Fingerprint:
    """Return names, times, sizes and inodes of the files of a folder, which change with every write or replacement."""
    files = []
    try:
        for file in sorted(folder.rglob("*")):
            status = file.stat()
            files.append((str(file.relative_to(folder)), status.st_mtime_ns, status.st_size, status.st_ino))
    except OSError:  # the folder is being replaced
        return ()
    return tuple(files)
