"""The runs that are done, a file each; a run that was stopped at any moment is made again, and no other one.

runs/ID.json    the outcome of a run, written aside and moved into place
runs/ID.lock    held by the process that makes the run; the system lets go of it when that process ends
work/ID/        checkpoints while the run is made
"""

import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
from filelock import FileLock, Timeout

from edgedistill.errors import RunError
from edgedistill.records import CodedResponse, MixtureRow
from edgedistill.stages.folder import RunFolder, fingerprint
from edgedistill.studies.material import Material
from edgedistill.studies.settings import Settings, settings_for
from edgedistill.studies.types import Outcome, Plan

_FORMAT = 1
"""Raised when the same plan would give another outcome, so that older runs are made anew."""


@dataclass(frozen=True, slots=True)
class Journal:
    """The runs of a study.

    Attributes:
        folder: The study's run folder; all kinds of studies share its runs.
    """

    folder: Path

    def outcome(self, ident: str) -> Outcome | None:
        """Return what came of a run; None where it is not done, or its file is damaged."""
        try:
            found = msgspec.json.decode(self._file(ident).read_bytes(), type=Outcome)
        except (OSError, msgspec.DecodeError):
            return None
        return found if found.run == ident else None

    def keep(self, outcome: Outcome) -> None:
        """Write what came of a run.

        Raises:
            RunError: It cannot be written.
        """
        file = self._file(outcome.run)
        RunFolder(file.parent).write_text(file.name, msgspec.json.encode(outcome).decode())

    @contextmanager
    def claimed(self, ident: str) -> Iterator[Path | None]:
        """Claim a run and hand out an empty folder for its work; None where another process makes it.

        Raises:
            RunError: The study's folder cannot be written.
        """
        work = self.folder / "work" / ident
        try:
            self._file(ident).parent.mkdir(parents=True, exist_ok=True)
            with FileLock(self._file(ident).with_suffix(".lock"), timeout=0):
                # What a process left that was killed while it made this run.
                shutil.rmtree(work, ignore_errors=True)
                work.mkdir(parents=True)
                try:
                    yield work
                finally:
                    shutil.rmtree(work, ignore_errors=True)
        except Timeout:
            yield None
        except OSError as error:
            raise RunError(
                f"cannot be written ({error.strerror})",
                where=str(self.folder),
                mend="Give the study's folder room and write permission.",
            ) from None

    def tidy(self) -> None:
        """Remove what killed processes left of runs that nobody makes now."""
        for left in (self.folder / "work").glob("*"):
            with self.claimed(left.name):
                pass  # claiming clears the folder

    def _file(self, ident: str) -> Path:
        return self.folder / "runs" / f"{ident}.json"


def ident_of(plan: Plan, material: Material, settings: Settings) -> str:
    """Return a run's fingerprint, of all that decides its outcome and nothing else.

    What a study calls the run does not count: two studies, or two conditions, that come to the same share it.
    """
    blocks = [[_content(block.new), _content(block.again)] for block in plan.blocks]
    taught = material.taught[plan.coder] if plan.coder else None
    how = settings_for(settings, material, max(1, len(plan.rows)), plan.seed).model_dump(mode="json")
    return fingerprint(
        [
            _FORMAT,
            plan.learner,
            taught and dict(taught.test),
            _content(plan.rows),
            blocks,
            how,
            settings.protocol,
            material.weights,
            _coded(settings.chooses(material)),
            {name: _coded(rows) for name, rows in material.tests.items()},
            [material.task.kind, material.task.names, material.task.inputs],
            material.data,
        ]
    )[:32]


def _content(rows: Sequence[MixtureRow]) -> list[object]:
    return [[row.id, row.source, row.label, dict(row.shares), dict(row.inputs)] for row in rows]


def _coded(rows: Iterable[CodedResponse]) -> list[object]:
    return [[row.response.id, row.label, dict(row.response.inputs)] for row in rows]
