"""How students of a study are trained."""

from edgedistill.data import ValidationRows
from edgedistill.studies.runs import student_section

from .study_inputs import inputs, settings


def epochs(rows, **student):
    (found,) = student_section(settings(**student), inputs(), rows, 0).search.epochs
    return found


def test_few_rows_are_seen_as_often_as_the_steps_take():
    assert epochs(100, steps=100, batch_size=(10,), max_epochs=50) == 10
    assert epochs(1000, steps=300, batch_size=(10,)) == 3


def test_epochs_stay_within_their_bounds():
    assert epochs(10, steps=1000, max_epochs=20) == 20
    assert epochs(10_000, steps=10, min_epochs=3) == 3


def test_a_student_has_the_seed_of_its_run():
    assert student_section(settings(), inputs(), 10, 5).seeds == (5,)


def test_mended_validation_rows_choose_and_as_published_the_test_rows_do():
    task = inputs()
    assert settings().chooses(task) is task.validation
    leaked = settings("as-published").chooses(task)
    assert isinstance(leaked, ValidationRows)
    assert leaked.rows == task.tests["test"].rows


def test_as_published_the_papers_settings_win_over_the_files():
    found = student_section(settings("as-published", learning_rate=(1e-3,)), inputs(), 10, 0)
    assert (found.search.learning_rate, found.search.batch_size, found.search.epochs) == ((2e-5,), (16,), (50,))
    assert found.patience == 2
