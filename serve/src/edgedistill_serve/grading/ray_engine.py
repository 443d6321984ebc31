"""Grading on a Ray cluster: the same parts, byte for byte, made by warm actors on every node.

A task is the number of a part. An actor reads the part's rows itself, scores them, and writes the part with its
account, so that no row passes through Ray's object store and nothing is shuffled. Ray places the actors, sends them
the tasks, and gives the tasks of an actor that died to another one; a part that is whole is not made again.
"""

import logging
import os
import platform
import tempfile
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import version
from itertools import accumulate
from pathlib import Path
from typing import Any

import msgspec

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

from edgedistill_serve import errors
from edgedistill_serve.bundle.archive import pack, unpack
from edgedistill_serve.bundle.files import MANIFEST_FILE
from edgedistill_serve.bundle.loading import Bundle
from edgedistill_serve.cores import available_cores
from edgedistill_serve.errors import BundleError, DataError, EdgeDistillError
from edgedistill_serve.grading.columns import Batch, Kind, check_columns
from edgedistill_serve.grading.grade import (
    PART_ROWS,
    GradingStopped,
    finish_grading,
    manifest,
    scored_batches,
    write_part,
)
from edgedistill_serve.grading.grade_batch import GradeBatch
from edgedistill_serve.grading.graded_journal import GradedJournal, check_journal_columns
from edgedistill_serve.grading.parts import MANIFEST, GradingCounts, Part, Parts
from edgedistill_serve.grading.sources import check_same_parquet, describe_parquet, read_parquet
from edgedistill_serve.grading.storage import STANDARD, InputFile, find_inputs
from edgedistill_serve.grading.table_formats import suffixes, table_format
from edgedistill_serve.grading.targets import check_different, find_target
from edgedistill_serve.scoring.score import score_columns
from edgedistill_serve.scoring.scorer import Scorer

__all__ = ["Workers", "grade_on_ray"]

_MOST_TASKS = 2**14
"""Tasks that are sent to the actors. With more parts than that, a task has several."""
_OBJECT_STORE_BYTES = 2**28
"""Of a cluster that is started here: for the bundle, and for accounts."""


@dataclass(frozen=True, slots=True)
class Workers:
    """The actors of a grading.

    Attributes:
        number: How many; None for as many as the cluster has room for when the grading starts.
        threads: Scoring threads, and cores, of each one.
        gpus: GPUs of each one, which may be a fraction; 0 to score on CPUs.
    """

    number: int | None = None
    threads: int = 1
    gpus: float = 0.0


