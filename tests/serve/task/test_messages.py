"""How messages list names."""

import pytest

from edgedistill_serve.task.task import first_repeated, list_some


@pytest.mark.parametrize(
    ("names", "options", "shown"),
    [
        ([], {}, ""),
        ("abcde", {}, "a, b, c, d, e"),
        ("abcdefg", {}, "a, b, c, d, e and 2 more"),
        ([2, 3, 4], {"most": 1}, "2 and 2 more"),
        ("abc", {"most": 2, "separator": "; "}, "a; b; and 1 more"),
    ],
)
def test_the_first_names_are_listed_and_the_others_counted(names, options, shown):
    assert list_some(iter(names), **options) == shown


def test_the_first_name_that_is_there_already_is_found():
    assert first_repeated(iter(["b", "a", "", "a", "b", ""])) == "a"
    assert first_repeated(["", "a"]) is None
