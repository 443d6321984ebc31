"""The journal: whole lines after every kind of end, and nothing that was not said to be saved."""

import pytest

from edgedistill.coding.codings import Codings
from edgedistill.coding.journal import Coded, Journal, NotSaved, read_journal
from edgedistill.errors import DataError

from ...full_disk import full_disk
from ...processes import Process


def written(path, count):
    journal = Journal(path)
    for number in range(count):
        journal.append(Coded(by="anna", id=f"r{number}", code="process"))
    journal.close()
    return path.read_bytes()


@pytest.mark.parametrize("part", [b'{"event":"coded","by":"anna","n":3', b"\x00" * 50, b"{"])
def test_a_line_that_was_being_written_when_the_process_was_killed_is_removed(tmp_path, part):
    path = tmp_path / "journal.jsonl"
    whole = written(path, 2)
    path.write_bytes(whole + part)
    journal = Journal(path)
    assert [event.id for event in journal.events] == ["r0", "r1"]
    (event,) = journal.append(Coded(by="anna", id="r2", code="outcome"))
    journal.close()
    assert event.n == 3
    assert path.read_bytes().startswith(whole)
    assert [event.id for event in read_journal(path)[0]] == ["r0", "r1", "r2"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: [lines[0], b"\x00\n", lines[2]], "line 2: the line is damaged"),
        (lambda lines: [lines[0], lines[2]], "line 2: the line has the number 3"),
        (lambda lines: [lines[0], lines[1].replace(b"coded", b"sung"), lines[2]], "line 2: the line is damaged"),
    ],
)
def test_a_damaged_or_missing_line_is_named(tmp_path, change, message):
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b"".join(change(written(path, 3).splitlines(True))))
    with pytest.raises(DataError, match=message):
        Journal(path)


def test_what_does_not_fit_on_the_disk_is_taken_back_whole_and_the_next_event_is_written(tmp_path):
    path = tmp_path / "journal.jsonl"
    whole = written(path, 2)
    journal = Journal(path)
    with (
        full_disk(len(whole) + 30),
        pytest.raises(NotSaved, match=r"the disk is full\. Free space on the disk, then save again"),
    ):
        journal.append(Coded(by="anna", id="r2", code="outcome"))
    assert path.read_bytes() == whole
    journal.append(Coded(by="anna", id="r3", code="outcome"))
    journal.close()
    assert [(event.n, event.id) for event in read_journal(path)[0]] == [(1, "r0"), (2, "r1"), (3, "r3")]


def test_every_event_that_was_returned_is_in_the_journal_of_a_killed_process(tmp_path):
    path = tmp_path / "journal.jsonl"
    code = (
        "import sys\nfrom pathlib import Path\nfrom edgedistill.coding.journal import Coded, Journal\n"
        f"journal = Journal(Path({str(path)!r}))\n"
        "while True:\n    print(journal.append(Coded(by='anna', id='r', code='process'))[0].n, flush=True)\n"
    )
    with Process("-c", code) as process:
        returned = [int(process.stdout.readline()) for _ in range(50)]
        process.kill()
        returned += [int(line) for line in process.stdout if line.endswith("\n")]
    events, _ = read_journal(path)
    assert [event.n for event in events][: len(returned)] == returned


def test_the_journal_is_readable_by_its_owner_only(tmp_path):
    written(tmp_path / "journal.jsonl", 1)
    assert (tmp_path / "journal.jsonl").stat().st_mode & 0o077 == 0


def test_an_empty_state_has_no_codes():
    codings = Codings()
    assert (codings.codes("r0"), codings.label("r0"), codings.is_complete("r0")) == ({}, "", False)
