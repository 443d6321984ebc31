"""The mixture holds what the project asks for, and each row where its label came from."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedistill.errors import ProjectFileError
from edgedistill.project.sections import MixSection
from edgedistill.records.types import CodedResponse, MixtureRow, Response, TeacherLabel, TrainRows
from edgedistill.stages.folder import RunFolder
from edgedistill.stages.mix import draw_synthetic, mixture, read_mixture, write_mixture

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

SYNTHETIC = [
    MixtureRow(f"s{i}", {"response": f"made {i}"}, ("yes", "no")[i % 2], "synthetic", {("yes", "no")[i % 2]: 1.0})
    for i in range(400)
]


def drawn(**settings):
    return mixture(HUMAN, UNLABELLED, LABELS, MixSection(**settings))


def test_all_rows_of_both_sources_are_mixed_unless_said_otherwise():
    rows = drawn()
    assert [row.source for row in rows] == ["human"] * 20 + ["teacher"] * 10


def test_a_number_of_rows_is_drawn_and_a_larger_number_keeps_a_smaller_draw():
    few, more = ({row.id for row in drawn(human=n, teacher=0)} for n in (5, 12))
    assert len(few) == 5
    assert few < more


def test_another_seed_draws_other_rows():
    assert {row.id for row in drawn(human=10, seed=0)} != {row.id for row in drawn(human=10, seed=1)}


def test_inconsistent_labels_are_left_out_where_asked():
    assert {row.id for row in drawn(human=0, min_consistency=1.0)} == {"u1", "u3", "u5", "u7", "u9"}


def test_vote_shares_and_the_teacher_go_with_the_row():
    row = next(row for row in drawn() if row.id == "u0")
    assert row.shares == {"no": 2 / 3, "yes": 1 / 3}
    assert row.lineage == {"teacher": "m", "consistency": "0.666667"}


def test_more_rows_than_there_are_says_how_many_there_are():
    with pytest.raises(ProjectFileError, match=r"mix.teacher asks for 11 rows and there are 10"):
        drawn(teacher=11)


def test_a_mixture_of_nothing_is_refused():
    with pytest.raises(ProjectFileError, match="no row to train on"):
        drawn(human=0, teacher=0)


def test_a_mixture_comes_back_from_its_file_unchanged(tmp_path):
    odd = TrainRows((CodedResponse(Response("h\n1", {"response": 'a "quote",\r\nאב 🎉\ttab'}, "h.csv", 2), "yes"),))
    rows = mixture(odd, UNLABELLED, LABELS, MixSection())
    write_mixture(RunFolder(tmp_path), rows, ["response"])
    assert read_mixture(RunFolder(tmp_path), ["response"]) == rows


def synthetic(others, share, rows=SYNTHETIC):
    return draw_synthetic(rows, ("yes", "no"), others, MixSection(synthetic_share=share))


@given(others=st.integers(0, 100), share=st.floats(0, 0.79))
def test_synthetic_rows_are_their_share_of_the_whole_and_as_many_of_each_label(others, share):
    rows = synthetic(others, share)
    assert abs(len(rows) - share * (others + len(rows))) <= 0.51
    yes = sum(row.label == "yes" for row in rows)
    assert yes - (len(rows) - yes) in (0, 1)


def test_a_larger_share_keeps_the_rows_of_a_smaller_one():
    assert {row.id for row in synthetic(30, 0.2)} < {row.id for row in synthetic(30, 0.7)}


def test_eighty_per_cent_of_the_training_set_are_four_synthetic_rows_beside_each_other_one():
    assert len(synthetic(30, 0.8)) == 120


def test_too_few_synthetic_rows_say_how_many_are_missing_and_of_which_label():
    few = [row for row in SYNTHETIC if row.label == "yes" or int(row.id[1:]) < 100]
    told = (
        r"mix.synthetic_share: a share of 0.8 beside 50 other rows takes 200 synthetic rows, and 50 are missing: "
        r"50 of the 100 of the label 'no'"
    )
    with pytest.raises(ProjectFileError, match=told):
        synthetic(50, 0.8, few)


def test_without_a_share_no_synthetic_row_is_drawn():
    assert synthetic(50, 0.0, []) == ()
