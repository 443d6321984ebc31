"""Groups of rows for a clustered bootstrap: a blank cell costs no other row its group."""

import numpy as np

from edgedistill.agreement import agreement
from edgedistill.agreement.bootstrap import bootstrap_groups
from edgedistill_serve.task.task import Label, Task

TASK = Task("nominal", (Label("a"), Label("b")), ("response",))


def test_a_row_without_a_group_is_a_group_of_its_own():
    found = bootstrap_groups(["s1", None, "s1", None])
    assert (found[0], len(set(found))) == ("s1", 3)


def test_no_written_group_is_called_as_a_row_without_one():
    cells = ["0", "1", "row 2", "None"]
    assert not set(cells) & {bootstrap_groups([*cells, None])[-1]}


def test_rows_without_any_group_stand_for_themselves():
    assert bootstrap_groups([None, None]) is None


def test_a_single_group_is_told_as_one():
    assert bootstrap_groups(["s1", "s1"]) == ["s1", "s1"]


def test_one_blank_cell_leaves_the_interval_as_wide_as_the_groups_make_it():
    rng = np.random.default_rng(0)
    right = np.repeat(rng.beta(1.6, 0.4, size=20), 20) > rng.random(400)
    truth = ["ab"[code] for code in rng.integers(2, size=400)]
    coded = [code if good else "ba"["ab".index(code)] for code, good in zip(truth, right, strict=True)]
    named: list[str | None] = [f"s{row // 20}" for row in range(400)]
    whole, blank = (
        agreement(truth, coded, TASK, groups=bootstrap_groups(each)).kappa for each in (named, [None, *named[1:]])
    )
    assert blank.high - blank.low > 0.9 * (whole.high - whole.low)
