"""The sections on training and errors show the files of the run folder unchanged."""

from edgedistill.report.inputs import ReportInputs, RunLog, ScoredRow, Table, TeacherVote
from edgedistill.report.plots import learning_plot, study_plot
from edgedistill.report.sections import consistency, listed_disagreements, mixture_table, summarize_trials

HEADER = ["learning_rate", "batch_size", "epochs", "seed", "epoch", "validation_macro_f1", "best", "outcome", "failure"]


def _trials(*lines):
    return Table(HEADER, [line.split(",") for line in lines])


def test_the_trial_with_the_highest_macro_f1_is_selected():
    found = summarize_trials(_trials("1,16,2,0,1,0.5,1,done,", "2,16,2,0,1,0.4,0,done,", "2,16,2,0,2,0.7,1,done,"))
    assert [each.selected for each in found] == [False, True]
    assert found[1].best_epoch == 2


def test_a_trial_that_failed_before_its_first_epoch_shows_its_failure():
    (found,) = summarize_trials(_trials("1,16,2,0,,,,failed,no number"))
    assert (found.macro_f1, found.epochs, found.outcome, found.selected) == (None, [], "no number", False)


def test_a_frozen_student_has_no_trials_of_epochs():
    assert summarize_trials(Table(["pooling", "penalty"], [["mean", "0.1"]])) == ()
    assert summarize_trials(None) == ()
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
