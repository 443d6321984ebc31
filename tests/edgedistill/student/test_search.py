"""Interrupted searches, failed trials, and the contents of the search file."""

import json
import shutil
import sqlite3
from contextlib import ExitStack
from itertools import pairwise

import pytest

from edgedistill.errors import SearchInterrupted, TrainingFailed
from edgedistill.project.student import CountRange, LearningRange, SearchSection, StudentSection
from edgedistill.student import train_student
from edgedistill.student.search import open_storage, storage_errors

from ...full_disk import full_disk
from .conftest import states

RATES = (1e-3, 2e-3, 5e-3)


def weights(folder):
    return (folder / "model.safetensors").read_bytes()


def settings(trained):
    return [(trial.learning_rate, trial.batch_size, trial.epochs, trial.seed) for trial in trained.trials]


def figures(trained):
    return [[(epoch.loss, epoch.macro_f1) for epoch in trial.history] for trial in trained.trials]


@pytest.fixture
def few(mixtures):
    """Rows that make three optimizer steps an epoch."""
    return mixtures(24)


@pytest.fixture
def go(bert, few, validation, task, tmp_path):
    """Run a search in this process, stored in a folder."""

    def search(section, rows=few, **options):
        kept = tmp_path / "run"
        kept.mkdir(exist_ok=True)
        return train_student(rows, validation, task, section, bert, kept / "student", kept=kept, **options)

    return search


def stop_in(trial):
    """Break a search off in the midst of a trial, as Ctrl-C does."""

    def progress(reported):
        if reported.trial == trial and reported.done % 3 == 2:
            raise KeyboardInterrupt

    return progress


def test_a_resumed_search_gives_the_same_result_as_an_uninterrupted_one(go, sections, tmp_path):
    section = sections(learning_rate=RATES, epochs=(1,))
    whole = go(section)
    expected = weights(whole.folder)
    shutil.rmtree(tmp_path / "run")
    with pytest.raises(KeyboardInterrupt):
        go(section, progress=stop_in(2))
    trained = go(section)
    assert weights(trained.folder) == expected
    assert figures(trained) == figures(whole)


def test_a_finished_search_trains_nothing_when_repeated(go, sections):
    section = sections(epochs=(1,))
    first = go(section)
    expected = weights(first.folder)
    shutil.rmtree(first.folder)
    reported = []
    again = go(section, progress=reported.append)
    assert reported == []
    assert weights(again.folder) == expected
    assert again.trials == first.trials


def test_a_stored_search_gives_the_same_student_as_one_in_memory(go, bert, few, validation, task, sections, tmp_path):
    section = sections(learning_rate=(1e-3, 5e-3), epochs=(1, 2))
    kept = go(section)
    alone = train_student(few, validation, task, section, bert, tmp_path / "alone")
    assert weights(kept.folder) == weights(alone.folder)
    assert figures(kept) == figures(alone)


def test_a_stored_search_prints_nothing(go, sections, capfd):
    go(sections(epochs=(1,)))
    assert capfd.readouterr() == ("", "")


def test_a_search_of_other_rows_is_separate(go, sections, mixtures):
    section = sections(epochs=(1,))
    go(section)
    other = go(section, mixtures(48))
    assert len(other.trials) == 1
    assert other.notes == ("search.sqlite3 has 1 more searches, with other rows or settings; they are not used.",)


def test_a_search_whose_best_student_was_deleted_starts_again(go, sections, tmp_path):
    section = sections(epochs=(1,))
    expected = weights(go(section).folder)
    shutil.rmtree(tmp_path / "run" / "search")
    again = go(section)
    assert weights(again.folder) == expected
    assert again.notes == ("The best checkpoint of the search was missing, so the search started over.",)


def test_a_failed_trial_is_reported_and_the_others_continue(go, sections):
    def diverge(progress):
        if progress.trial == 1 and progress.done == 2:
            raise TrainingFailed("the loss is not finite", hint="Choose another rate.")

    trained = go(sections(learning_rate=RATES, epochs=(1,)), progress=diverge)
    assert [trial.outcome for trial in trained.trials] == ["failed", "done", "done"]
    assert (trained.trials[0].failure, trained.trials[0].history) == ("the loss is not finite", ())
    assert trained.best.outcome == "done"


def test_a_good_epoch_of_a_failed_trial_is_not_selected(go, sections, mixture):
    def diverge(progress):
        if progress.trial == 1 and progress.epoch and progress.epoch.epoch == 3 and progress.done % 12 == 5:
            raise TrainingFailed("the loss is not finite")

    trained = go(sections(learning_rate=(5e-3, 1e-6), epochs=(4,)), mixture, progress=diverge)
    assert trained.trials[0].best.macro_f1 > trained.best.validation_macro_f1
    assert trained.best.learning_rate == 1e-6


