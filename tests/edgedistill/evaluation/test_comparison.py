"""Two bundles on the same coded rows: differences, changed labels, rows they learned from, and pairs that cannot be."""

import itertools
import json

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from edgedistill.agreement.types import Estimate
from edgedistill.cli.commands import app
from edgedistill.errors import ArgumentError, DataError
from edgedistill.evaluation.bundle_rows import BundleRows
from edgedistill.evaluation.coded_rows import CodedColumns, read_coded_table
from edgedistill.evaluation.compare_bundles import compare_bundles, compare_on_rows
from edgedistill.evaluation.comparison import decide, describe_comparison
from edgedistill_serve import Scorer
from edgedistill_serve.bundle.manifest import ReviewRule

SAYS = {"hard": (3, 0, 0), "smart": (0, 2, 0), "great": (0, 0, 1)}
"""What each word says for process, outcome and person: the first of them that occurs decides."""
WORDS = ("you", "worked", "hard", "great", "job", "smart", "answer", "why")
TEXTS = [" ".join(words) for words in itertools.islice(itertools.permutations(WORDS, 3), 0, 336, 4)][:80]
LABELS = ("process", "outcome", "person")
SWAPPED = ("person", "process", "outcome")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("bundles")


@pytest.fixture(scope="module")
def old(make_keyword_bundle, folder):
    """It does not know that `smart` is outcome."""
    return make_keyword_bundle(folder / "old", {**SAYS, "smart": (0, 0, 2)})


@pytest.fixture(scope="module")
def new(make_keyword_bundle, folder):
    """It sends those to people about which the words say little."""
    return make_keyword_bundle(folder / "new", SAYS, review=ReviewRule(thresholds=dict.fromkeys(LABELS, 0.6)))


@pytest.fixture(scope="module")
def coded(new):
    """Rows whose human codes are those of the new bundle, but for every tenth."""
    codes = [score.label for score in Scorer(new).score(TEXTS)]
    for place in range(0, 80, 10):
        codes[place] = LABELS[(LABELS.index(codes[place]) + 1) % 3]
    frame = pd.DataFrame({"id": [f"c{n}" for n in range(80)], "response": TEXTS, "label": codes})
    return frame.assign(school=["north", "south"] * 40, learner=[f"l{n % 20}" for n in range(80)])


def test_a_bundle_that_codes_more_rows_as_people_do_is_better_and_the_one_it_replaces_worse(old, new, coded):
    found, other = compare_bundles(old, new, coded), compare_bundles(new, old, coded)
    assert (found.verdict, other.verdict) == ("better", "worse")
    assert found.kappa.value == pytest.approx(-other.kappa.value)
    assert found.agreement["new"].accuracy.value == pytest.approx(0.9)
    paired = found.paired
    assert paired.both_right + paired.only_first_right + paired.only_second_right + paired.neither_right == 80
    difference = found.agreement["new"].kappa.value - found.agreement["old"].kappa.value
    assert found.kappa.value == pytest.approx(difference)
    assert "The new bundle is better" in repr(found)


@pytest.mark.parametrize(
    ("difference", "verdict"),
    [
        (Estimate(0.1, 0.001, 0.2), "better"),
        (Estimate(-0.1, -0.2, -0.001), "worse"),
        (Estimate(0.1, 0.0, 0.2), "undecided"),
        (Estimate(0.1, float("nan"), float("nan")), "undecided"),
        (None, "undecided"),
    ],
)
def test_the_interval_of_the_difference_in_kappa_decides_and_one_that_is_undefined_decides_nothing(difference, verdict):
    assert decide(difference) == verdict


def test_changed_labels_are_counted_with_what_people_said_and_every_row_is_named(old, new, coded):
    found = compare_bundles(old, new, coded)
    rows = {row.id: row for row in found.changed_rows}
    assert sum(change.rows for change in found.changes) == len(rows) > 5
    first = found.changes[0]
    of_first = [row for row in rows.values() if (row.old, row.new) == (first.old, first.new)]
    assert first.rows == len(of_first)
    assert first.new_right == sum(row.human == row.new for row in of_first)
    assert first.old_right == sum(row.human == row.old for row in of_first)


def test_decisions_are_compared_on_the_same_rows(old, new, coded):
    found = compare_bundles(old, new, coded)
    scores = Scorer(new).score(TEXTS)
    accepted = [score.decision == "accept" for score in scores]
    wrong = [yes and score.label != code for yes, score, code in zip(accepted, scores, coded.label, strict=True)]
    decisions = found.decisions
    assert decisions.accepted == {"old": 80, "new": sum(accepted)}
    assert decisions.share_accepted.value == pytest.approx(np.mean(accepted) - 1)
    assert decisions.share_accepted.high < 0
    assert decisions.errors["new"].wrong == sum(wrong)
    assert decisions.accepted_wrong.value == pytest.approx(np.mean(wrong) - decisions.errors["old"].wrong / 80)


def test_equal_labels_leave_an_interval_that_has_a_width(make_keyword_bundle, new, coded, folder):
    alike = make_keyword_bundle(folder / "alike", SAYS)  # another decision rule, the same labels
    found = compare_bundles(alike, new, coded)
    assert (found.kappa.value, found.verdict, found.changes) == (0.0, "undecided", ())
    assert found.kappa.low < 0 < found.kappa.high
    assert "these rows exclude a loss of more than" in repr(found)


def test_groups_and_clusters_are_columns_and_small_parts_have_no_figures(old, new, coded):
    found = compare_bundles(old, new, coded, groups=["school"], clusters="learner", smallest=40)
    (table,) = found.groups
    assert [(part.value, part.rows, part.suppressed) for part in table.parts] == [
        ("north", 40, False),
        ("south", 40, False),
    ]
    assert table.by_chance == pytest.approx(0.1)
    assert found.paired.mcnemar is None  # rows of a learner are related
    (few,) = compare_bundles(old, new, coded, groups=["school"], smallest=41).groups
    assert all(part.suppressed and part.kappa is None for part in few.parts)


