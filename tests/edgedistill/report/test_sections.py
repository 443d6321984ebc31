"""The sections on training and errors show the files of the run folder unchanged."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedistill.decisions.learning_curve import learning_curve
from edgedistill.report.inputs import ReportInputs, RunLog, ScoredRow, Table, TeacherVote
from edgedistill.report.plots import curve_plot, learning_plot, study_plot
from edgedistill.report.sections import (
    best_trials,
    consistency,
    listed_disagreements,
    mixture_table,
    summarize_trials,
)
from edgedistill_serve.task.task import Label, Task

HEADER = ["learning_rate", "batch_size", "epochs", "seed", "epoch", "validation_macro_f1", "best", "outcome", "failure"]


def _trials(*lines):
    return Table(HEADER, [line.split(",") for line in lines])


def _log(learning_rate, seed=0):
    best = {"learning_rate": learning_rate, "batch_size": 16, "epochs": 2, "seed": seed}
    return RunLog(stages={"train": {"best": best}})


def test_the_trial_that_the_run_log_names_is_selected():
    found = summarize_trials(
        _trials("1,16,2,0,1,0.5,1,done,", "2,16,2,0,1,0.4,0,done,", "2,16,2,0,2,0.7,1,done,"), _log(2.0)
    )
    assert [each.selected for each in found] == [False, True]
    assert found[1].best_epoch == 2


@pytest.mark.parametrize("best", [1e-05, 2e-05, 3e-05])
def test_of_equal_trials_the_one_that_was_kept_is_selected_and_listed_first(best):
    tied = _trials("1e-05,16,2,0,1,0.5,1,done,", "2e-05,16,2,0,1,0.5,1,done,", "3e-05,16,2,0,1,0.5,1,done,")
    found = summarize_trials(tied, _log(best))
    assert [float(each.settings["learning_rate"]) for each in found if each.selected] == [best]
    assert best_trials(found)[0].selected


def test_without_the_best_settings_in_the_run_log_no_trial_is_called_selected():
    assert not any(each.selected for each in summarize_trials(_trials("1,16,2,0,1,0.5,1,done,"), RunLog()))


@given(st.lists(st.sampled_from(["0.1", "0.5", "0.9", "nan", "-0.2", ""]), max_size=30))
def test_the_trials_that_are_listed_are_the_best_ones_whatever_failed(figures):
    lines = [
        f"{n},16,2,0,{1 if f1 else ''},{f1},{1 if f1 else ''},{'done' if f1 else 'failed'},"
        for n, f1 in enumerate(figures)
    ]
    found = summarize_trials(_trials(*lines), RunLog())
    listed = best_trials(found)
    values = [each.macro_f1 for each in listed if each.macro_f1 is not None]
    numbers = sorted((float(f1) for f1 in figures if f1 not in ("", "nan")), reverse=True)
    assert values == numbers[:12]
    assert len(listed) == min(12, len(figures))
    assert [each.number for each in found] == list(range(1, len(figures) + 1))


def test_a_trial_that_failed_before_its_first_epoch_shows_its_failure():
    (found,) = summarize_trials(_trials("1,16,2,0,,,,failed,no number"), RunLog())
    assert (found.macro_f1, found.epochs, found.outcome, found.selected) == (None, [], "no number", False)


def test_a_frozen_student_has_no_trials_of_epochs():
    assert summarize_trials(Table(["pooling", "penalty"], [["mean", "0.1"]]), RunLog()) == ()
    assert summarize_trials(None, RunLog()) == ()
    assert learning_plot(()) is None


def test_the_mixture_is_counted_by_source_and_label():
    run_log = RunLog(stages={"mix": {"by_source_and_label": {"human a b": 2, "teacher a b": 5, "teacher c": 1}}})
    found = mixture_table(run_log, ("a b", "c"))
    assert found.counts == {"human": [2, 0], "teacher": [5, 1]}
    assert (found.rows, found.machine_labelled) == (8, 0.75)
    assert mixture_table(RunLog(), ("a",)) is None


def test_consistency_counts_responses_by_the_share_of_votes():
    found = consistency([TeacherVote("a", 1.0), TeacherVote("a", 2 / 3), TeacherVote("b", 1.0)])
    assert found.by_share == [(1.0, 2), (0.67, 1)]
    assert found.unanimous == 2 / 3
    assert consistency(()) is None


def test_at_least_twenty_misclassified_rows_are_listed_and_as_many_as_examples_are_requested():
    rows = [ScoredRow(f"r{place}", "a", "b", 0.9, "accept", "", "") for place in range(60)]
    about = dict.fromkeys(ReportInputs.__dataclass_fields__)
    assert len(listed_disagreements(ReportInputs(**about | {"examples": 0}), rows)) == 20
    assert len(listed_disagreements(ReportInputs(**about | {"examples": 50}), rows)) == 50


def test_a_study_without_shares_has_no_curve():
    assert study_plot(()) is None


def test_a_learning_curve_is_described_with_what_it_predicts():
    task = Task("nominal", (Label("a"), Label("b")), ("response",))
    human = ["a", "b"] * 300
    codings = {
        size: [["b" if place % every == 0 else code for place, code in enumerate(human)]] * 2
        for size, every in {50: 8, 100: 10, 200: 12, 400: 14}.items()
    }
    plot = curve_plot(learning_curve(human, codings, task))
    assert "κ by number of human train rows. 50\N{NO-BREAK SPACE}rows: " in plot.description
    assert "Predicted: 600\N{NO-BREAK SPACE}rows: " in plot.description
    assert "var(--series-2)" in plot.svg
    alone = curve_plot(learning_curve(human, {50: codings[50]}, task))
    assert alone.description.endswith("Predicted: nothing.")
