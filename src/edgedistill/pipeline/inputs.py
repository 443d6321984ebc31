"""What a stage may read, as it declares it; its fingerprint is derived from the declaration.

A stage gets a run whose project, records and folder are restricted to its `StageInputs`: reading anything else raises
`UndeclaredInput`. So a stage cannot depend on something that its fingerprint leaves out.
"""

import dataclasses
import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import cached_property, partial
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import msgspec
from pydantic import BaseModel

from edgedistill.coding.figures import journal_file
from edgedistill.data import Records
from edgedistill.data.types import TestRows, TrainRows, ValidationRows
from edgedistill.pipeline.folder import RunFolder, file_digest, hash_json

if TYPE_CHECKING:  # a run restricts itself
    from edgedistill.pipeline.run import Run
    from edgedistill.project.schema import Project

T = TypeVar("T")
R = TypeVar("R", TrainRows, ValidationRows, TestRows)

_FETCHING: Final = {
    "concurrency": "how many requests are open at once does not change their answers",
    "cache": "the folder that keeps the answers does not change them",
    "prices": "what an answer costs does not change it",
    "budget": "a cap stops a stage or not; it does not change an answer",
    "api_key_env": "the key does not change an answer",
}
NOT_INPUTS: Final[Mapping[str, str]] = {
    "project.name": "it names the run folder: another name is another run",
    "project.track": "where results are logged does not change them",
    "project.path": "where the project file is does not change what it says",
    **{f"project.teacher.{name}": reason for name, reason in _FETCHING.items()},
    **{f"project.teachers.{name}": reason for name, reason in _FETCHING.items()},
    "results.run.json.versions": "a newer version of a tool does not invalidate what an older one made",
}
"""What every stage may read and what makes none run again, with the reason; a stage may declare it nevertheless.

Three more things are not inputs: how a stage is run (``--offline``, ``--accept-teacher``, ``--batch`` and the like),
environment variables, and a backbone that is named and not a folder.
"""

FILES: Final[Mapping[str, tuple[str, ...]]] = {
    "project.student.backbone": ("",),
    "project.evaluation.population": ("",),
    "project.evaluation.human_trained": ("student", "mixture.csv"),
    "project.report.study": ("runs.csv",),
    "project.report.compare_with": ("bundle.json",),
    "project.teacher.labels": ("",),
    "project.teachers.labels": ("",),
}
"""Fields that name a file or folder whose content is an input, too: for a folder, which of its files."""

_FORMAT = 4
"""Raised when a stage's results change their meaning, so that older results are made again."""


class UndeclaredInput(RuntimeError):
    """A stage reads what it does not declare: an error in the stage, not in the project."""


@dataclasses.dataclass(frozen=True, slots=True)
class StageInputs:
    """What a stage reads, as dotted paths.

    A path stands for everything below it. The longest path that fits counts, so that ``but`` and `NOT_INPUTS` make
    exceptions to ``paths``.

    Attributes:
        paths: Of the project, such as ``project.student.backbone``; of the records, such as ``records.splits.train``
            (``records.codes`` are the codes of single coders and the subgroup columns of test rows,
            ``records.validation_codes`` and ``records.validation_groups`` those of validation rows); of the run folder,
            such as ``results.mixture.csv`` or one key of a JSON file, such as ``results.gate.json.used``.
        but: Paths below these that it does not read.
        log: Whether it reads `run.json` as a whole, whose times and costs do not make it run again.
    """

    paths: tuple[str, ...]
    but: tuple[str, ...] = ()
    log: bool = False

    def counts(self, path: str) -> bool:
        """Return whether a path is in the fingerprint."""
        return self._nearest(path, self.paths, (*self.but, *NOT_INPUTS))

    def readable(self, path: str) -> bool:
        """Return whether a path can be read; what cannot is no input."""
        return self._nearest(path, (*self.paths, *NOT_INPUTS), self.but)

    def whole(self, path: str) -> bool:
        """Return whether everything below a path can be read."""
        return self.readable(path) and not any(each.startswith(f"{path}.") for each in self.but)

    def partly(self, path: str) -> bool:
        """Return whether something below a path is declared."""
        return self.readable(path) or any(each.startswith(f"{path}.") for each in self.paths)

    @staticmethod
    def _nearest(path: str, included: tuple[str, ...], excluded: tuple[str, ...]) -> bool:
        """Return whether the longest path above this one, or the same, that is among any is among the included."""
        while path:
            if path in included:
                return True
            if path in excluded:
                return False
            path = path.rpartition(".")[0]
        return False


