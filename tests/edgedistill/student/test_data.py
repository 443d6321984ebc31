"""Rows as the model reads them."""

import pytest

from edgedistill.data.types import MixtureRow
from edgedistill.student.data import Padding, TrainingRow, mixture_rows, validation_rows
from edgedistill_serve.scoring.encoding import Encoded, Encoder
from edgedistill_serve.task.task import Label, Task


@pytest.fixture
def encoder(bert):
    return Encoder(bert / "tokenizer.json", max_tokens=24)


def row(ids, target=0):
    return TrainingRow(Encoded(tuple(ids), (1,) * len(ids), len(ids), truncated=False), target)


def test_rows_are_encoded_as_in_scoring(mixture, task, encoder):
    rows = mixture_rows(mixture, task, encoder)
    assert [each.encoded for each in rows] == encoder.encode([each.inputs for each in mixture])
    assert [task.names[each.target] for each in rows] == [each.label for each in mixture]


def test_an_input_that_is_not_part_of_the_task_is_ignored(task, encoder):
    given = MixtureRow("m", {"question": "what did it do", "response": "you tried"}, "process", "human", {"process": 1})
    assert mixture_rows([given], task, encoder)[0].encoded == encoder.encode([{"response": "you tried"}])[0]


def test_a_context_and_a_response_are_encoded_as_a_pair(encoder):
    task = Task(kind="nominal", labels=(Label("process"),), inputs=("question", "response"))
    given = MixtureRow("m", {"question": "what did it do", "response": "you tried"}, "process", "human", {"process": 1})
    assert mixture_rows([given], task, encoder)[0].encoded.type_ids == (0,) * 6 + (1,) * 3


def test_validation_rows_are_sorted_by_length(validation, task, encoder):
    rows = validation_rows(validation, task, encoder)
    assert [len(each) for each in rows] == sorted(len(each) for each in rows)
    expected = {(encoder.encode([coded.response.inputs])[0].ids, task.names.index(coded.label)) for coded in validation}
    assert {(each.encoded.ids, each.target) for each in rows} == expected


def test_a_batch_is_padded_to_its_longest_row():
    batch = Padding(token=9, segment=0, left=False, segments=True).batch([row([5, 6, 7], 1), row([8], 2)])
    assert {name: tensor.tolist() for name, tensor in batch.items()} == {
        "input_ids": [[5, 6, 7], [8, 9, 9]],
        "attention_mask": [[1, 1, 1], [1, 0, 0]],
        "token_type_ids": [[1, 1, 1], [1, 0, 0]],
        "labels": [1, 2],
    }


def test_a_model_that_classifies_by_its_last_token_is_padded_on_the_left():
    batch = Padding(token=9, segment=0, left=True, segments=False).batch([row([5, 6, 7]), row([8])])
    assert batch["input_ids"].tolist() == [[5, 6, 7], [9, 9, 8]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [0, 0, 1]]


def test_a_model_without_segment_ids_gets_none():
    assert "token_type_ids" not in Padding(token=0, segment=0, left=False, segments=False).batch([row([5])])