def grade_on_ray(
    bundle: Bundle,
    source: Path | str,
    target: Path | str,
    workers: Workers,
    *,
    overwrite: bool = False,
    restart: bool = False,
    prefix: str = "",
    part_rows: int = PART_ROWS,
    journal: GradedJournal | None = None,
    progress: Callable[[GradingCounts, float | None], None] = lambda _counts, _share: None,
    note: Callable[[str], None] = lambda _text: None,
    stop: Callable[[], bool] = lambda: False,
) -> GradingCounts:
    """Score every row of Parquet files on a Ray cluster, as `grade` does on this machine.

    The cluster is that of ``RAY_ADDRESS``, or one that is started here for this grading, on the loopback address. Every
    node needs the same versions of edgedistill-serve and onnxruntime, and sees ``source`` and ``target`` under the same
    names. A grading that ended early goes on with the parts that are missing, no matter which engine made the others.

    Args:
        bundle: The bundle. Every node gets it from this process once, and keeps it in the user's cache folder.
        source: A Parquet file, a folder, a pattern or an address.
        target: The Parquet file to write, or a folder of parts if it ends in a slash.
        workers: The actors.
        overwrite: As for `grade`.
        restart: As for `grade`.
        prefix: As for `grade`.
        part_rows: As for `grade`.
        journal: As for `grade`.
        progress: Called after every part.
        note: As for `grade`.
        stop: Asked after every part.

    Raises:
        DataError: As for `grade`; or Ray is not installed, or the cluster fails.
        BundleError: A worker cannot score with the bundle.
        GradingStopped: ``stop`` returned true.
    """
    with ExitStack() as opened:
        where = find_target(str(target), None, opened, overwrite=overwrite)
        files = [] if str(source) == STANDARD else find_inputs(str(source), suffixes())
        if not files or where.form.kind != "parquet" or {table_format(each.name).kind for each in files} != {"parquet"}:
            raise DataError(
                "on Ray, IN and OUT are Parquet files",
                where=f"{source} and {target}"[:300],
                hint="Convert the files, or use --engine local.",
            )
        check_different(files, str(target), where)
        # Before a cluster is started, which takes seconds.
        first = tuple(describe_parquet(files[0])[0])
        check_columns(first, bundle.task, score_columns(bundle.task, prefix), files[0].name)
        device, precision = "cuda", "fp32"  # the graph that GPUs run
        if not workers.gpus:
            device, precision = "cpu", Scorer(bundle, threads=1, gpu=False).precision
        ray = opened.enter_context(_connected(workers))
        facts = _describe(ray, files)
        check_same_parquet(files, [each.kinds for each in facts])
        graph = {"precision": str(precision), "device": device}
        described = manifest(
            bundle,
            graph,
            dict(zip(files, (each.sha256 for each in facts), strict=True)),
            facts[0].kinds,
            [],
            form=where.form,
            prefix=prefix,
            part_rows=part_rows,
            journal=journal,
        )
        if journal is not None:
            check_journal_columns(journal, first, files[0].name)
        rows = _Rows(tuple(files), tuple(accumulate(each.rows for each in facts)), facts[0].kinds, part_rows)
        parts = Parts(where.work, where.form, described, journal, bundle.manifest.known_verdict.status)
        engine = _OnRay(ray, bundle, graph, rows, parts, prefix, workers, progress, note, stop)
        return finish_grading(engine, where, restart=restart)


