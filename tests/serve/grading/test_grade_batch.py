"""`GradeBatch` adds the scores of a table's rows as columns, here and in another process."""

import pickle
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedistill_serve import DataError, Scorer
from edgedistill_serve.grading.grade_batch import GradeBatch
from edgedistill_serve.grading.scored_texts import ScoredTexts
from edgedistill_serve.scoring.score import score_columns, score_values

TEXTS = ["you worked hard", "", "great job", "poisonous", None, "you worked hard", "why because"]


@pytest.fixture(scope="module")
def grade(bundle) -> GradeBatch:
    return GradeBatch(bundle)


def test_the_columns_of_a_table_are_kept_and_those_of_the_scores_added(grade, bundle):
    times = pa.array([1_700_000_000_000_000_001] * len(TEXTS)).cast(pa.timestamp("ns", "Europe/Berlin"))
    table = pa.table({"when": times, "response": pa.array(TEXTS).dictionary_encode()})
    graded = grade(table)
    assert graded.select(["when", "response"]).equals(table)
    added = score_columns(bundle.task)
    assert graded.column_names == ["when", "response", *added]
    assert graded.select(list(added)).to_pylist() == [
        score_values(result, added) for result in Scorer(bundle).score_each([{"response": text} for text in TEXTS])
    ]


@pytest.mark.parametrize("name", ["moves_bundle", "limited"])
def test_the_scores_of_every_kind_of_task_are_those_of_the_scorer(request, make_novelty_bundle, tmp_path, name):
    bundle = make_novelty_bundle(tmp_path, max_novelty=1.0) if name == "limited" else request.getfixturevalue(name)
    texts = [text for text in TEXTS if text is not None] * 2
    added = score_columns(bundle.task, "a_")
    graded = GradeBatch(bundle, prefix="a_")(pa.table({"response": texts}))
    assert graded.select(list(added)).to_pylist() == [
        score_values(result, added) for result in Scorer(bundle).score_each(texts)
    ]


def test_a_copy_in_another_process_gives_the_same_scores(grade, tmp_path):
    table = pa.table({"response": TEXTS})
    (tmp_path / "grade").write_bytes(pickle.dumps(GradeBatch(grade.scorer, prefix="x_")))
    code = (
        "import pickle, pyarrow, sys; grade = pickle.load(open(sys.argv[1], 'rb'));"
        f"print(grade(pyarrow.table({{'response': {TEXTS!r}}})).to_pydict())"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "grade")], capture_output=True, text=True, check=True
    )
    assert ended.stdout.strip() == str(GradeBatch(grade.scorer, prefix="x_")(table).to_pydict())


def test_a_table_without_rows_gets_the_columns(grade):
    graded = grade(pa.table({"response": pa.array([], pa.string())}))
    assert graded.num_rows == 0
    assert str(graded.schema.field("probability").type) == "double"


@pytest.mark.parametrize(
    ("columns", "names", "message"),
    [
        ([["x"]], ["text"], "there is no column 'response'"),
        ([["x"], ["y"]], ["response", "response"], "two columns have the name 'response'"),
        ([["x"], ["y"]], ["response", "label"], "already has the column 'label'"),
    ],
)
def test_a_table_with_other_columns_is_refused(grade, columns, names, message):
    with pytest.raises(DataError, match=message):
        grade(pa.Table.from_arrays(list(map(pa.array, columns)), names=names))


def test_a_text_of_an_earlier_batch_is_not_scored_again(bundle):
    scorer = Scorer(bundle, threads=1)
    grade = GradeBatch(scorer)
    first = grade.columns({"response": ["great job", "great job", "you are smart"]})
    scorer.score_batch = None  # nothing is scored from now on
    assert grade.columns({"response": ["you are smart", "great job"]})["probability"] == [
        first["probability"][2],
        first["probability"][0],
    ]


@settings(max_examples=50)
@given(st.lists(st.integers(1, 40), max_size=60), st.sampled_from([0, 200, 10_000]))
def test_a_found_score_is_that_of_its_key(numbers, memory):
    texts = ScoredTexts(2, memory)
    for number in numbers:
        key = np.array([[number % 7, number]], dtype=np.uint64)
        found, scores = texts.find(key)
        assert not found[0] or scores.tolist() == [[number, -number]]
        texts.add(key, np.array([[number, -number]], dtype=float))
    if memory == 10_000:
        keys = np.array([[number % 7, number] for number in numbers[-1:]], dtype=np.uint64).reshape(-1, 2)
        assert texts.find(keys)[0].all()


def test_the_memory_for_scores_does_not_grow():
    texts = ScoredTexts(11, 1_000_000)
    keys = np.random.default_rng(0).integers(1, 2**60, (50_000, 2)).astype(np.uint64)
    for start in range(0, len(keys), 500):
        texts.add(keys[start : start + 500], np.ones((500, 11)))
    assert texts._keys.nbytes + texts._numbers.nbytes <= 1_000_000
    assert texts.find(keys)[0].sum() > 0.9 * len(texts._keys)
