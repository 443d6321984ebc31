"""A journal counts scored responses, holds no texts, and survives a full disk, a kill and a clock that is set back."""

import json
import multiprocessing
import signal
import stat
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest

from edgedistill_serve import DataError, Score, Scorer
from edgedistill_serve.bundle.response_counts import ResponseCounts
from edgedistill_serve.journal import writer as writing
from edgedistill_serve.journal.reading import read_journal
from edgedistill_serve.journal.records import AuditDraw, Entry, ScoredBy, Tally, clean_id
from edgedistill_serve.journal.writer import Journal

from ...full_disk import full_disk

HOUR = 1_796_036_400.0  # 2026-11-30T11
SCORE = Score("process", 0.83, {"process": 0.83, "outcome": 0.1, "person": 0.07}, "accept", None, False, 5)


@dataclass
class Clock:
    """A clock that is set by hand."""

    now: float = HOUR

    def __call__(self) -> float:  # noqa: D102
        return self.now


@pytest.fixture(scope="module")
def scorer(bundle):
    return Scorer(bundle, threads=1)


@pytest.fixture
def clock():
    return Clock()


def entry(ident=None, item=None) -> Entry:
    return Entry((), ident, item)


def read(folder, scorer):
    return read_journal([folder], scorer.bundle.manifest.name, scorer.bundle.manifest.version)


def journal(folder, clock, **given) -> Journal:
    return Journal(folder, clock=clock, start=False, **given)


def test_responses_are_counted_by_hour_and_item(tmp_path, scorer, clock):
    written = journal(tmp_path, clock)
    for item in ("q1", "q1", 2):
        written.add(scorer, entry("a", item), SCORE)
    written.flush()
    clock.now += 3600
    review = Score("person", 0.4, {}, "review", "below threshold", False, 70, novelty=1.1)
    written.add(scorer, entry(None, "q1"), review)
    written.flush()
    found = read(tmp_path, scorer)
    assert {key: counts.rows for key, counts in found.cells.items()} == {
        ("2026-11-30T11", "q1"): 2,
        ("2026-11-30T11", "2"): 1,
        ("2026-11-30T12", "q1"): 1,
    }
    later = found.cells["2026-11-30T12", "q1"]
    assert (later.labels, later.reasons) == ({"person": 1}, {"below threshold": 1})
    assert (later.tokens, later.probability[0], later.novelty[4]) == ([0] * 8 + [1], 1, 1)
    assert found.with_id == 3
    assert found.audited == {}


def test_the_item_of_a_response_to_a_question_is_the_hash_of_the_question(answers_bundle, tmp_path, clock):
    of = Scorer(answers_bundle, threads=1)
    written = journal(tmp_path, clock)
    for question in ("Why?", "why ?", "Why not?"):
        inputs = {"question": question, "reference_answer": "because", "response": "a secret that a learner typed"}
        written.add(of, Entry.of(of.bundle.task, inputs, {**inputs, "item": "ignored"}), SCORE)
    written.flush()
    assert sorted(counts.rows for counts in read(tmp_path, of).cells.values()) == [1, 2]
    text = "".join(path.read_text() for path in tmp_path.iterdir())
    assert "secret" not in text
    assert "hy" not in text


def test_drawn_ids_are_about_the_stated_share_and_the_same_in_each_process(tmp_path, scorer, clock):
    for _ in range(2):
        written = journal(tmp_path, clock, audit_share=0.1)
        for number in range(2000):
            written.add(scorer, entry(f"r-{number}"), SCORE)
        written.flush()
    found = read(tmp_path, scorer)
    assert 140 < len(found.audited) < 260  # 200 ± 13 of 2000
    assert found.rows == 4000
    one = next(iter(found.audited.values()))
    assert (one.inclusion_probability, one.label, one.decision) == (0.1, "process", "accept")
    assert stat.S_IMODE((tmp_path / "audit.key").stat().st_mode) == 0o600


