"""A grading on Ray has the bytes of one in this process, whatever happens to its workers."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from edgedistill_serve import BundleError, DataError, Scorer
from edgedistill_serve.grading import ray_engine
from edgedistill_serve.grading.grade import GradingStopped, grade
from edgedistill_serve.grading.grade_batch import GradeBatch
from edgedistill_serve.grading.graded_journal import GradedJournal
from edgedistill_serve.grading.parts import Parts
from edgedistill_serve.grading.ray_engine import Workers, grade_on_ray
from edgedistill_serve.grading.storage import LocalFolder, find_inputs
from edgedistill_serve.grading.table_formats import table_format

# Ray itself uses what it and others deprecate, and leaves its files to the end of the process.
pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"
)
GRADE = [sys.executable, "-m", "edgedistill_serve", "grade"]
TEXTS = ["you worked hard", "", "great job", "poisonous", None, "why because"]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A cluster of this machine, for two workers."""
    pytest.importorskip("ray", reason="Ray is not installed: edgedistill-serve[ray]")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEDISTILL_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.delenv("RAY_ADDRESS", raising=False)
        for name in ("RAY_USAGE_STATS_ENABLED", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "RAY_BACKEND_LOG_LEVEL"):
            patch.setenv(name, os.environ.get(name, "0"))  # to restore what the engine sets
        patch.setenv("RAY_BACKEND_LOG_LEVEL", "fatal")
        with ray_engine._connected(Workers(2)) as ray:
            yield ray


@pytest.fixture
def tables(tmp_path):
    """A folder with two Parquet files, whose row groups and parts begin at different rows."""
    folder = tmp_path / "in"
    folder.mkdir()
    for name, rows, group in (("a", 70, 7), ("b", 41, 50)):
        texts = [f"{text} {row % 5}" if text else text for row, text in zip(range(rows), TEXTS * 20, strict=False)]
        times = pa.array([1_700_000_000_000_000_001 + row for row in range(rows)]).cast(pa.timestamp("ns", "UTC"))
        school = pa.array([f"school {row % 3}" for row in range(rows)]).dictionary_encode()
        table = pa.table({"when": times, "school": school, "response": texts})
        pq.write_table(table, folder / f"{name}.parquet", row_group_size=group)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def locally(bundle, source, target, **given) -> dict[str, bytes]:
    grade(Scorer(bundle, threads=1), source, f"{target}/", **given)
    return contents(target)


def journal_in(folder: Path, key: Path | None = None) -> GradedJournal:
    folder.mkdir()
    if key is not None:
        shutil.copy(key, folder)
    return GradedJournal.open(folder, audit_share=0.5, id_column="when", item_column="school")


def lines_without_hours(folder: Path) -> list[str]:
    (file,) = folder.glob("*.jsonl")
    return [re.sub(r'"hour":"[^"]*"', "", line) for line in file.read_text("utf-8").splitlines()]


def test_the_parts_and_the_journal_of_two_workers_are_those_of_one_process(cluster, bundle, tables, tmp_path):
    journal = journal_in(tmp_path / "journal")
    expected = locally(bundle, tables, tmp_path / "here", part_rows=16, prefix="x_", journal=journal)
    shares = []
    counts = grade_on_ray(
        bundle,
        tables,
        f"{tmp_path / 'ray'}/",
        Workers(2),
        part_rows=16,
        prefix="x_",
        journal=journal_in(tmp_path / "journal of Ray", tmp_path / "journal" / "audit.key"),
        progress=lambda counts, share: shares.append(share),
    )
    lines = lines_without_hours(tmp_path / "journal")
    assert lines_without_hours(tmp_path / "journal of Ray") == lines
    assert len(lines) > 1 + 3
    assert contents(tmp_path / "ray") == expected
    assert (counts.read, counts.errors, shares[-1]) == (111, 37, 1.0)
    assert len(expected) == 1 + 7
    assert len(list(Path(os.environ["EDGEDISTILL_CACHE"], "bundles").glob("*/bundle.json"))) == 1


def test_only_parts_that_are_missing_are_made(cluster, bundle, tables, tmp_path):
    target = tmp_path / "out"
    calls = iter(range(10))
    with pytest.raises(GradingStopped):
        locally(bundle, tables, target, part_rows=16, stop=lambda: next(calls) == 3)
    (target / "part-00001.json").unlink()
    before = {name: (target / name).stat().st_mtime_ns for name in ("part-00000.parquet", "part-00002.parquet")}
    notes = []
    grade_on_ray(bundle, tables, f"{target}/", Workers(1), part_rows=16, note=notes.append)
    assert notes == ["3 parts of an earlier grading are whole; only the others are made"]
    assert {name: (target / name).stat().st_mtime_ns for name in before} == before
    assert contents(target) == locally(bundle, tables, tmp_path / "here", part_rows=16)