@dataclass(frozen=True, slots=True)
class _Rows:
    """The rows of several Parquet files, as those of one table that is cut into parts.

    Attributes:
        files: The files.
        ends: For each file the number of rows up to its end.
        kinds: The columns.
        part_rows: Rows of a part.
    """

    files: tuple[InputFile, ...]
    ends: tuple[int, ...]
    kinds: Mapping[str, Kind]
    part_rows: int

    @property
    def parts(self) -> int:
        """Number of parts: one at least."""
        return max(1, -(-self.ends[-1] // self.part_rows))

    def batches(self, number: int) -> Iterator[Batch]:
        """Yield the rows of a part."""
        first = number * self.part_rows
        last = min(first + self.part_rows, self.ends[-1])
        place = bisect_right(self.ends, first)
        while first < last:
            start = self.ends[place - 1] if place else 0
            rows = min(last, self.ends[place]) - first
            yield from read_parquet(self.files[place], tuple(self.kinds), first - start, rows)
            first, place = first + rows, place + 1


@dataclass(frozen=True, slots=True)
class _OnRay:
    """The cluster: its actors make the parts, in any order."""

    ray: Any
    bundle: Bundle
    graph: Mapping[str, str]
    rows: _Rows
    parts: Parts
    prefix: str
    workers: Workers
    progress: Callable[[GradingCounts, float | None], None]
    note: Callable[[str], None]
    stop: Callable[[], bool]

    def resume(self, *, restart: bool) -> list[Part]:
        self.parts.begin(restart=restart)
        return []

    def finish(self, whole: list[Part]) -> None:
        kept = frozenset(self.parts.numbers())
        if kept:
            self.note(f"{len(kept)} parts of an earlier grading are whole; only the others are made")
        made: dict[int, Part] = {}
        counts = GradingCounts()
        for number, part in self._made(kept):
            made[number] = part
            whole.append(part)
            counts += part.counts
            self.progress(counts, len(made) / self.rows.parts)
            if self.stop() and len(made) < self.rows.parts:
                raise GradingStopped("stopped")
        whole[:] = [made[number] for number in range(self.rows.parts)]

    def _made(self, kept: frozenset[int]) -> Iterator[tuple[int, Part]]:
        packed = _packed(self.bundle)
        plan = _Plan(
            self.parts,
            self.rows,
            kept,
            self.prefix,
            self.workers,
            self.graph,
            _versions(),
            sha256(packed).hexdigest(),
            _digest(self.bundle.folder),
        )
        dataset = self.ray.data.from_items(
            [{"part": number} for number in range(self.rows.parts)],
            override_num_blocks=min(self.rows.parts, _MOST_TASKS),
        ).map_batches(
            _PartMaker,
            # In a list, Ray does not replace the reference by the bytes: a node that has the bundle needs none.
            fn_constructor_args=(plan, [self.ray.put(packed)]),
            batch_format="pyarrow",
            batch_size=None,
            compute=self.ray.data.ActorPoolStrategy(size=_number(self.ray, self.workers, self.rows.parts)),
            num_cpus=self.workers.threads,
            num_gpus=self.workers.gpus or None,
        )
        for row in _results(self.ray, dataset):
            yield row["part"], msgspec.json.decode(row["account"], type=Part)


@dataclass(frozen=True, slots=True)
class _Plan:
    """What an actor needs to know.

    Attributes:
        parts: Where parts are written.
        rows: Where rows are read.
        kept: Numbers of the parts that are whole already; they are checked only.
        prefix: Prefix of every added column name.
        workers: Threads and GPUs.
        graph: Precision and device of the graph that must score.
        versions: Of the packages on which scores depend.
        packed: SHA-256 of the packed bundle.
        bundle: SHA-256 of its ``bundle.json``.
    """

    parts: Parts
    rows: _Rows
    kept: frozenset[int]
    prefix: str
    workers: Workers
    graph: Mapping[str, str]
    versions: Mapping[str, str]
    packed: str
    bundle: str


class _PartMaker:
    """The actor: makes parts with a bundle that it loads once.

    Errors are returned and not raised, because Ray would wrap them in its own.
    """

    def __init__(self, plan: _Plan, packed: Sequence[Any]) -> None:
        self._plan = plan
        self._fault: EdgeDistillError | None = None
        try:
            self._grade = GradeBatch(_open_scorer(plan, packed[0]), prefix=plan.prefix)
        except EdgeDistillError as error:
            self._fault = error.unraised_copy()

    def __call__(self, tasks: Any) -> Iterator[Any]:
        for number in tasks.column("part").to_pylist():
            try:
                yield _result({"part": number, "account": msgspec.json.encode(self._make(number))})
            except EdgeDistillError as error:
                yield _result({"part": number, "account": b""}, error)
                return

    def _make(self, number: int) -> Part:
        if self._fault is not None:
            raise self._fault
        plan = self._plan
        if number in plan.kept:
            return plan.parts.checked(number)
        with scored_batches(plan.rows.batches(number), self._grade) as scored:
            return write_part(plan.parts, number, scored, plan.rows.kinds, self._grade)


def _open_scorer(plan: _Plan, packed: Any) -> Scorer:
    """Load the bundle on this node.

    Raises:
        EdgeDistillError: The node differs from the one that started the grading, does not see its output, or cannot
            score with the bundle.
    """
    node = f"node {platform.node()}"
    if (found := _versions()) != plan.versions:
        raise DataError(
            f"this node has {_listed(found)}; the grading was started with {_listed(plan.versions)}",
            where=node,
            hint="Install the same versions on every node.",
        )
    folder = plan.parts.folder
    try:
        with folder.open(MANIFEST) as file:
            seen = msgspec.json.decode(file.read())
    except (DataError, msgspec.DecodeError):
        seen = {}
    if any(seen.get(key) != value for key, value in msgspec.to_builtins(plan.parts.manifest).items()):
        raise DataError(
            f"this node does not see the output {folder.address}",
            where=node,
            hint="Write to a folder that all nodes share, or to an address such as s3://bucket/graded/.",
        )
    bundle = _bundle_on_node(plan, packed)
    scorer = Scorer(bundle, threads=plan.workers.threads, score_cache=0, gpu=plan.workers.gpus > 0)
    graph = {"precision": str(scorer.precision), "device": scorer.device}
    if graph != plan.graph:
        raise BundleError(
            f"this node would score in {_listed(graph)}, and others in {_listed(plan.graph)}",
            where=node,
            hint=" ".join(scorer.notes) or "Use nodes of one kind.",
        )
    return scorer


def _bundle_on_node(plan: _Plan, packed: Any) -> Bundle:
    """Return the bundle in the cache of this node, where its first actor puts it."""
    folder = _cache_folder() / plan.packed
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with folder.with_suffix(".lock").open("ab") as lock:
            if fcntl is not None:
                fcntl.flock(lock, fcntl.LOCK_EX)  # until the file is closed
            return _cached_bundle(plan, folder) or _unpacked(plan, folder, packed)
    except OSError as error:
        raise BundleError(
            f"the bundle cannot be written to the cache ({error.strerror})",
            where=f"{folder.parent} on node {platform.node()}",
            hint="Make room, or name another folder with the environment variable EDGEDISTILL_CACHE.",
        ) from None


def _cache_folder() -> Path:
    given = os.environ.get("EDGEDISTILL_CACHE")
    users = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return (Path(given) if given else Path(users).expanduser() / "edgedistill") / "bundles"


def _cached_bundle(plan: _Plan, folder: Path) -> Bundle | None:
    """Return the bundle in a folder, or None if it is not the one of the plan, with every byte."""
    try:
        bundle = Bundle.load(folder)
        return bundle if _digest(folder) == plan.bundle else None
    except (BundleError, OSError):
        return None


def _unpacked(plan: _Plan, folder: Path, packed: Any) -> Bundle:
    import ray

    content = ray.get(packed)
    if sha256(content).hexdigest() != plan.packed:
        raise BundleError("the bundle was changed on its way to the node", where=f"node {platform.node()}")
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        file = Path(temporary) / "bundle.zip"
        file.write_bytes(content)
        bundle = unpack(file, folder)
    if _digest(folder) != plan.bundle:
        raise BundleError("the bundle is not that of the grading", where=f"{folder} on node {platform.node()}")
    return bundle


def _packed(bundle: Bundle) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "bundle.zip"
        pack(bundle, file)
        return file.read_bytes()


def _digest(folder: Path) -> str:
    return sha256((folder / MANIFEST_FILE).read_bytes()).hexdigest()


def _versions() -> dict[str, str]:
    import onnxruntime

    return {"edgedistill-serve": version("edgedistill-serve"), "onnxruntime": onnxruntime.__version__}


def _listed(found: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in found.items())


@dataclass(frozen=True, slots=True)
class _Facts:
    """What is known of an input file: its columns, its number of rows, and its SHA-256."""

    kinds: Mapping[str, Kind]
    rows: int
    sha256: str


def _describe(ray: Any, files: Sequence[InputFile]) -> list[_Facts]:
    """Read every file to its end, for its SHA-256: on the cluster, if there are several."""
    import pyarrow as pa

    if len(files) == 1:
        return [_Facts(*describe_parquet(files[0]), files[0].fingerprint())]

    def describe(tasks: Any) -> Iterator[Any]:
        for number in tasks.column("file").to_pylist():
            try:
                kinds, rows = describe_parquet(files[number])
                schema = pa.schema(list(kinds.values())).serialize().to_pybytes()
                found = {"file": number, "schema": schema, "rows": rows, "sha256": files[number].fingerprint()}
                yield _result(found)
            except DataError as error:
                error = DataError(error.what, where=f"{error.where} on node {platform.node()}", hint=error.hint)
                yield _result({"file": number, "schema": b"", "rows": 0, "sha256": ""}, error)
                return

    dataset = ray.data.from_items(
        [{"file": number} for number in range(len(files))], override_num_blocks=min(len(files), _MOST_TASKS)
    ).map_batches(describe, batch_format="pyarrow", batch_size=None)
    found = {row["file"]: row for row in _results(ray, dataset)}
    schemas = [pa.ipc.read_schema(pa.py_buffer(found[number]["schema"])) for number in range(len(files))]
    return [
        _Facts({field.name: field for field in schema}, found[number]["rows"], found[number]["sha256"])
        for number, schema in enumerate(schemas)
    ]


def _result(row: Mapping[str, Any], error: EdgeDistillError | None = None) -> Any:
    """Return a row with the error, if there is one, as a table of Arrow."""
    import pyarrow as pa

    fault = None if error is None else [type(error).__name__, error.what, error.where or "", error.hint or ""]
    columns = {name: pa.array([value]) for name, value in row.items()}
    return pa.table({**columns, "fault": pa.array([fault], pa.list_(pa.string()))})


def _results(ray: Any, dataset: Any) -> Iterator[dict[str, Any]]:
    """Yield the rows of a dataset as they come.

    Raises:
        EdgeDistillError: A row has an error.
        DataError: The cluster failed.
    """
    try:
        for batch in dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
            for row in batch.to_pylist():
                if row["fault"]:
                    kind, what, where, hint = row["fault"]
                    raise getattr(errors, kind, DataError)(what, where=where or None, hint=hint or None)
                yield row
    except ray.exceptions.RayError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise DataError(
            f"the Ray cluster failed ({lines[-1][:300] if lines else type(error).__name__})",
            hint="The log of Ray says more. Every node needs edgedistill-serve[cpu,ray].",
        ) from None


def _number(ray: Any, workers: Workers, parts: int) -> int:
    """Return the number of actors: as stated, or as many as there is room for; not more than parts."""
    room = ray.cluster_resources()
    if workers.number is not None:
        return min(workers.number, parts)
    fits = room.get("CPU", 0) // workers.threads
    if workers.gpus:
        fits = min(fits, room.get("GPU", 0) // workers.gpus)
    if fits < 1:
        raise DataError(
            f"the cluster has {room.get('CPU', 0):g} cores and {room.get('GPU', 0):g} GPUs, too few for one worker",
            hint="State --workers if nodes will be added.",
        )
    return min(int(fits), parts)


@contextmanager
def _connected(workers: Workers) -> Iterator[Any]:
    """Connect to the cluster of ``RAY_ADDRESS``, or start one on this machine's loopback address.

    Raises:
        DataError: Ray is not installed, or the cluster cannot be used.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    address = os.environ.get("RAY_ADDRESS")
    if address is None:
        # On Linux, too, a cluster of one machine then listens on its loopback address only.
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    try:
        import ray
        import ray.data
    except ImportError:
        raise DataError(
            "--engine ray requires Ray", hint='Install it: pip install "edgedistill-serve[cpu,ray]".'
        ) from None
    if ray.is_initialized():  # by the program that calls this
        yield ray
        return
    cores = available_cores() if workers.number is None else workers.number * workers.threads
    started = {"include_dashboard": False, "num_cpus": cores, "object_store_memory": _OBJECT_STORE_BYTES}
    try:
        ray.init(
            address=address or "local",
            log_to_driver=False,
            logging_level=logging.ERROR,
            **({} if address else started),
        )
    except Exception as error:  # noqa: BLE001  # Ray raises errors of many kinds
        reason = " ".join(str(error).split())[:300]
        raise DataError(f"Ray cannot be {'reached' if address else 'started'} ({reason})", where=address) from None
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.ERROR)
    ray.data.DataContext.get_current().enable_progress_bars = False
    try:
        yield ray
    finally:
        ray.shutdown()
