"""A grading that is stopped, killed or fails keeps its whole parts, and ends as one that was not interrupted."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest

from edgedistill_serve import Scorer
from edgedistill_serve.errors import DataError
from edgedistill_serve.grading.grade import grade
from edgedistill_serve.grading.storage import LocalFolder
from edgedistill_serve.grading.table_reader import TableRow, read_rows
from edgedistill_serve.grading.table_writer import table_writer

from ...processes import PROGRAMS, Process

GRADE = [sys.executable, "-m", "edgedistill_serve", "grade"]
SECRET = "great job my name is Annabel"


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def start(bundle, source, target, *more):
    return Process(
        PROGRAMS / "edgedistill-serve", "grade", bundle.folder, source, target, *more, like="edgedistill-serve"
    )


def run(*given):
    process = start(*given)
    message = process.communicate()[1]
    assert process.wait() == 0, message
    return message


@pytest.fixture
def folder(tmp_path):
    """A folder with a table of several parts and an old result."""
    rows = "".join(f"{number},{SECRET} {number}\n" for number in range(6_000))
    (tmp_path / "in.csv").write_text("id,response\n1\n" + rows)
    (tmp_path / "out.csv").write_text("precious")
    return tmp_path


WAITS = """
import importlib, runpy, sys, time
command = importlib.import_module("edgedistill_serve.cli.grade")
grade, rows = command.grade_table, int(sys.argv[1])
def waiting(*given, progress, stop, **named):
    def wait(counts, share):
        progress(counts, share)
        while counts.read >= rows and not stop():
            time.sleep(0.005)
    return grade(*given, progress=wait, stop=stop, **named)