def test_parts_are_questions_where_a_bundle_reads_one(make_keyword_bundle, new, coded, folder):
    reads = make_keyword_bundle(folder / "reads", SAYS, inputs=("question", "response"))
    rows = coded.assign(question=["Why?"] * 50 + ["How?"] * 30)
    found = compare_bundles(new, reads, rows)
    assert [(part.value, part.rows) for part in found.questions.parts] == [("How?", 30), ("Why?", 50)]
    assert "The old bundle reads response; the new one reads question, response." in found.notes


def test_rows_that_either_bundle_learned_from_are_left_out_with_a_warning(old, new, coded):
    rows = [(ident, {"response": text}) for ident, text in zip(coded.id, coded.response, strict=True)]
    other_id = ("elsewhere", {"response": TEXTS[20].upper()})
    learned = {
        "old": BundleRows.of("", ("response",), [*rows[:5], other_id], rows[5:8]),
        "new": BundleRows.of("", ("response",), rows[3:10], ()),
    }
    table = read_coded_table(coded, CodedColumns(), new.task, "praise")
    found = compare_on_rows(Scorer(old), Scorer(new), table, learned)
    assert (found.rows, dict(found.set_aside)) == (70, {"row that a bundle learned from": 10})
    counts = {name: (each.trained, each.selected, each.same) for name, each in found.learned.items()}
    assert counts == {"old": (5, 3, 1), "new": (7, 0, 0)}
    assert "warning: 5 rows trained the old bundle, and are left out." in found.notes
    selected = (
        "warning: 3 rows selected the old bundle's epoch, calibration, thresholds or decision rule, and are left out."
    )
    assert selected in found.notes
    assert not {row.id for row in found.changed_rows} & set(coded.id[:10])


def test_a_frame_of_training_rows_without_ids_leaves_out_every_row_with_its_text(old, new, coded):
    found = compare_bundles(old, new, coded, old_training=[text.upper() for text in TEXTS[:5]])
    assert found.rows == 75
    assert found.learned["old"].trained == 5
    assert not found.learned["new"].known
    assert any(note.startswith("It is not known which rows the new bundle learned from.") for note in found.notes)


def test_multilabel_bundles_are_compared_as_sets_whatever_the_order_of_their_labels(make_keyword_bundle, coded, folder):
    thresholds = {"process": 0.6, "outcome": 0.68, "person": 0.91}
    one = make_keyword_bundle(folder / "sets", SAYS, kind="multilabel", thresholds=thresholds)
    swapped = {word: (person, process, outcome) for word, (process, outcome, person) in SAYS.items()}
    other = make_keyword_bundle(
        folder / "swapped sets", swapped, kind="multilabel", thresholds=thresholds, labels=SWAPPED
    )
    codes = [score.label for score in Scorer(one).score(TEXTS)]
    assert any(";" in code for code in codes)
    found = compare_bundles(one, other, coded.assign(label=codes))
    assert (found.agreement["old"].accuracy.value, found.agreement["new"].accuracy.value) == (1, 1)
    assert (found.changed_rows, found.verdict) == ((), "undecided")


def test_the_same_bundle_twice_is_refused(new, coded):
    with pytest.raises(ArgumentError, match="both are the same bundle, version"):
        compare_bundles(new, new.folder, coded)


def test_other_labels_kinds_and_orders_are_refused_by_name(make_bundle, new, coded, folder):
    labels = make_bundle(folder / "labels", labels=("process", "outcome", "trait"))
    with pytest.raises(DataError, match="only the old bundle has 'trait'; only the new bundle has 'person'"):
        compare_bundles(labels, new, coded)
    ordinal = make_bundle(folder / "ordinal", kind="ordinal")
    with pytest.raises(DataError, match="the old bundle is for a ordinal task and the new one for a nominal task"):
        compare_bundles(ordinal, new, coded)
    reordered = make_bundle(folder / "reordered", kind="ordinal", labels=SWAPPED)
    with pytest.raises(DataError, match="the labels of the ordinal task have another order"):
        compare_bundles(ordinal, reordered, coded)


def test_a_file_without_usable_rows_is_an_error_with_the_reasons(old, new, coded):
    with pytest.raises(DataError, match="there is no column 'label' of human codes"):
        compare_bundles(old, new, coded.drop(columns="label"))
    with pytest.raises(DataError, match=r"none of its 80 rows can be measured \(80 row that a bundle learned from\)"):
        compare_bundles(old, new, coded, old_training=coded)


def test_the_command_prints_and_writes_what_python_returns(old, new, coded, tmp_path):
    coded.to_csv(tmp_path / "coded.csv", index=False)
    arguments = ["compare", str(old.folder), str(new.folder), "--on", str(tmp_path / "coded.csv"), "--group", "school"]
    shown = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert "The new bundle is better: the difference in Cohen's kappa is +" in shown.output
    assert "rule: The new bundle is better if the whole 95 % interval" in shown.output
    written = CliRunner().invoke(app, [*arguments, "--json", "--out", str(tmp_path)], catch_exceptions=False)
    found = json.loads(written.output)
    assert found == json.loads((tmp_path / "comparison.json").read_text())
    assert (found["verdict"], found["rows"], found["schema_version"]) == ("better", 80, 1)


def test_no_response_is_quoted(old, new, coded):
    found = compare_bundles(old, new, coded)
    assert not any(text in line for line in describe_comparison(found) for text in TEXTS)
