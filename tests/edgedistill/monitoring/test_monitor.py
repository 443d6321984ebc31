"""`monitor` on simulated terms: nothing, each kind of change, items, and what is wrong with a journal."""

import json

import numpy as np
import pytest

from edgedistill.cli.commands import main
from edgedistill.errors import ArgumentError
from edgedistill.monitoring import monitor
from edgedistill_serve import DataError
from edgedistill_serve.bundle.loading import write_bundle
from edgedistill_serve.bundle.reference import REFERENCE_FILE

from .conftest import NOW, JournalOf, counted, week


def term(journal, *, weeks=8, rows=300, changed_from=None, seed=0, item="", **change):
    draw = np.random.default_rng(seed)
    for number in range(weeks):
        now = change if changed_from is not None and number >= changed_from else {}
        journal.write(number, counted(draw, rows, **now), item)


def test_a_term_like_the_validation_rows_has_no_alarm(bundle, journal):
    term(journal)
    report = monitor(bundle, journal.folder, now=NOW)
    assert (report.rows, report.weeks, report.is_alarm) == (2400, (week(0), week(7)), False)
    assert "No change is shown." in repr(report)
    assert set(report.watched[0].evidence) == {"label", "review", "probability", "novelty", "tokens"}
    figures = report.by_week[0]
    assert figures.rows == 300
    assert figures.labels["process"].low < 0.5 < figures.labels["process"].high


@pytest.mark.parametrize(
    ("quantity", "change"),
    [
        ("label", {"shares": (0.2, 0.3, 0.5)}),
        ("review", {"review": 0.5}),
        ("probability", {"sure": 0.35}),
        ("novelty", {"novelty": 2.0}),
        ("tokens", {"longer": 30}),
    ],
)
def test_each_quantity_that_changes_is_named_with_its_week(bundle, journal, quantity, change):
    term(journal, changed_from=4, **change)
    (alarm,) = monitor(bundle, journal.folder, now=NOW).alarms
    assert (alarm.item, alarm.quantity, alarm.since) == ("", quantity, week(4))
    assert alarm.found in (week(4), week(5))
    assert not alarm.allowed[0] <= alarm.now.value <= alarm.allowed[1]


def test_a_change_within_the_tolerance_is_no_alarm_however_many_responses_there_are(with_reference, tmp_path):
    bundle = with_reference(20_000)
    journal = JournalOf(tmp_path / "journal", bundle)
    draw = np.random.default_rng(1)
    for number in range(3):
        journal.write(number, counted(draw, 10_000, (0.47, 0.32, 0.21)))
    assert not monitor(bundle, journal.folder, now=NOW).alarms
    assert monitor(bundle, journal.folder, tolerance=0.0, now=NOW).alarms


def test_an_item_with_a_reference_is_compared_with_its_own(with_reference, tmp_path):
    bundle = with_reference(items=("q1", "q2"))
    journal = JournalOf(tmp_path / "journal", bundle)
    term(journal, item="q1", rows=150, changed_from=3, shares=(0.05, 0.15, 0.8))
    term(journal, item="q2", rows=1500, seed=2)
    report = monitor(bundle, journal.folder, now=NOW)
    assert {alarm.item for alarm in report.alarms} == {"q1"}
    assert [each.compared_with for each in report.watched] == 3 * ["validation rows"]


def test_an_item_that_was_never_seen_is_compared_with_its_first_weeks(with_reference, tmp_path):
    bundle = with_reference(items=("q1",))
    journal = JournalOf(tmp_path / "journal", bundle)
    term(journal, item="q1", rows=2000)
    term(journal, item="new", rows=60, changed_from=4, review=0.9, weeks=9)
    report = monitor(bundle, journal.folder, now=NOW)
    (alarm,) = [alarm for alarm in report.alarms if alarm.item == "new"]
    assert (alarm.quantity, alarm.compared_with, alarm.since) == ("review", "first weeks", week(4))
    assert "1 items (540 responses) have no reference in the bundle" in repr(report)


def test_an_item_of_few_responses_is_compared_with_nothing_yet(bundle, journal):
    term(journal, item="q1", rows=20, weeks=3)
    watched = {each.item: each.compared_with for each in monitor(bundle, journal.folder, now=NOW).watched}
    assert watched == {"": "validation rows", "q1": "nothing yet"}