def test_the_draw_depends_on_the_key_and_not_on_the_text_or_the_score():
    ids = [str(number) for number in range(1000)]
    drawn = [{each for each in ids if AuditDraw(0.5, bytes([key]) * 32).draws(each)} for key in (1, 2)]
    assert drawn[0] != drawn[1]
    assert all(AuditDraw(1.0, b"k" * 32).draws(each) for each in ids)


@pytest.mark.parametrize("given", [None, "", "  ", True, 1.5, "x" * 201, "two\nlines", ["a"], 10**30])
def test_what_is_no_id_is_none(given):
    assert clean_id(given) is None


def test_texts_that_are_sent_as_items_are_hashed(tmp_path, scorer, clock):
    written = journal(tmp_path, clock)
    written.add(scorer, entry(None, "You have worked hard " * 8), SCORE)
    written.flush()
    assert "worked" not in "".join(path.read_text() for path in tmp_path.iterdir())


def test_a_torn_last_line_is_counted_and_a_damaged_one_named(tmp_path, scorer, clock):
    written = journal(tmp_path, clock)
    for item in ("q1", "q2", "q3"):
        written.add(scorer, entry(None, item), SCORE)
        written.flush()
    (file,) = tmp_path.glob("*.jsonl")
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join([lines[0], lines[1], lines[2].replace(b'"rows":1', b'"rows":7'), lines[3][:-9]]))
    found = read(tmp_path, scorer)
    assert (found.rows, found.torn, found.damaged) == (1, 1, [(file.name, 3)])


def test_a_line_after_one_that_could_not_be_cut_off_is_whole(tmp_path, scorer, clock):
    written = journal(tmp_path, clock)
    written.add(scorer, entry(), SCORE)
    written.flush()
    (file,) = tmp_path.glob("*.jsonl")
    with file.open("ab") as torn:
        torn.write(b'{"type":"scored","ho')
    written.add(scorer, entry(), SCORE)
    written.flush()
    found = read(tmp_path, scorer)
    assert (found.rows, len(found.damaged), found.torn) == (2, 1, 0)


def test_a_clock_that_goes_backwards_is_counted(tmp_path, scorer, clock):
    written = journal(tmp_path, clock)
    for seconds in (0, 7200, -86400):
        clock.now = HOUR + seconds
        written.add(scorer, entry(), SCORE)
        written.flush()
    found = read(tmp_path, scorer)
    assert found.rows == 3
    assert found.backwards == (1 if found.files == 1 else 0)


def test_other_models_and_versions_are_counted_apart(tmp_path, scorer, clock):
    written = journal(tmp_path, clock)
    written.add(scorer, entry(), SCORE)
    other = SimpleNamespace(
        precision="int8",
        bundle=SimpleNamespace(manifest=SimpleNamespace(name="praise", version="0000", task=scorer.bundle.task)),
    )
    written.add(other, entry(), SCORE)
    written.flush()
    found = read(tmp_path, scorer)
    assert (found.rows, found.other_versions) == (1, {"praise@0000": 1})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"type":"journal","journal_version":2,"new":{}}\n', "has version 2, this program reads version 1"),
        (b"id,label\n1,process\n", "is not a journal"),
        (b"a text", "is not a journal"),
        (b'{"type":"scored"}\n', "is not a journal"),
    ],
)
def test_what_is_no_journal_of_this_version_is_refused(tmp_path, scorer, content, message):
    file = tmp_path / "a.jsonl"
    file.write_bytes(content)
    with pytest.raises(DataError, match=message) as error:
        read(file, scorer)
    assert error.value.where == str(file)


def test_an_empty_folder_and_an_empty_file_have_no_responses(tmp_path, scorer):
    (tmp_path / "a.jsonl").touch()
    assert read(tmp_path, scorer).rows == 0
    with pytest.raises(DataError, match="does not exist"):
        read(tmp_path / "missing", scorer)


