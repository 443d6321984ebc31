"""Progress as plain lines, with the time left."""

import pytest

from edgedistill.progress import PlainLines, describe_time_left


@pytest.mark.parametrize(
    ("done", "of", "seconds", "text"),
    [
        (0, 10, 60, ""),
        (10, 10, 60, ""),
        (1, 1000, 60, ""),
        (50, 100, 4, "about 4 s left"),
        (50, 100, 62, "about 60 s left"),
        (25, 100, 60, "about 3 min left"),
        (10, 100, 1200, "about 3.0 h left"),
    ],
)
def test_the_time_left_is_that_of_equally_long_steps(done, of, seconds, text):
    assert describe_time_left(done, of, seconds) == text


def test_a_long_task_writes_a_line_after_ten_seconds_and_then_every_thirty():
    clock, lines = [0.0], []
    progress = PlainLines(lines.append, lambda: clock[0])
    for second in range(101):
        clock[0] = float(second)
        progress.advance("train: rows", second, 100)
    assert lines == [
        "train: rows: 10 of 100, about 2 min left",
        "train: rows: 40 of 100, about 60 s left",
        "train: rows: 70 of 100, about 30 s left",
        "train: rows: 100 of 100, done in 2 min",
    ]


def test_a_short_task_writes_nothing():
    lines = []
    progress = PlainLines(lines.append, lambda: 0.0)
    for done in range(11):
        progress.advance("mix", done, 10)
    assert not lines


def test_the_steps_of_an_earlier_run_do_not_count_for_the_time_left():
    clock, lines = [0.0], []
    progress = PlainLines(lines.append, lambda: clock[0])
    progress.advance("train", 500, 1000)
    clock[0] = 20.0
    progress.advance("train", 600, 1000)
    assert lines == ["train: 600 of 1,000, about 80 s left"]