def test_faults_of_workers_are_errors_of_one_line_and_keep_whole_parts(cluster, bundle, tables, tmp_path):
    target = tmp_path / "out"
    with pytest.raises(GradingStopped):
        locally(bundle, tables, target, part_rows=16, stop=lambda: True)
    (target / "part-00000.parquet").write_bytes(b"changed")
    with pytest.raises(DataError, match=r"part-00000\.parquet: the part was changed or is damaged.*whole parts are in"):
        grade_on_ray(bundle, tables, f"{target}/", Workers(1), part_rows=16)
    assert "part-00000.json" in contents(target)
    (tables / "b.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(DataError, match=r"b\.parquet on node .*: the file is not valid Parquet"):
        grade_on_ray(bundle, tables, f"{tmp_path / 'new'}/", Workers(1))


def test_a_table_without_rows_is_one_empty_part(cluster, bundle, tmp_path):
    pq.write_table(pa.table({"response": pa.array([], pa.string())}), tmp_path / "in.parquet")
    grade_on_ray(bundle, tmp_path / "in.parquet", tmp_path / "out.parquet", Workers(1))
    grade(Scorer(bundle), tmp_path / "in.parquet", tmp_path / "here.parquet")
    assert (tmp_path / "out.parquet").read_bytes() == (tmp_path / "here.parquet").read_bytes()


def test_a_dataset_of_ray_is_graded_by_the_class_grade_batch(cluster, bundle):
    table = pa.table({"id": range(len(TEXTS)), "response": TEXTS})
    graded = cluster.data.from_arrow(table).map_batches(
        GradeBatch,
        fn_constructor_args=(str(bundle.folder),),
        batch_format="pyarrow",
        compute=cluster.data.ActorPoolStrategy(size=1),
    )
    assert graded.take_all() == GradeBatch(bundle)(table).to_pylist()


@pytest.fixture
def plan(bundle, tmp_path, monkeypatch):
    """A plan of a grading whose output this node sees."""
    monkeypatch.setenv("EDGEDISTILL_CACHE", str(tmp_path / "cache"))
    pq.write_table(pa.table({"response": TEXTS}), tmp_path / "in.parquet")
    folder = LocalFolder(tmp_path / "out")
    folder.make()
    parts = Parts(folder, table_format("out.parquet"), {"bundle": "praise"})
    parts.begin(restart=False)
    packed = ray_engine._packed(bundle)
    (file,) = find_inputs(str(tmp_path / "in.parquet"), (".parquet",))
    return ray_engine._Plan(
        parts,
        ray_engine._Rows((file,), (len(TEXTS),), {"response": pa.field("response", pa.string())}, 16),
        frozenset(),
        "",
        Workers(),
        {"precision": "int8", "device": "cpu"},
        ray_engine._versions(),
        sha256(packed).hexdigest(),
        ray_engine._digest(bundle.folder),
    )


def test_a_bundle_in_the_cache_is_used_if_it_has_every_byte(cluster, bundle, plan, tmp_path):
    packed = cluster.put(ray_engine._packed(bundle))
    first = ray_engine._bundle_on_node(plan, packed)
    assert first.folder == (tmp_path / "cache" / "bundles" / plan.packed).resolve()
    assert ray_engine._bundle_on_node(plan, None).manifest == bundle.manifest
    (first.folder / "tokenizer.json").write_text("{}")
    assert ray_engine._bundle_on_node(plan, packed).tokenizer_file.read_bytes() == bundle.tokenizer_file.read_bytes()
    with pytest.raises(BundleError, match="the bundle was changed on its way to the node"):
        ray_engine._bundle_on_node(replace(plan, packed="0" * 64), packed)


@pytest.mark.parametrize(
    ("different", "message"),
    [
        ({"versions": {"onnxruntime": "1.0"}}, r"this node has edgedistill-serve .*; .*with onnxruntime 1\.0"),
        (
            {"graph": {"precision": "fp32", "device": "cuda"}},
            "would score in precision int8, device cpu, and others in",
        ),
    ],
)
def test_a_node_that_would_score_otherwise_is_refused(cluster, bundle, plan, different, message):
    with pytest.raises((DataError, BundleError), match=message):
        ray_engine._open_scorer(replace(plan, **different), cluster.put(ray_engine._packed(bundle)))


def test_a_node_that_does_not_see_the_output_is_refused(plan):
    (plan.parts.folder.path / "manifest.json").unlink()
    with pytest.raises(DataError, match=r"this node does not see the output .* Write to a folder that all nodes share"):
        ray_engine._open_scorer(plan, None)


def test_an_actor_returns_why_it_cannot_score(plan):
    (plan.parts.folder.path / "manifest.json").write_text("{")
    actor = ray_engine._PartMaker(plan, [None])
    (result,) = actor(pa.table({"part": [3, 4]}))
    assert result.column("part").to_pylist() == [3]
    assert result.column("fault").to_pylist()[0][:2][0] == "DataError"


@pytest.mark.parametrize(
    "names", [("in.csv", "out.parquet"), ("in.parquet", "out.csv"), ("-", "out/"), ("in.parquet", "-")]
)
def test_other_formats_are_refused_before_a_cluster_is_started(bundle, tmp_path, names):
    (tmp_path / "in.csv").write_text("response\n")
    pq.write_table(pa.table({"response": ["x"]}), tmp_path / "in.parquet")
    source, target = (name if name == "-" else f"{tmp_path}/{name}" for name in names)
    with pytest.raises(DataError, match="on Ray, IN and OUT are Parquet files"):
        grade_on_ray(bundle, source, target, Workers())


def test_without_ray_its_extra_is_named(bundle, tmp_path, monkeypatch):
    for name in ("RAY_USAGE_STATS_ENABLED", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "RAY_BACKEND_LOG_LEVEL"):
        monkeypatch.setenv(name, "0")
    monkeypatch.setitem(sys.modules, "ray", None)
    pq.write_table(pa.table({"response": ["x"]}), tmp_path / "in.parquet")
    with pytest.raises(DataError, match=r'pip install "edgedistill-serve\[cpu,ray\]"'):
        grade_on_ray(bundle, tmp_path / "in.parquet", tmp_path / "out.parquet", Workers())


@pytest.mark.parametrize(
    "options", [["--workers", "2"], ["--engine", "ray", "--strict"], ["--engine", "ray", "--to", "csv"]]
)
def test_options_of_the_other_engine_are_refused(bundle, tmp_path, options):
    pq.write_table(pa.table({"response": ["x"]}), tmp_path / "in.parquet")
    paths = [str(bundle.folder), str(tmp_path / "in.parquet"), str(tmp_path / "out.parquet")]
    ended = subprocess.run([*GRADE, *paths, *options], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, "--engine ray" in ended.stderr) == (2, True)


def processes_with(variable: str) -> dict[int, str]:
    """Return the command lines of the processes that have a variable of the environment."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if variable.encode() in (folder / "environ").read_bytes().split(b"\0"):
                found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
    return found


def listening(pid: int) -> set[str]:
    """Return the addresses at which a process listens, in hexadecimal as the kernel has them."""
    inodes = set()
    with suppress(OSError):
        for each in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                inodes.add(str(each.readlink()).removeprefix("socket:[").removesuffix("]"))
    lines: list[list[str]] = []
    with suppress(OSError):  # the process has ended
        for name in ("tcp", "tcp6"):
            lines += [line.split() for line in Path(f"/proc/{pid}/net/{name}").read_text().splitlines()]
    return {line[1].split(":")[0] for line in lines if line[3] == "0A" and line[9] in inodes}


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc")
def test_a_worker_that_is_killed_changes_no_byte_and_nobody_else_can_connect(bundle, tmp_path):
    pytest.importorskip("ray", reason="Ray is not installed: edgedistill-serve[ray]")
    texts = [f"great job {row} you worked hard because {row * row}" for row in range(20_000)]
    pq.write_table(pa.table({"response": texts}), tmp_path / "in.parquet", row_group_size=1_000)
    variable = f"EDGEDISTILL_CACHE={tmp_path / 'cache'}"
    settings = {**os.environ, "EDGEDISTILL_CACHE": str(tmp_path / "cache")}
    settings.pop("RAY_ADDRESS", None)
    command = [*GRADE, str(bundle.folder), str(tmp_path / "in.parquet"), f"{tmp_path / 'ray'}/", "--part-rows", "100"]
    process = subprocess.Popen(
        [*command, "--engine", "ray", "--workers", "2"], env=settings, stderr=subprocess.PIPE, text=True
    )
    until = time.monotonic() + 200
    while not any(tmp_path.glob("ray/part-*.json")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.005)
    found = processes_with(variable)
    workers = [pid for pid, line in found.items() if line.startswith("ray::MapWorker(MapBatches(_PartMaker)")]
    os.kill(workers[0], signal.SIGKILL)
    whole = len(list(tmp_path.glob("ray/part-*.json")))
    addresses = set().union(*map(listening, found))
    message = process.communicate(timeout=200)[1]
    assert process.returncode == 0, message
    assert len(workers) == 2
    assert 0 < whole < 200
    # 127.0.0.1, and the same as an address of IPv6.
    assert addresses
    assert addresses <= {"0100007F", "0000000000000000FFFF00000100007F"}
    assert set(processes_with("RAY_USAGE_STATS_ENABLED=0")) >= set(processes_with(variable))
    assert contents(tmp_path / "ray") == locally(bundle, tmp_path / "in.parquet", tmp_path / "here", part_rows=100)