class RestrictedView:
    """A section of the project, or a dataclass of the records, of which a stage reads only what it declares.

    Properties and methods work as on the original, and are restricted alike.
    """

    __slots__ = ("_inputs", "_original", "_path", "_stage")

    def __init__(self, original: Any, path: str, stage: str, inputs: StageInputs) -> None:
        self._original, self._path, self._stage, self._inputs = original, path, stage, inputs

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        """The original's class, so that `isinstance` holds."""
        return type(self._original)

    @classmethod
    def of(cls, original: T, path: str, stage: str, inputs: StageInputs) -> T:
        """Return a view that stands for the original."""
        return cast("T", cls(original, path, stage, inputs))

    def __getattr__(self, name: str) -> Any:
        if name in _field_names(self._original):
            return restrict(getattr(self._original, name), f"{self._path}.{name}", self._stage, self._inputs)
        if name in ("model_copy", "model_dump", "model_fields_set"):
            return getattr(self, f"_{name}")
        for kind in type(self._original).__mro__:
            if name in vars(kind) and kind.__module__.startswith("edgedistill"):
                return _bound(vars(kind)[name], self, kind)
        raise AttributeError(f"{type(self._original).__name__} has no {name!r} that a stage may use")

    @property
    def _model_fields_set(self) -> set[str]:
        given = self._original.model_fields_set
        return {name for name in given if self._inputs.readable(f"{self._path}.{name}")}

    def _model_copy(self, *, update: Mapping[str, Any]) -> "RestrictedView":
        return RestrictedView(self._original.model_copy(update=update), self._path, self._stage, self._inputs)

    def _model_dump(self, **options: Any) -> Any:
        return select(self._original.model_dump(**options), self._path, self._inputs.readable)


def _bound(attribute: Any, view: RestrictedView, kind: type) -> Any:
    if isinstance(attribute, property | cached_property):
        compute = attribute.fget if isinstance(attribute, property) else attribute.func
        return cast("Callable[[Any], Any]", compute)(view)
    return partial(attribute, view) if isinstance(attribute, FunctionType) else attribute.__get__(None, kind)


def _field_names(value: object) -> tuple[str, ...]:
    if isinstance(value, BaseModel):
        return tuple(type(value).model_fields)
    return tuple(field.name for field in dataclasses.fields(cast("Any", value)))


def restrict(value: T, path: str, stage: str, inputs: StageInputs) -> T:
    """Return a value of which only the declared parts can be read.

    Args:
        value: A field's value.
        path: Its dotted path.
        stage: The stage's name, for the error.
        inputs: What it declares.

    Raises:
        UndeclaredInput: No part is declared.
    """
    if inputs.whole(path):
        return value
    if not inputs.partly(path):
        raise UndeclaredInput(f"the stage {stage} reads {path} and does not declare it")
    if isinstance(value, tuple):
        return cast("T", tuple(restrict(each, path, stage, inputs) for each in value))
    if isinstance(value, BaseModel) or dataclasses.is_dataclass(value):
        return cast("T", RestrictedView(value, path, stage, inputs))
    return value


class StageFolder(RunFolder):
    """The run folder as one stage sees it: it reads the results that it declares, and writes its own files."""

    def __init__(
        self, folder: RunFolder, stage: str, inputs: StageInputs, own: Collection[str], available: Collection[str]
    ) -> None:
        """Restrict a folder.

        Args:
            folder: The run folder.
            stage: The stage's name.
            inputs: What it declares.
            own: Files and folders that it writes.
            available: Files and folders that the stages before it write in this project.
        """
        super().__init__(folder.path)
        self._folder, self._stage, self._inputs, self._own, self._available = folder, stage, inputs, own, available

    @property
    def path(self) -> Path:
        """Raise `UndeclaredInput`: a stage names its files one by one."""
        raise UndeclaredInput(f"the stage {self._stage} uses the whole run folder; name the file: run.folder / NAME")

    def file(self, name: str) -> Path:
        """Return where a file is, if the stage may use it as a whole."""
        if not self._is_own(name) and not self._inputs.readable(result_path(name)):
            raise UndeclaredInput(f"the stage {self._stage} uses the file {name} and does not declare it")
        return self._folder.file(name)

    def has(self, name: str) -> bool:
        """Return whether a result is there, and this project's stages wrote it."""
        if name.partition("/")[0] not in self._available:
            return False
        self._require_part(name)
        return self._folder.has(name)

    def read_json(self, name: str) -> Any:
        """Read the declared keys of a JSON file; see `RunFolder.read_json`."""
        if self._is_own(name):
            return self._folder.read_json(name)
        self._require_part(name)
        return select(self._folder.read_json(name), result_path(name), self._inputs.readable)

    def _is_own(self, name: str) -> bool:
        return name.partition("/")[0] in self._own or (name == "run.json" and self._inputs.log)

    def _require_part(self, name: str) -> None:
        if not self._inputs.partly(result_path(name)):
            raise UndeclaredInput(f"the stage {self._stage} uses the file {name} and does not declare it")


