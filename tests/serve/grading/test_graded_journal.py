"""`grade --journal` counts each row once, also after a fault, and changes no byte of the table."""

import csv

import pytest

from edgedistill_serve import DataError, Scorer
from edgedistill_serve.grading.grade import GradingStopped, grade
from edgedistill_serve.grading.graded_journal import GradedJournal
from edgedistill_serve.journal.reading import read_journal

ROWS = 50


@pytest.fixture(scope="module")
def scorer(bundle):
    return Scorer(bundle, threads=1)


@pytest.fixture
def table(tmp_path):
    file = tmp_path / "in.csv"
    with file.open("w", newline="") as opened:
        writer = csv.writer(opened)
        writer.writerow(("id", "lesson", "response"))
        writer.writerows((f"r{n}", f"l{n % 2}", "zebraphone" if n else "poisonous") for n in range(ROWS))
    return file


def journal_of(folder, **given):
    return GradedJournal.open(folder, audit_share=1.0, item_column="lesson", **given)


def found_in(folder, scorer):
    return read_journal([folder], scorer.bundle.manifest.name, scorer.bundle.manifest.version)


def test_each_scored_row_is_counted_with_its_item_and_the_table_is_the_same(scorer, table, tmp_path):
    grade(scorer, table, tmp_path / "plain.csv")
    grade(scorer, table, tmp_path / "out.csv", journal=journal_of(tmp_path / "journal"), part_rows=20)
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "plain.csv").read_bytes()
    found = found_in(tmp_path / "journal", scorer)
    items = {}
    for (_, item), counts in found.cells.items():
        items[item] = items.get(item, 0) + counts.rows
    assert items == {"l0": ROWS // 2 - 1, "l1": ROWS // 2}
    assert set(found.audited) == {f"r{n}" for n in range(1, ROWS)}
    assert "zebraphone" not in "".join(path.read_text() for path in (tmp_path / "journal").iterdir())


def test_a_grading_that_is_stopped_and_goes_on_or_is_repeated_counts_each_row_once(scorer, table, tmp_path):
    journal = journal_of(tmp_path / "journal")
    with pytest.raises(GradingStopped):
        grade(scorer, table, tmp_path / "out.csv", journal=journal, part_rows=20, stop=lambda: True)
    assert found_in(tmp_path / "journal", scorer).rows == 0
    for _ in range(2):
        grade(scorer, table, tmp_path / "out.csv", journal=journal, part_rows=20, overwrite=True)
        assert found_in(tmp_path / "journal", scorer).rows == ROWS - 1


def test_a_grading_goes_on_only_with_the_journal_it_began_with(scorer, table, tmp_path):
    with pytest.raises(GradingStopped):
        grade(scorer, table, tmp_path / "out.csv", part_rows=20, stop=lambda: True)
    with pytest.raises(DataError, match="journal differs"):
        grade(scorer, table, tmp_path / "out.csv", journal=journal_of(tmp_path / "journal"), part_rows=20)


def test_a_journal_that_cannot_be_written_is_a_note(scorer, table, tmp_path):
    notes = []
    journal = journal_of(tmp_path / "journal")
    for each in (tmp_path / "journal").iterdir():
        each.unlink()
    (tmp_path / "journal").rmdir()
    grade(scorer, table, tmp_path / "out.csv", journal=journal, note=notes.append)
    assert any(note.startswith("the journal was not written (No such file or directory)") for note in notes)
    assert (tmp_path / "out.csv").exists()


def test_a_column_that_is_not_there_is_refused(scorer, table, tmp_path):
    journal = GradedJournal.open(tmp_path / "journal", id_column="ident")
    with pytest.raises(DataError, match="there is no column 'ident'"):
        grade(scorer, table, tmp_path / "out.csv", journal=journal)
