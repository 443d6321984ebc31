"""Grading that is stopped, killed or fails leaves the old table, no texts of learners, and says what is lost."""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from edgedistill_serve.errors import DataError
from edgedistill_serve.grading.table_reader import TableRow, read_rows
from edgedistill_serve.grading.table_writer import table_writer

GRADE = [sys.executable, "-m", "edgedistill_serve", "grade"]
SECRET = "great job my name is Annabel"


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def start(bundle, source, target, *more, **settings):
    command = [*GRADE, str(bundle.folder), str(source), str(target), *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **settings)


@pytest.fixture
def folder(tmp_path):
    """A folder with a long table and an old result."""
    (tmp_path / "in.csv").write_text("response\n" + "".join(f"{SECRET} {row}\n" for row in range(400_000)))
    (tmp_path / "out.csv").write_text("precious")
    return tmp_path


def stopped_while_it_writes(process, folder, number):
    until = time.monotonic() + 60
    while not any(path.stat().st_size > 0 for path in folder.glob(".out.csv.*")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.01)
    process.send_signal(number)
    return process.communicate(timeout=60)[1]


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGTERM, 143), (signal.SIGINT, 1), (signal.SIGHUP, 129), (signal.SIGQUIT, 131), (signal.SIGXCPU, 152)],
)
def test_a_stopped_grading_leaves_no_texts_and_says_what_is_lost(bundle, folder, number, code):
    process = start(bundle, folder / "in.csv", folder / "out.csv", "--force")
    message = stopped_while_it_writes(process, folder, number)
    assert process.returncode == code
    assert "stopped: out.csv was not written; " in message
    assert int(message.split("; ")[1].split()[0]) % 256 == 0
    assert "Traceback" not in message
    assert names(folder) == ["in.csv", "out.csv"]
    assert (folder / "out.csv").read_text() == "precious"


def test_what_a_killed_grading_left_is_deleted_by_the_next_one(bundle, folder):
    stopped_while_it_writes(start(bundle, folder / "in.csv", folder / "out.csv", "--force"), folder, signal.SIGKILL)
    (left,) = [path for path in folder.iterdir() if path.name.startswith(".")]
    assert SECRET in left.read_text()
    (folder / "few.csv").write_text("response\ngreat job\n")
    ended = start(bundle, folder / "few.csv", folder / "other.csv")
    assert ended.communicate(timeout=60)[1] == ""
    assert names(folder) == ["few.csv", "in.csv", "other.csv", "out.csv"]


def test_the_file_of_a_grading_that_runs_is_not_deleted_by_another_one(bundle, folder):
    process = start(bundle, folder / "in.csv", folder / "out.csv", "--force")
    try:
        until = time.monotonic() + 60
        while not list(folder.glob(".out.csv.*")):
            assert time.monotonic() < until
            time.sleep(0.01)
        with table_writer(folder / "other.csv", {"response": None}, {}) as write:
            write(TableRow(2, {"response": "x"}, {}), {})
        assert len(list(folder.glob(".out.csv.*"))) == 1
    finally:
        process.terminate()
        process.communicate(timeout=60)


@pytest.mark.parametrize("row", ['"open\n', "a,b\n", "\udcff\n"])
def test_a_malformed_row_after_many_says_how_many_rows_are_lost(bundle, tmp_path, row):
    content = "response\n" + 1500 * f"{SECRET}\n" + row
    (tmp_path / "in.csv").write_bytes(content.encode(errors="surrogateescape"))
    process = start(bundle, tmp_path / "in.csv", tmp_path / "out.csv")
    message = process.communicate(timeout=60)[1]
    assert process.returncode == 2
    assert message.startswith("error: in.csv, row 1502: ")
    assert message.endswith("out.csv was not written; 1280 graded rows are lost.\n")
    assert names(tmp_path) == ["in.csv"]


@pytest.mark.parametrize("threads", ["nan", "inf", "-1", "0", "1e3", "1000000", ""])
def test_an_absurd_number_of_threads_is_refused(bundle, tmp_path, threads):
    (tmp_path / "in.csv").write_text("response\ngreat job\n")
    process = start(bundle, tmp_path / "in.csv", tmp_path / "out.csv", "--threads", threads)
    message = process.communicate(timeout=60)[1]
    assert process.returncode == 2
    assert "Invalid value for '--threads'" in message
    assert names(tmp_path) == ["in.csv"]


LIMIT = """
import resource, runpy, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))
sys.argv = ["edgedistill-serve", *sys.argv[1:]]
runpy.run_module("edgedistill_serve", run_name="__main__")
"""


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_full_disk_leaves_the_old_table_and_is_one_line(bundle, tmp_path, suffix):
    (tmp_path / "in.csv").write_text("response\n" + "".join(f"{SECRET} {row}\n" for row in range(3000)))
    target = tmp_path / f"out{suffix}"
    target.write_text("precious")
    # No file may grow beyond the limit, which to a writer is what a full disk is.
    command = [
        sys.executable,
        "-c",
        LIMIT,
        "grade",
        str(bundle.folder),
        str(tmp_path / "in.csv"),
        str(target),
        "--force",
    ]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 2, ended.stderr
    assert ended.stderr.count("\n") == 1
    assert f"out{suffix}: the file cannot be written (File too large)" in ended.stderr
    assert target.read_text() == "precious"
    assert names(tmp_path) == ["in.csv", f"out{suffix}"]


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare, for a file system of its own")
def test_a_file_system_that_is_read_only_is_one_line(bundle, tmp_path):
    (tmp_path / "in.csv").write_text("response\ngreat job\n")
    command = " ".join([*GRADE, str(bundle.folder), str(tmp_path / "in.csv"), str(tmp_path / "out.csv")])
    mount = f"mount --bind {tmp_path} {tmp_path} && mount -o remount,ro,bind {tmp_path}"
    ended = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", f"{mount} || exit 99; {command}"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        timeout=60,
        check=False,
    )
    if ended.returncode == 99 or "unshare" in ended.stderr:
        pytest.skip("no file system may be mounted here")
    assert ended.returncode == 2, ended.stderr
    assert ended.stderr == f"error: {tmp_path / 'out.csv'}: the file cannot be written (Read-only file system)\n"


def test_the_longest_name_of_a_file_can_be_written_and_a_longer_one_is_named(tmp_path):
    longest = tmp_path / f"{'o' * 251}.csv"
    with table_writer(longest, {"a": None}, {}) as write:
        write(TableRow(2, {"a": "x"}, {}), {})
    assert [row.values for row in read_rows(longest)] == [{"a": "x"}]
    too_long = tmp_path / f"{'o' * 252}.csv"
    with pytest.raises(DataError, match="File name too long"), table_writer(too_long, {"a": None}, {}):
        pass
    assert names(tmp_path) == [longest.name]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_cleaning_up_does_not_hide_the_error(tmp_path, suffix):
    def fail():
        with table_writer(tmp_path / f"a{suffix}", {"a": None}, {}) as write:
            write(TableRow(2, {"a": "x"}, {}), {})
            shutil.rmtree(tmp_path)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