def test_learners_who_always_say_the_same_count_less(with_reference, tmp_path):
    bundle = with_reference(design_effect=20.0)
    journal = JournalOf(tmp_path / "journal", bundle)
    term(journal, changed_from=4, shares=(0.3, 0.4, 0.3))
    assert not monitor(bundle, journal.folder, now=NOW).alarms


def test_false_alarms_are_at_most_as_frequent_as_stated(with_reference, tmp_path):
    """A cheap check; `benchmarks/monitor.py` simulates 500 terms."""
    bundle = with_reference(4000)
    alarms = 0
    for seed in range(12):
        journal = JournalOf(tmp_path / f"journal-{seed}", bundle)
        term(journal, weeks=5, rows=120, seed=100 + seed)
        alarms += monitor(bundle, journal.folder, tolerance=0.0, false_alarms=0.2, now=NOW).is_alarm
    assert alarms <= 6


def test_days_before_since_do_not_count(bundle, journal):
    term(journal, weeks=4, changed_from=0, review=0.6)
    draw = np.random.default_rng(9)
    for number in range(4, 8):
        journal.write(number, counted(draw, 300))
    assert monitor(bundle, journal.folder, now=NOW).alarms
    report = monitor(bundle, journal.folder, since=week(4), now=NOW)
    assert not report.alarms
    assert f"1200 responses before {week(4)} do not count" in report.notes


def test_a_clock_that_goes_backwards_and_hours_of_the_future_are_reported(bundle, journal):
    draw = np.random.default_rng(0)
    for number in (3, 1, 60):
        journal.write(number, counted(draw, 50))
    report = monitor(bundle, journal.folder, now=NOW)
    assert report.rows == 100
    assert "the clock of a server went backwards 1 times; responses count in the hour that it showed" in report.notes
    assert "50 responses have an hour in the future and do not count: a clock was wrong" in report.notes


def test_responses_of_another_bundle_do_not_count(bundle, journal):
    draw = np.random.default_rng(0)
    journal.write(0, counted(draw, 50), version="000000000000")
    with pytest.raises(DataError, match=r"it has responses of praise@000000000000 \(50\)"):
        monitor(bundle, journal.folder, now=NOW)
    journal.write(0, counted(draw, 70))
    report = monitor(bundle, journal.folder, now=NOW)
    assert report.rows == 70
    assert any(note.endswith("which do not count: praise@000000000000 (50)") for note in report.notes)


def test_an_empty_journal_and_an_older_bundle_are_refused(bundle, journal, tmp_path):
    with pytest.raises(DataError, match=r"the journal has no responses \(0 files, 0 lines\)"):
        monitor(bundle, journal.folder, now=NOW)
    files = {name: bundle.folder / name for name in bundle.manifest.files if name != REFERENCE_FILE}
    older = write_bundle(tmp_path / "older", bundle.manifest, files)
    with pytest.raises(DataError, match="the bundle has no reference"):
        monitor(older, journal.folder, now=NOW)


@pytest.mark.parametrize("wrong", [{"false_alarms": 0}, {"false_alarms": float("nan")}, {"tolerance": 1}])
def test_rates_that_are_none_are_refused(bundle, journal, wrong):
    with pytest.raises(ArgumentError):
        monitor(bundle, journal.folder, **wrong)


@pytest.fixture
def run(monkeypatch, capsys):
    def command(*words):
        monkeypatch.setattr("sys.argv", ["edgedistill", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            main()
        said = capsys.readouterr()
        return stop.value.code or 0, said.out, said.err

    return command


def test_the_command_says_what_changed_by_its_exit_code_and_writes_the_report(run, bundle, journal, tmp_path):
    term(journal, weeks=4)
    assert run("monitor", bundle.folder, journal.folder)[0] == 0
    term(journal, weeks=4, changed_from=0, review=0.7, seed=7)
    code, said, _ = run("monitor", bundle.folder, journal.folder, "--out", tmp_path / "report")
    assert code == 5
    assert "CHANGED: 1 quantity" in said
    assert "What to do (review)" in said
    found = json.loads((tmp_path / "report" / "monitor.json").read_text())
    assert (found["monitor_version"], found["is_alarm"], found["alarms"][0]["quantity"]) == (1, True, "review")
    page = (tmp_path / "report" / "monitor.html").read_text()
    assert "All responses by week" in page
    assert "<script" not in page
    code, _, complaint = run("monitor", bundle.folder, tmp_path / "nothing")
    assert (code, complaint) == (
        2,
        f"edgedistill: {tmp_path / 'nothing'}: the journal does not exist. Name a file, or the folder.\n",
    )
