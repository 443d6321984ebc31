"""The training set has the configured rows, each with the source of its label."""

import re
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedistill.data.types import CodedResponse, MixtureRow, Response, TeacherLabel, TrainRows
from edgedistill.errors import ProjectFileError
from edgedistill.mixing import draw_mixture, human_rows, teacher_rows
from edgedistill.project.training_set import MixSection
from edgedistill_serve.task.task import Label, Task

NAMES = ("yes", "no")
TASK = Task(kind="nominal", labels=tuple(map(Label, NAMES)), inputs=("response",))
HUMAN = TrainRows(
    tuple(CodedResponse(Response(f"h{i}", {"response": f"text {i}"}, "h.csv", i), "yes") for i in range(20))
)
UNLABELLED = [Response(f"u{i}", {"response": f"new {i}"}, "u.csv", i) for i in range(10)]
LABELS = [
    TeacherLabel(
        f"u{i}", "no", 1.0 if i % 2 else 2 / 3, {"no": 1.0} if i % 2 else {"no": 2 / 3, "yes": 1 / 3}, ("no",) * 3, "m"
    )
    for i in range(10)
]


def rows_of(source, yes, no):
    """So many rows of each label."""
    return [
        MixtureRow(f"{source}-{label}-{i}", {"response": f"{label} {i}"}, label, source, {label: 1.0})
        for label, count in (("yes", yes), ("no", no))
        for i in range(count)
    ]


PLENTY = {source: rows_of(source, 200, 200) for source in ("human", "teacher", "synthetic")}


def drawn(**settings):
    section = MixSection(**settings)
    offered = {"human": human_rows(HUMAN, TASK), "teacher": teacher_rows(UNLABELLED, LABELS, section.min_consistency)}
    return draw_mixture(offered, TASK, section)


def counted(rows):
    return Counter((row.source, row.label) for row in rows)


def test_all_rows_of_both_sources_are_used_by_default():
    assert [row.source for row in drawn()] == ["human"] * 20 + ["teacher"] * 10


def test_a_larger_number_of_rows_includes_a_smaller_draw():
    few, more = ({row.id for row in drawn(human=n, teacher=0)} for n in (5, 12))
    assert len(few) == 5
    assert few < more


def test_drawn_rows_are_in_the_order_of_their_file():
    places = [int(row.id[1:]) for row in drawn(human=12, teacher=0)]
    assert places == sorted(places)


def test_another_seed_draws_other_rows():
    assert {row.id for row in drawn(human=10, seed=0)} != {row.id for row in drawn(human=10, seed=1)}


def test_inconsistent_labels_are_left_out_if_configured():
    assert {row.id for row in drawn(human=0, min_consistency=1.0)} == {"u1", "u3", "u5", "u7", "u9"}


def test_a_row_has_its_vote_shares_and_teacher():
    row = next(row for row in drawn() if row.id == "u0")
    assert row.shares == {"no": 2 / 3, "yes": 1 / 3}
    assert row.lineage == {"teacher": "m", "consistency": "0.666667"}


def test_hard_labels_keep_the_lineage_and_drop_the_shares():
    row = next(row for row in drawn(labels="hard") if row.id == "u0")
    assert row.shares == {"no": 1.0}
    assert row.lineage == {"teacher": "m", "consistency": "0.666667"}


def test_too_few_rows_are_reported_with_their_number():
    with pytest.raises(ProjectFileError, match="lacks 1 of the 11 teacher rows"):
        drawn(teacher=11)


def test_an_empty_training_set_is_refused():
    with pytest.raises(ProjectFileError, match="the training set would have no rows"):
        drawn(human=0, teacher=0)


def with_share(others, share, **rows):
    offered = PLENTY | {"human": PLENTY["human"][:others], "teacher": []} | rows
    return draw_mixture(offered, TASK, MixSection(synthetic_share=share))


@settings(deadline=None)
@given(others=st.integers(1, 100), share=st.floats(0, 0.79))
def test_synthetic_rows_have_their_share_of_the_whole_and_are_balanced(others, share):
    rows = [row for row in with_share(others, share) if row.source == "synthetic"]
    assert abs(len(rows) - share * (others + len(rows))) <= 0.51
    yes = sum(row.label == "yes" for row in rows)
    assert yes - (len(rows) - yes) in (0, 1)