command.grade_table = waiting
sys.argv = ["edgedistill-serve", *sys.argv[2:]]
runpy.run_module("edgedistill_serve", run_name="__main__")
"""


def start_waiting(rows, bundle, *given):
    """Start a grading that waits for a signal after so many rows, however busy the machine is."""
    return Process("-c", WAITS, rows, "grade", bundle.folder, *given, like="edgedistill-serve")


def wait_for_part(process, parts, number):
    until = time.monotonic() + 120
    while not (parts / f"part-{number:05}.json").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.005)


def send(process, number):
    process.send_signal(number)
    return process.communicate()[1]


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl.gz"])
def test_a_killed_grading_goes_on_after_its_last_whole_part(bundle, folder, suffix):
    run(bundle, folder / "in.csv", folder / f"whole{suffix}", "--part-rows", "500")
    target, parts = folder / f"again{suffix}", folder / f"again{suffix}.parts"
    for part in (1, 4):
        process = start_waiting(500 * part + 700, bundle, folder / "in.csv", target, "--part-rows", "500")
        wait_for_part(process, parts, part)
        send(process, signal.SIGKILL)
    (parts / ".part-00009.csv.0123abcd.edgedistill-part").write_text(SECRET)
    message = run(bundle, folder / "in.csv", target, "--part-rows", "500")
    assert "rows are in whole parts of an earlier grading; it goes on after them" in message
    assert target.read_bytes() == (folder / f"whole{suffix}").read_bytes()
    rejected = [(folder / f"{name}{suffix}.rejected.csv").read_bytes() for name in ("again", "whole")]
    assert rejected[0] == rejected[1] != b""
    assert not parts.exists()


def test_a_folder_of_parts_is_the_same_after_a_kill(bundle, folder):
    run(bundle, folder / "in.csv", f"{folder}/whole/", "--to", "csv", "--part-rows", "1000")
    process = start_waiting(2_500, bundle, folder / "in.csv", f"{folder}/again/", "--to", "csv", "--part-rows", "1000")
    wait_for_part(process, folder / "again", 1)
    send(process, signal.SIGKILL)
    run(bundle, folder / "in.csv", f"{folder}/again/", "--to", "csv", "--part-rows", "1000")
    assert names(folder / "again") == ["manifest.json", *(f"part-{number:05}.csv" for number in range(7))]
    for name in names(folder / "again"):
        assert (folder / "again" / name).read_bytes() == (folder / "whole" / name).read_bytes()
    manifest = json.loads((folder / "again" / "manifest.json").read_text())
    assert manifest["state"] == "complete"
    assert manifest["counts"]["read"] == 6_001
    assert sum(part["rows"] for part in manifest["parts"]) == 6_000
    refused = start(bundle, folder / "in.csv", f"{folder}/again/", "--to", "csv")
    assert "has a graded table already. Use --force to replace it." in refused.communicate()[1]


def test_what_a_worker_that_was_killed_left_is_not_in_a_complete_folder(bundle, folder):
    def leave(counts, _share):
        (folder / "parts" / f".part-00001.parquet.{counts.read}.edgedistill-part").write_text(SECRET)

    source, target = folder / "in.csv", f"{folder / 'parts'}/"
    grade(Scorer(bundle, threads=1), source, target, part_rows=4_000, write_format="jsonl", progress=leave)
    assert names(folder / "parts") == ["manifest.json", "part-00000.jsonl", "part-00001.jsonl"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGQUIT, 131)])
def test_a_signal_to_stop_finishes_the_part_in_hand(bundle, folder, number, code):
    process = start_waiting(1_700, bundle, folder / "in.csv", folder / "out.csv", "--force", "--part-rows", "800")
    wait_for_part(process, folder / "out.csv.parts", 0)
    message = send(process, number)
    assert process.wait() == code
    rows = int(message.split("stopped: ")[1].split()[0])
    assert rows % 800 == 0
    assert "the same command goes on after them." in message
    assert (folder / "out.csv").read_text() == "precious"
    whole = [name for name in names(folder / "out.csv.parts") if name.endswith(".csv")]
    assert len(whole) == rows // 800
    assert names(folder / "out.csv.parts") == ["manifest.json", *sorted(whole + [f"{n[:-4]}.json" for n in whole])]


def test_ctrl_c_stops_at_once_and_says_what_is_kept(bundle, folder):
    process = start_waiting(1_700, bundle, folder / "in.csv", folder / "out.csv", "--force", "--part-rows", "800")
    wait_for_part(process, folder / "out.csv.parts", 1)
    message = send(process, signal.SIGINT)
    assert process.wait() == 1
    # Where the signal comes between a part's file and its count, the number of rows is not known.
    assert re.search(r"(1600 rows|2 whole parts) are in", message)
    assert "Traceback" not in message
    assert (folder / "out.csv").read_text() == "precious"


def test_a_grading_that_is_stopped_before_its_first_part_leaves_no_texts(bundle, folder):
    process = start_waiting(4_000, bundle, folder / "in.csv", folder / "out.csv", "--force", "--part-rows", "1000000")
    until = time.monotonic() + 60
    while not any(path.stat().st_size for path in folder.glob("out.csv.parts/.part*")):
        assert time.monotonic() < until
        time.sleep(0.005)
    message = send(process, signal.SIGINT)
    assert f"{folder / 'out.csv'} was not written." in message
    assert names(folder) == ["in.csv", "out.csv"]


def test_parts_of_another_grading_are_kept_without_restart(bundle, folder):
    process = start_waiting(900, bundle, folder / "in.csv", folder / "new.csv", "--part-rows", "800")
    wait_for_part(process, folder / "new.csv.parts", 0)
    send(process, signal.SIGKILL)
    before = [name for name in names(folder / "new.csv.parts") if not name.startswith(".")]
    (folder / "in.csv").write_text("id,response\n7,great job\n")
    refused = start(bundle, folder / "in.csv", folder / "new.csv", "--prefix", "x_", "--part-rows", "800")
    message = refused.communicate()[1]
    assert refused.wait() == 2
    assert "the parts there are of another grading: input, added_columns differ. Use --restart" in message
    assert [name for name in before if name not in names(folder / "new.csv.parts")] == []
    run(bundle, folder / "in.csv", folder / "new.csv", "--restart")
    assert [row.values["id"] for row in read_rows(folder / "new.csv")] == ["7"]
    assert names(folder) == ["in.csv", "new.csv", "out.csv"]


def test_a_part_that_was_changed_is_not_used(bundle, folder):
    process = start_waiting(900, bundle, folder / "in.csv", folder / "new.csv", "--part-rows", "800")
    wait_for_part(process, folder / "new.csv.parts", 0)
    send(process, signal.SIGKILL)
    part = folder / "new.csv.parts" / "part-00000.csv"
    part.write_bytes(part.read_bytes().replace(b"Annabel", b"Clarice", 1))
    refused = start(bundle, folder / "in.csv", folder / "new.csv", "--part-rows", "800")
    assert "part-00000.csv: the part was changed or is damaged." in refused.communicate()[1]


def test_two_gradings_do_not_write_into_one_folder(bundle, folder):
    parts = LocalFolder(folder / "new.csv.parts")
    parts.make()
    with parts.lock():
        refused = start(bundle, folder / "in.csv", folder / "new.csv")
        message = refused.communicate()[1]
    assert "another process is grading into this folder. Wait for it, or write to another OUT." in message
    assert names(folder) == ["in.csv", "out.csv"]


@pytest.mark.parametrize("row", ['"open\n', "a,b,c\n", "\udcff\n"])
def test_a_malformed_row_after_many_keeps_whole_parts_if_strict(bundle, tmp_path, row):
    content = "id,response\n" + 1500 * f"1,{SECRET} \u00e9\n" + row
    (tmp_path / "in.csv").write_bytes(content.encode(errors="surrogateescape"))
    process = start(bundle, tmp_path / "in.csv", tmp_path / "out.csv", "--strict", "--part-rows", "500")
    message = process.communicate()[1]
    assert process.wait() == 2
    assert message.startswith("error: in.csv, row 1502: ")
    assert f"1500 rows are in whole parts in {tmp_path / 'out.csv.parts'}; the same command goes" in message


@pytest.mark.parametrize("threads", ["nan", "inf", "-1", "0", "1e3", "1000000", ""])
def test_an_absurd_number_of_threads_is_refused(bundle, tmp_path, threads):
    (tmp_path / "in.csv").write_text("response\ngreat job\n")
    process = start(bundle, tmp_path / "in.csv", tmp_path / "out.csv", "--threads", threads)
    message = process.communicate()[1]
    assert process.wait() == 2
    assert "Invalid value for '--threads'" in message
    assert names(tmp_path) == ["in.csv"]


LIMIT = """
import resource, runpy, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, 12_000))
sys.argv = ["edgedistill-serve", *sys.argv[1:]]
runpy.run_module("edgedistill_serve", run_name="__main__")
"""


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet", ".csv.gz"])
@pytest.mark.parametrize("part_rows", ["100000", "20"])
def test_a_full_disk_leaves_the_old_table_and_is_one_line(bundle, tmp_path, suffix, part_rows):
    (tmp_path / "in.csv").write_text("response\n" + "".join(f"{SECRET} {row * row}\n" for row in range(1600)))
    target = tmp_path / f"out{suffix}"
    target.write_text("precious")
    # No file may grow beyond the limit, which to a writer is what a full disk is.
    grade = ("grade", bundle.folder, tmp_path / "in.csv", target, "--force", "--part-rows", part_rows)
    process = Process("-c", LIMIT, *grade, like="edgedistill-serve")
    message = process.communicate()[1]
    assert process.wait() == 2, message
    assert message.count("\n") == 1
    assert "the file cannot be written (File too large)" in message
    assert target.read_text() == "precious"
    kept = [f"out{suffix}.parts"] if "1600 rows are in whole parts" in message else []
    assert names(tmp_path) == ["in.csv", f"out{suffix}", *kept]
    assert bool(kept) == (part_rows == "20")


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
    assert ended.stderr == f"error: {tmp_path / 'out.csv.parts'}: the file cannot be written (Read-only file system)\n"


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


def test_what_a_killed_writer_of_a_table_left_is_deleted_by_the_next_one(tmp_path):
    left = tmp_path / ".out.csv.0123abcd.edgedistill-part"
    left.write_text(SECRET)
    with table_writer(tmp_path / "other.csv", {"a": None}, {}) as write:
        (used,) = [name for name in names(tmp_path) if name.startswith(".")]
        write(TableRow(2, {"a": "x"}, {}), {})
        with table_writer(tmp_path / "third.csv", {"a": None}, {}):
            assert used in names(tmp_path)
    assert names(tmp_path) == ["other.csv", "third.csv"]
