"""A search that several processes share, and one of which is killed."""

from pathlib import Path

import pytest

from edgedistill.errors import TrainingFailed
from edgedistill.project.student import SearchSection
from edgedistill.student import Epoch, train_student
from edgedistill.student.search import Search

from ...processes import Process
from .conftest import states

RATES = (1e-3, 2e-3, 5e-3)
SCRIPT = Path(__file__).with_name("searching.py")


@pytest.fixture
def start(bert, tmp_path):
    """Start processes that share a search of RATES and two seeds; what is left of them is killed at the end."""
    running = []

    def process(hold_at=0):
        kept = tmp_path / "run"
        kept.mkdir(exist_ok=True)
        running.append(Process(SCRIPT, bert, kept, kept / "student", hold_at, tmp_path / "go"))
        return running[-1]

    yield process
    for each in running:
        each.kill()
        each.communicate()


def read_until(process, line):
    while (message := process.stdout.readline().strip()) != line:
        assert message, f"it ended before {line!r}"


def test_two_processes_that_share_a_search_run_each_trial_once(start, tmp_path):
    first = start(hold_at=1)
    read_until(first, "begins 1")
    second = start()
    read_until(second, "begins 5")
    (tmp_path / "go").touch()
    message = [process.communicate()[0].splitlines() for process in (first, second)]
    assert states(tmp_path / "run") == ["COMPLETE"] * 6
    assert message[0] == message[1]  # all that is left to read is the best trial, the same for both
    assert (first.wait(), second.wait()) == (0, 0)


def test_a_killed_trial_is_run_again_and_the_others_are_not(start, bert, mixture, validation, task, sections, tmp_path):
    process = start(hold_at=3)
    read_until(process, "begins 3")
    process.kill()
    process.wait()
    whole = sections(learning_rate=RATES, seeds=(0, 1), epochs=(1,))
    kept = tmp_path / "run"
    trained = train_student(mixture, validation, task, whole, bert, kept / "student", kept=kept)
    assert states(kept) == ["COMPLETE"] * 6 + ["FAIL"]
    assert len(trained.trials) == 6


def test_joining_a_search_whose_only_trial_failed_changes_nothing(tmp_path):
    def joined():
        return Search(SearchSection(learning_rate=RATES, epochs=(1,)), (0,), "name", tmp_path, tmp_path / "search")

    first = joined()
    failed = first.take()
    first.fail(failed, (), 1.0, TrainingFailed("the loss is not finite"))
    running = first.take()
    joined()
    first.finish(running, [Epoch(epoch=1, loss=1.0, accuracy=0.5, macro_f1=0.5, seconds=1.0)], 1.0, early=False)
    assert [trial.outcome for trial in first.trials] == ["failed", "done"]
