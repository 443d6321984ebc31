"""Human codes of the audit slice: the sheet, κ now, and the promise."""

import csv

import pandas as pd
import pytest

from edgedistill.monitoring import monitor
from edgedistill.monitoring.monitor import write_sheet
from edgedistill_serve import DataError

from .conftest import LABELS, NOW, JournalOf
from .test_monitor import term


def coded_term(journal, *, drawn=200, wrong_every=0, accepted=True, probability=lambda _: 0.1):
    """Write a term with drawn ids, and return codes that differ from the label in every n-th row."""
    term(journal, weeks=2)
    rows = []
    for number in range(drawn):
        label = LABELS[number % 3]
        journal.draw(f"r{number}", label, "accept" if accepted else "review", probability=probability(number))
        is_wrong = wrong_every and number % wrong_every == 0
        rows.append({"id": f"r{number}", "human_code": LABELS[(number + 1) % 3] if is_wrong else label})
    return pd.DataFrame(rows)


def codes_of(bundle, journal, codes):
    return monitor(bundle, journal.folder, codes=codes, now=NOW).codes


def test_kappa_now_is_compared_with_that_at_release(bundle, journal):
    found = codes_of(bundle, journal, coded_term(journal, wrong_every=2))
    assert (found.drawn, found.coded, found.used) == (200, 200, 200)
    assert found.kappa_at_release.value == 0.70
    assert found.kappa.value < 0.3
    assert found.difference.high < 0
    assert found.outcome == "lower"


def test_lower_kappa_and_a_withdrawn_promise_are_alarms(bundle, journal):
    report = monitor(bundle, journal.folder, codes=coded_term(journal, wrong_every=2), now=NOW)
    assert not report.alarms
    assert report.is_alarm
    (promise,) = report.codes.promises
    assert (promise.outcome, promise.wrong, promise.accepted) == ("withdrawn", 100, 200)
    assert "promise of at most 0.05 wrong: WITHDRAWN" in repr(report)


def test_a_promise_that_the_codes_show_is_certified_again(bundle, journal):
    report = monitor(bundle, journal.folder, codes=coded_term(journal, wrong_every=150), now=NOW)
    assert report.codes.promises[0].outcome == "certified again"
    assert not report.is_alarm


def test_too_few_codes_decide_nothing_and_the_number_of_others_is_stated(bundle, journal):
    codes = coded_term(journal).head(40)
    report = monitor(bundle, journal.folder, codes=codes, now=NOW)
    (promise,) = report.codes.promises
    assert (promise.outcome, promise.accepted) == ("not enough codes", 40)
    assert 34 <= promise.more <= 500  # 74 rows without an error are enough, and some errors are expected
    assert f"about {promise.more} more" in repr(report)
    assert "160 of 200 drawn responses have no code" in report.codes.notes


def test_responses_that_people_reviewed_say_nothing_about_the_promise(bundle, journal):
    (promise,) = codes_of(bundle, journal, coded_term(journal, wrong_every=2, accepted=False)).promises
    assert (promise.outcome, promise.accepted, promise.share) == ("not enough codes", 0, None)


def test_unequal_probabilities_are_made_equal_by_chance(bundle, journal):
    codes = coded_term(journal, drawn=300, probability=lambda number: 0.1 if number < 150 else 0.4)
    found = codes_of(bundle, journal, codes)
    assert 165 <= found.used <= 210  # 150 and a quarter of 150
    assert any("the inclusion probabilities differ" in note for note in found.notes)


def test_ids_that_were_not_drawn_are_not_used(bundle, journal):
    codes = coded_term(journal)
    more = pd.concat([codes, pd.DataFrame([{"id": "x1", "human_code": "process"}])])
    found = codes_of(bundle, journal, more)
    assert found.coded == 200
    assert found.notes[0].startswith("1 coded ids are not in the audit slice and were not used")
    with pytest.raises(DataError, match="none of its 1 coded ids is in the audit slice of the journal, which has 200"):
        codes_of(bundle, journal, more.tail(1))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"id": "r1", "human_code": "zeal"}], "labels that the bundle does not have: 'zeal' .row 1."),
        ([{"id": "r1", "human_code": "process"}] * 2, "the id is already in row 1"),
        ([{"id": "", "human_code": "process"}], "the id is empty"),
        ([{"id": "r1", "code": "process"}], "there is no column 'human_code'"),
        ([{"id": "r1", "human_code": "process", "inclusion_probability": "2"}], "the inclusion probability is not"),
        ([], "has no rows"),
    ],
)
def test_codes_that_cannot_be_used_are_refused(bundle, journal, rows, message):
    coded_term(journal, drawn=3)
    with pytest.raises(DataError, match=message):
        codes_of(bundle, journal, pd.DataFrame(rows))


def test_a_bundle_without_a_promise_has_none_to_test(with_reference, tmp_path):
    bundle = with_reference(guarantee=None)
    journal = JournalOf(tmp_path / "journal", bundle)
    assert codes_of(bundle, journal, coded_term(journal)).promises == ()


def test_the_sheet_has_texts_of_the_platform_and_no_label_of_the_model(bundle, journal, tmp_path):
    codes = coded_term(journal, drawn=30)
    platform = tmp_path / "platform.csv"
    with platform.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([("id", "response"), *((f"r{n}", f"=text {n}") for n in range(25))])
    sheet = tmp_path / "sheet.csv"
    rows, notes = write_sheet(bundle, journal.folder, sheet=sheet, responses=platform, codes=codes.head(5), rows=10)
    assert (rows, notes) == (10, ["5 drawn ids are not in platform.csv"])
    with sheet.open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert set(lines[0]) == {"id", "response", "inclusion_probability", "human_code"}
    assert {float(line["inclusion_probability"]) for line in lines} == {0.1 * 10 / 20}
    assert {line["human_code"] for line in lines} == {""}
    assert not {line["id"] for line in lines} & {f"r{n}" for n in range(5)}
    with pytest.raises(DataError, match="exists already"):
        write_sheet(bundle, journal.folder, sheet=sheet)


def test_without_drawn_responses_there_is_no_sheet(bundle, journal, tmp_path):
    term(journal, weeks=1)
    with pytest.raises(DataError, match="there is no drawn response without a code"):
        write_sheet(bundle, journal.folder, sheet=tmp_path / "sheet.csv")