def test_if_every_trial_fails_the_error_gives_the_reason_of_the_first(go, sections):
    def diverge(progress):
        if progress.done % 3 == 2:
            raise TrainingFailed("the loss is not finite", hint="Choose another rate.")

    with pytest.raises(TrainingFailed, match=r"all 3 trials failed, the first because the loss .* Choose another rate"):
        go(sections(learning_rate=RATES, epochs=(1,)), progress=diverge)
    assert len(go(sections(learning_rate=RATES, epochs=(1,))).trials) == 3


def test_on_a_full_disk_finished_trials_are_kept(go, sections, tmp_path):
    section = sections(learning_rate=(1e-6, 5e-3), epochs=(1,))

    def fill(progress):
        if progress.trial == 2:
            disk.enter_context(full_disk(20_000))

    with ExitStack() as disk, pytest.raises(SearchInterrupted, match=r"cannot be (written|kept)"):
        go(section, progress=fill)
    begun = set()
    go(section, progress=lambda reported: begun.add(reported.trial))
    assert begun == {2}


def test_a_damaged_store_is_reported_with_a_hint(go, section, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "search.sqlite3").write_text("no database " * 100)
    with pytest.raises(SearchInterrupted, match=r"search\.sqlite3: the search cannot be stored .* delete it"):
        go(section)


def test_a_store_that_cannot_be_created_is_reported_with_a_hint(tmp_path):
    with (
        full_disk(4096),
        pytest.raises(SearchInterrupted, match=r"search\.sqlite3: the search cannot be stored .*Free disk space"),
    ):
        open_storage(tmp_path)


def test_other_errors_are_not_converted(tmp_path):
    with pytest.raises(TrainingFailed, match="diverged"), storage_errors(tmp_path):
        raise TrainingFailed("diverged")


def test_the_folder_of_a_store_can_have_any_name(bert, mixture, validation, task, sections, tmp_path):
    kept = tmp_path / "50% {of} them? #1 & 'all'"
    kept.mkdir()
    train_student(mixture, validation, task, sections(epochs=(1,)), bert, kept / "student", kept=kept)
    assert states(kept) == ["COMPLETE"]


def tpe(trials, seeds=(0,)):
    search = SearchSection(
        method="tpe",
        trials=trials,
        learning_rate=LearningRange(low=1e-4, high=1e-2),
        batch_size=(8, 16),
        epochs=CountRange(low=1, high=3),
    )
    return StudentSection(max_tokens=24, search=search, seeds=seeds)


def test_tpe_runs_each_proposal_with_every_seed(go):
    trained = go(tpe(2, seeds=(0, 1)))
    pairs = [settings(trained)[start : start + 2] for start in (0, 2)]
    assert all(first[:3] == second[:3] for first, second in pairs)
    assert [seed for *_, seed in settings(trained)] == [0, 1] * 2
    assert all(
        1e-4 <= rate <= 1e-2 and size in (8, 16) and 1 <= epochs <= 3 for rate, size, epochs, _ in settings(trained)
    )


def test_tpe_can_continue_with_more_trials_without_repeating_a_proposal(go):
    first = go(tpe(2))
    more = go(tpe(4))
    assert settings(more)[:2] == settings(first)
    assert len({rate for rate, *_ in settings(more)}) == 4


def test_an_interrupted_tpe_trial_resumes_with_the_same_setting(go, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        go(tpe(1), progress=stop_in(1))
    with sqlite3.connect(tmp_path / "run" / "search.sqlite3") as store:
        reported = store.execute("select param_value from trial_params where param_name = 'learning_rate'")
        (proposed,) = reported.fetchone()
    assert settings(go(tpe(1)))[0][0] == proposed


def test_a_trial_below_the_median_is_pruned(go, sections, mixture):
    rates = (6e-3, 5e-3, 7e-3, 4e-3, 8e-3, 1e-6)
    grid = sections(learning_rate=rates, epochs=(4,))
    section = grid.model_copy(update={"search": grid.search.model_copy(update={"prune": True})})
    last = go(section, mixture).trials[-1]
    assert last.outcome == "pruned"
    assert len(last.history) < 4


def test_the_store_contains_no_pickle_and_no_response_text(go, sections, few, tmp_path):
    go(sections(epochs=(1,)))
    with sqlite3.connect(tmp_path / "run" / "search.sqlite3") as store:
        tables = [name for (name,) in store.execute("select name from sqlite_master where type = 'table'")]
        values = [value for table in tables for row in store.execute(f"select * from {table}") for value in row]
    assert not [value for value in values if isinstance(value, bytes)]
    texts = [value for value in values if isinstance(value, str)]
    assert not [text for text in texts if few[0].inputs["response"] in text]
    assert any("macro_f1" in text and json.loads(text) for text in texts)


def test_the_table_is_in_the_order_of_the_grid(go, sections):
    trained = go(sections(learning_rate=RATES, epochs=(1,), seeds=(1, 0)))
    assert all(first < second for first, second in pairwise((rate, -seed) for rate, *_, seed in settings(trained)))
