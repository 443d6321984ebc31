"""The training settings of students in a study."""

from edgedistill.data import ValidationRows
from edgedistill.studies.runs import student_section

from .study_inputs import inputs, settings


def epochs(rows, **student):
    (found,) = student_section(settings(**student), inputs(), rows, 0).search.epochs
    return found


def test_the_number_of_epochs_follows_from_the_steps():
    assert epochs(100, steps=100, batch_size=(10,), max_epochs=50) == 10
    assert epochs(1000, steps=300, batch_size=(10,)) == 3


def test_epochs_are_limited_to_their_range():
    assert epochs(10, steps=1000, max_epochs=20) == 20
    assert epochs(10_000, steps=10, min_epochs=3) == 3


def test_a_student_has_the_seed_of_its_run():
    assert student_section(settings(), inputs(), 10, 5).seeds == (5,)


def test_the_epoch_is_selected_on_validation_rows_or_as_published_on_test_rows():
    task = inputs()
    assert settings().selection_rows(task) is task.validation
    leaked = settings("as-published").selection_rows(task)
    assert isinstance(leaked, ValidationRows)
    assert leaked.rows == task.tests["test"].rows


def test_as_published_the_settings_of_the_paper_override_those_of_the_study():
    found = student_section(settings("as-published", learning_rate=(1e-3,)), inputs(), 10, 0)
    assert (found.search.learning_rate, found.search.batch_size, found.search.epochs) == ((2e-5,), (16,), (50,))
    assert found.patience == 2
