"""Whatever the texts, groups and labels: a split loses no row, repeats none and keeps clusters whole."""

from hypothesis import given
from hypothesis import strategies as st

from edgedistill.data.splitting import split_rows
from edgedistill.data.tables import CodedRow
from edgedistill.data.twins import same_text
from edgedistill.data.types import CodedResponse, Response
from edgedistill.errors import DataError
from edgedistill.project.data import SplitSection
from edgedistill_serve.task.task import Label, Task

TASK = Task(kind="nominal", labels=(Label("yes"), Label("no")), inputs=("response",))

rows = st.lists(
    st.tuples(
        st.sampled_from(["a", "A ", "\u00e1", "b", "c d", "C  D", "\ufeffcd", "e", "\uff45\u200b", "f", "g", "h"]),
        st.sampled_from([None, "s", "t", "u"]),
        st.sampled_from(["yes", "no"]),
    ),
    min_size=3,
    max_size=40,
)


@given(rows, st.integers(0, 5))
def test_a_random_split_is_a_partition_into_whole_clusters(drawn, seed):
    given_rows = [
        CodedRow(CodedResponse(Response(f"r{i}", {"response": text}, "h.csv", i + 2, group), label), None)
        for i, (text, group, label) in enumerate(drawn)
    ]
    try:
        splits = split_rows("h.csv", given_rows, SplitSection(seed=seed), TASK)
    except DataError:  # too few clusters for three sides, which test_reading shows
        return
    sides = (splits.train, splits.validation, splits.test)
    assert sorted(row.response.id for side in sides for row in side) == sorted(
        row.coded.response.id for row in given_rows
    )
    for i, one in enumerate(sides):
        for other in sides[i + 1 :]:
            assert not {same_text(row.response.text) for row in one} & {same_text(row.response.text) for row in other}
            assert not ({row.response.group for row in one} & {row.response.group for row in other}) - {None}
