"""The progress of a long step has a count of its own for each phase, whose rows take equally long."""

from types import SimpleNamespace

from edgedistill.pipeline.run import Run
from edgedistill_export.counting import begin_phase, counted


def test_each_phase_counts_its_rows_from_the_beginning_and_ends():
    seen = []
    run = SimpleNamespace(on_progress=lambda *given: seen.append(given))
    with Run.counting(run, "export: the student scores", 2):
        list(counted(range(2)))
        begin_phase("it is converted")
        begin_phase("the graph scores", 3)
        list(counted(range(2)))
    assert seen == [
        ("export: the student scores", 0, 2),
        ("export: the student scores", 1, 2),
        ("export: the student scores", 1, 2),  # a row more than expected would not be the end
        ("export: the student scores", 2, 2),
        ("export: it is converted", 0, 1),
        ("export: it is converted", 1, 1),
        ("export: the graph scores", 0, 3),
        ("export: the graph scores", 1, 3),
        ("export: the graph scores", 2, 3),
        ("export: the graph scores", 3, 3),
    ]


def test_a_phase_outside_of_a_count_is_nothing():
    begin_phase("nobody listens", 3)
    assert list(counted([1, 2])) == [1, 2]