def result_path(name: str) -> str:
    """Return the dotted path of a file in the run folder."""
    return f"results.{name.replace('/', '.')}"


NOTHING: Final = object()
"""What `select` returns if no part is selected."""


def select(value: Any, path: str, selected: Callable[[str], bool]) -> Any:
    """Return the parts of a JSON value whose paths are selected; the items of a list have the list's path."""
    if isinstance(value, dict):
        parts = {name: select(each, f"{path}.{name}", selected) for name, each in value.items()}
        parts = {name: part for name, part in parts.items() if part is not NOTHING}
        return parts if parts or selected(path) else NOTHING
    if isinstance(value, list) and value and isinstance(value[0], dict):
        parts_of_items = [select(each, path, selected) for each in value]
        return NOTHING if all(part is NOTHING for part in parts_of_items) else parts_of_items
    return value if selected(path) else NOTHING


def fingerprint(run: "Run", stage: str, inputs: StageInputs, results: Mapping[str, Any]) -> str:
    """Return the SHA-256 of everything that a stage declares to read.

    Args:
        run: The whole run.
        stage: The stage's name.
        inputs: What it declares.
        results: By file, the digest or the declared part of what earlier stages wrote.
    """
    project = select(run.project.model_dump(mode="json"), "project", inputs.counts)
    found = {
        "format": _FORMAT,
        "stage": stage,
        "project": {} if project is NOTHING else project,
        "files": dict(_file_digests(run.project, inputs)),
        "records": {path: value for path, value in run.record_digests.items() if inputs.counts(f"records.{path}")},
        "results": results,
    }
    return hash_json(found)


def _file_digests(project: "Project", inputs: StageInputs) -> Iterator[tuple[str, str | None]]:
    for path, names in FILES.items():
        _, name_of_section, field = path.split(".")
        section = getattr(project, name_of_section)
        for number, each in enumerate(section if isinstance(section, tuple) else (section,)):
            if inputs.counts(path) and (named := getattr(each, field, None)):
                for name in names:
                    file = project.folder / named / name
                    place = f"{path} {name}" + (f" {number}" if number else "")
                    yield place, file_digest(file) if file.exists() else None
    if inputs.counts("project.data.human"):  # the rows are inputs of their own; this is where their codes come from
        journal = journal_file(project)
        yield "journal of the coding", file_digest(journal) if journal.exists() else None


def digest_records(records: Records) -> dict[str, Any]:
    """Return the digest of every part of the records by its path below ``records``, for a fingerprint."""
    codes = [(row.response.id, row.codes, row.subgroups) for row in records.splits.test]
    of_validation = [(row.response.id, row.codes) for row in records.splits.validation]
    groups = [(row.response.id, row.subgroups) for row in records.splits.validation]
    plain = restrict_codes(records, StageInputs(()))
    splits = {f"splits.{field.name}": getattr(plain.splits, field.name) for field in dataclasses.fields(plain.splits)}
    parts = {field.name: getattr(plain, field.name) for field in dataclasses.fields(plain) if field.name != "splits"}
    single = {"codes": codes, "validation_codes": of_validation, "validation_groups": groups}
    return {name: hash_value(value) for name, value in {**splits, **parts, **single}.items()}


def restrict_codes(records: Records, inputs: StageInputs) -> Records:
    """Return records without codes of single coders and subgroups, except those that a stage declares."""

    def plain(rows: R, *, codes: bool = False, groups: bool = False) -> R:
        coded = (
            dataclasses.replace(row, codes=row.codes if codes else {}, subgroups=row.subgroups if groups else {})
            for row in rows.rows
        )
        return dataclasses.replace(rows, rows=tuple(coded))

    splits = records.splits
    return dataclasses.replace(
        records,
        splits=dataclasses.replace(
            splits,
            train=plain(splits.train),
            validation=plain(
                splits.validation,
                codes=inputs.readable("records.validation_codes"),
                groups=inputs.readable("records.validation_groups"),
            ),
            test=splits.test if inputs.readable("records.codes") else plain(splits.test),
        ),
    )


def hash_value(value: object) -> str:
    """Return the SHA-256 of a dataclass, or of a tuple of them."""
    return hashlib.sha256(msgspec.json.encode(value, order="sorted")).hexdigest()
