"""Golden rows stand near the decision boundary and over all labels, with a tolerance that was measured."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edgedistill_export.verify.golden import MAX_ROWS, TOLERANCE, build_golden, choose_golden_rows
from edgedistill_export.verify.parity import Logits
from edgedistill_serve.task.label_decoding import LabelDecoder

from ..tiny import MOVES, PRAISE

ONE = LabelDecoder(PRAISE)

scores = st.integers(1, 80).flatmap(
    lambda rows: st.integers(2, 5).flatmap(
        lambda labels: arrays(np.float32, (rows, labels), elements=st.floats(-8, 8, width=16))
    )
)


def _margins(logits: Logits) -> Logits:
    ordered = np.sort(logits, axis=1)
    return ordered[:, -1] - ordered[:, -2]


@given(scores)
def test_rows_are_chosen_once_and_as_many_as_there_may_be(logits: Logits):
    chosen = choose_golden_rows(logits, ONE)
    assert chosen == sorted(set(chosen))
    assert len(chosen) == min(len(logits), MAX_ROWS)
    assert set(chosen) <= set(range(len(logits)))


@given(scores)
def test_the_rows_nearest_to_the_boundary_are_among_them(logits: Logits):
    chosen = choose_golden_rows(logits, ONE)
    near = min(len(logits), MAX_ROWS // 2)
    assert sorted(_margins(logits)[chosen])[:near] == sorted(_margins(logits))[:near]


@given(scores)
def test_every_label_that_the_model_gives_is_among_them(logits: Logits):
    labels = logits.argmax(axis=1)
    assert set(labels[choose_golden_rows(logits, ONE)]) == set(labels)


def test_rows_far_from_the_boundary_are_spread_evenly_over_labels():
    logits = np.zeros((300, 3), dtype=np.float32)
    logits[np.arange(300), [0] * 280 + [1] * 10 + [2] * 10] = np.linspace(1, 2, 300)
    chosen = choose_golden_rows(logits, ONE, most=12)
    far = [row for row in chosen if row >= 6]  # the six smallest margins are rows 0 to 5
    assert np.bincount(logits[far].argmax(axis=1)).tolist() == [2, 2, 2]


def test_a_golden_row_holds_the_texts_and_what_each_graph_gave():
    rows = [{"response": "a"}, {"response": "b"}]
    fp32 = np.array([[0.1, 2.0], [1.0, -1.0]], dtype=np.float32)
    checked = build_golden(rows, {"fp32": fp32, "int8": fp32 + 1}, [0, 1])
    assert [row.inputs for row in checked.rows] == rows
    assert [row.expected("fp32") for row in checked.rows] == [tuple(map(float, of_row)) for of_row in fp32]
    assert [row.expected("int8") for row in checked.rows] == [tuple(map(float, of_row)) for of_row in fp32 + 1]


def test_each_graph_is_held_to_the_stated_tolerance():
    logits = np.zeros((2, 2), dtype=np.float32)
    assert (
        build_golden([{"response": "a"}, {"response": "b"}], {"fp32": logits, "int8": logits}, [0, 1]).tolerance
        == TOLERANCE
    )


@given(st.integers(1, 80).flatmap(lambda rows: arrays(np.float32, (rows, 3), elements=st.floats(-8, 8, width=16))))
def test_of_a_multilabel_task_the_rows_nearest_to_a_threshold_are_among_them(logits: Logits):
    decoder = LabelDecoder(MOVES, 2.0, (0.25, 0.5, 0.75))
    chosen = choose_golden_rows(logits, decoder)
    margins = np.abs(logits - 2.0 * np.log([1 / 3, 1, 3])).min(axis=1)
    near = min(len(logits), MAX_ROWS // 2)
    assert sorted(margins[chosen])[:near] == pytest.approx(sorted(margins)[:near])


def test_of_a_multilabel_task_every_set_of_labels_that_the_model_gives_is_among_them():
    given = np.array([[(number >> place) & 1 for place in range(3)] for number in range(8)])
    logits = np.repeat(np.where(given, 4.0, -4.0), 20, axis=0).astype(np.float32)
    decoder = LabelDecoder(MOVES, 1.0, (0.5, 0.5, 0.5))
    assert len(set(decoder.labels(logits[choose_golden_rows(logits, decoder)]))) == 8