def test_each_day_and_each_large_file_is_followed_by_another_one_and_old_ones_are_deleted(
    tmp_path, scorer, clock, monkeypatch
):
    (tmp_path / "notes.txt").touch()
    old = tmp_path / "2025-10-01-0123abcd-0000.jsonl"
    old.touch()
    monkeypatch.setattr(writing, "FILE_BYTES", 300)
    written = journal(tmp_path, clock)
    for seconds in (0, 60, 86400):
        clock.now = HOUR + seconds
        written.add(scorer, entry(), SCORE)
        written.flush()
    names = sorted(path.name[:10] + path.name[-11:] for path in tmp_path.glob("*.jsonl"))
    assert names == ["2026-11-30-0000.jsonl", "2026-11-30-0001.jsonl", "2026-12-01-0000.jsonl"]
    assert (tmp_path / "notes.txt").exists()
    assert read(tmp_path, scorer).rows == 3


def test_too_many_items_of_an_hour_are_counted_together():
    tally, by = Tally(), ScoredBy("m", "v", "int8")
    values = ("process", 0.9, None, 3, None)
    for number in range(20_100):
        tally.count("2026-11-30T11", by, f"q{number}", None, values)
    assert len(tally.cells) == 20_001
    assert tally.cells["2026-11-30T11", by, "(other items)"][0].rows == 100


def test_counts_that_do_not_add_up_have_a_fault():
    counts = ResponseCounts()
    counts.count("process", 0.5, "blank", 0, None)
    assert counts.fault() is None
    counts.labels["outcome"] = 1
    assert "do not add up" in counts.fault()


def _write_on_a_full_disk(folder: Path, said) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    faults = []
    clock = Clock()
    scorer = SimpleNamespace(
        precision="int8",
        bundle=SimpleNamespace(
            manifest=SimpleNamespace(name="m", version="v", task=SimpleNamespace(inputs=("response",)))
        ),
    )
    written = Journal(folder, clock=clock, start=False, on_fault=faults.append)
    written.add(scorer, entry(), SCORE)
    written.flush()
    with full_disk(500):
        for number in range(3):
            written.add(scorer, entry(None, f"q{number}"), SCORE)
            written.flush()
    written.flush()
    said.put([str(fault) if fault else None for fault in faults])


def test_a_full_disk_is_reported_and_loses_nothing_once_there_is_room(tmp_path):
    context = multiprocessing.get_context("fork")
    said = context.Queue()
    process = context.Process(target=_write_on_a_full_disk, args=(tmp_path, said))
    process.start()
    faults = said.get(timeout=60)
    process.join()
    assert faults[0] is None
    assert faults[-1] is None
    assert all("the journal cannot be written (File too large)" in fault for fault in faults[1:-1])
    found = read_journal([tmp_path], "m", "v")
    assert (found.rows, found.torn, found.damaged) == (4, 0, [])


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot be written"):
        journal(tmp_path / "file" / "journal", Clock())


def test_a_damaged_key_is_refused(tmp_path):
    (tmp_path / "audit.key").write_text("no key")
    with pytest.raises(DataError, match="it is not a key"):
        journal(tmp_path, Clock(), audit_share=0.5)


def test_a_line_has_the_fields_that_the_documentation_names(tmp_path, scorer, clock):
    written = journal(tmp_path, clock, audit_share=1.0)
    written.add(scorer, entry("r-1", "q1"), SCORE)
    written.flush()
    (file,) = tmp_path.glob("*.jsonl")
    header, scored, audit = map(json.loads, file.read_text().splitlines())
    assert set(header) == {"type", "journal_version", "written_by"}
    assert set(scored) == {"type", "hour", "model", "version", "precision", "item", "counts", "with_id"}
    assert set(audit) == {
        "type", "hour", "model", "version", "item", "id", "inclusion_probability", "label", "decision",
    }  # fmt: skip
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