def test_a_larger_share_includes_the_rows_of_a_smaller_one():
    assert {row.id for row in with_share(30, 0.2)} < {row.id for row in with_share(30, 0.7)}


def test_eighty_per_cent_of_the_training_set_are_four_synthetic_rows_per_other_row():
    assert len(with_share(30, 0.8)) == 150


def test_too_few_synthetic_rows_are_reported_with_number_and_label():
    with pytest.raises(ProjectFileError, match=r"lacks 50 of the 100 synthetic rows of the label 'no'"):
        with_share(50, 0.8, synthetic=rows_of("synthetic", 200, 50))


def shared(size, offered=PLENTY, **settings):
    return draw_mixture(offered, TASK, MixSection(size=size, **settings))


def test_shares_of_a_size_give_the_rows_of_each_source():
    rows = shared(200, shares={"human": 0.25, "teacher": 0.5, "synthetic": 0.25})
    assert Counter(row.source for row in rows) == {"human": 50, "teacher": 100, "synthetic": 50}


@settings(deadline=None)
@given(size=st.integers(1, 300), parts=st.lists(st.integers(0, 20), min_size=3, max_size=3).filter(any))
def test_sizes_sum_to_the_total_and_each_is_within_one_row_of_its_share(size, parts):
    shares = dict(zip(("human", "teacher", "synthetic"), (part / sum(parts) for part in parts), strict=True))
    rows = shared(size, shares=shares)
    assert len(rows) == size
    counts = Counter(row.source for row in rows)
    assert all(abs(counts[source] - share * size) < 1 for source, share in shares.items())


@settings(deadline=None)
@given(size=st.integers(6, 300))
def test_balance_gives_the_same_number_of_rows_of_each_label_in_every_source(size):
    rows = shared(size, shares={"human": 0.5, "teacher": 0.25, "synthetic": 0.25}, balance="per_label")
    counts = counted(rows)
    for source in ("human", "teacher", "synthetic"):
        assert counts[source, "yes"] - counts[source, "no"] in (0, 1)


def test_all_balanced_rows_are_limited_by_the_rarest_label():
    offered = {"human": rows_of("human", 12, 5)}
    assert counted(draw_mixture(offered, TASK, MixSection(balance="per_label"))) == {
        ("human", "yes"): 5,
        ("human", "no"): 5,
    }


def test_balancing_with_a_label_without_rows_names_the_label():
    with pytest.raises(ProjectFileError, match=r"lacks 1 of the 1 human rows of the label 'no'"):
        draw_mixture({"human": rows_of("human", 12, 0)}, TASK, MixSection(balance="per_label"))


def test_impossible_shares_name_every_missing_source_label_and_number():
    offered = {"human": rows_of("human", 40, 3), "teacher": rows_of("teacher", 7, 0), "synthetic": []}
    reported = (
        "mix: the training set lacks 7 of the 10 human rows of the label 'no'; 3 of the 10 teacher rows of the label "
        "'yes'; 10 of the 10 teacher rows of the label 'no'; 10 of the 10 synthetic rows of the label 'yes'; "
        "10 of the 10 synthetic rows of the label 'no'. "
    )
    third = 1 / 3
    with pytest.raises(ProjectFileError, match=re.escape(reported)):
        shared(60, offered, shares={"human": third, "teacher": third, "synthetic": third}, balance="per_label")


def test_a_training_set_may_be_entirely_synthetic():
    assert {row.source for row in shared(10, shares={"synthetic": 1.0})} == {"synthetic"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 10}, "size and shares require each other"),
        ({"shares": {"human": 1.0}}, "size and shares require each other"),
        ({"size": 10, "shares": {"human": 0.5}}, "sum to 0.5; they must sum to 1"),
        ({"size": 10, "shares": {"human": 1.0}, "human": 5, "teacher": 0}, "remove human, teacher"),
    ],
)
def test_two_ways_to_specify_rows_cannot_be_combined(settings, message):
    with pytest.raises(ValueError, match=message):
        MixSection(**settings)
