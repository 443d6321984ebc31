"""A bi-encoder: its checkpoint, its graph, its bundle."""

import json
import shutil

import numpy as np
import onnx
import pytest
import torch
from transformers import BertModel

from edgedistill_export import Checkpoint, export_bundle
from edgedistill_export.bi_encoder import MODEL_TYPE, REFERENCES_APART, BiEncoderForSequenceClassification
from edgedistill_export.convert.exporter import to_onnx
from edgedistill_export.novelty import read_vectors
from edgedistill_export.quiet import quiet
from edgedistill_export.verify.parity import graph_logits
from edgedistill_serve import Scorer
from edgedistill_serve.bundle.manifest import MODEL_FILES
from edgedistill_serve.task.task import task_inputs

from .exporting import plan_of
from .tiny import GRADING, MAX_TOKENS, rows_for, save_student

ROWS = [task_inputs(row, GRADING) for row in rows_for(GRADING)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A bi-encoder with random weights, whose classifier separates the rows."""
    folder = save_student(tmp_path_factory.mktemp("student"), GRADING)
    torch.manual_seed(1)
    with quiet():
        model = BiEncoderForSequenceClassification.from_pretrained(folder, ignore_mismatched_sizes=True)
    with torch.no_grad():
        model.classifier.weight.normal_(0, 0.01)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def student(folder):
    return Checkpoint.load(folder, GRADING, MAX_TOKENS)


@pytest.fixture(scope="module")
def graph_of(tmp_path_factory):
    """A function that converts a student once, which takes PyTorch's exporter seconds."""
    graphs = {}

    def convert(student):
        if student.folder not in graphs:
            graphs[student.folder] = tmp_path_factory.mktemp("graph") / "model.onnx"
            to_onnx(student, graphs[student.folder])
        return graphs[student.folder]

    return convert


def test_a_checkpoint_is_loaded_as_a_bi_encoder(folder, student):
    assert json.loads((folder / "config.json").read_text())["model_type"] == MODEL_TYPE
    assert isinstance(student.model, BiEncoderForSequenceClassification)
    assert student.marks_response


def test_each_text_is_encoded_as_if_it_were_alone(student):
    encoded = student.encoder.encode([ROWS[4]])[0]
    ids, kinds = torch.tensor([encoded.ids]), torch.tensor([encoded.type_ids])
    given = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "token_type_ids": kinds}
    with torch.inference_mode():
        together = student.model(**given, output_hidden_states=True).hidden_states[-1][0]
        for kind in (0, 1):
            alone = ids[kinds == kind][None]
            encoder: BertModel = student.model.bert
            states = encoder(input_ids=alone, attention_mask=torch.ones_like(alone)).last_hidden_state[0]
            assert together[kinds[0] == kind].numpy() == pytest.approx(states.numpy(), abs=1e-5)


def test_another_context_changes_the_logits_but_no_state_of_the_response(student):
    rows = [ROWS[4], ROWS[4] | {"reference_answer": "no", "question": "yes yes"}]
    states = []
    for row in student.encoder.encode(rows):
        ids, kinds = torch.tensor([row.ids]), torch.tensor([row.type_ids])
        with torch.inference_mode():
            found = student.model(ids, torch.ones_like(ids), kinds, output_hidden_states=True)
        states.append(found.hidden_states[-1][0, kinds[0] == 1].numpy())
    assert states[0] == pytest.approx(states[1], abs=1e-5)
    first, second = student.logits(rows)
    assert np.abs(first - second).max() > 1e-3


def test_the_graph_gives_the_logits_and_vectors_of_pytorch_whatever_the_padding(student, graph_of):
    graph = graph_of(student)
    onnx.checker.check_model(onnx.load(graph), full_check=True)
    logits, vectors = student.outputs(ROWS)
    assert graph_logits(graph, student.encoder, ROWS) == pytest.approx(logits, abs=1e-4)
    found = read_vectors(graph, student.encoder.encode(ROWS))
    assert found == pytest.approx(vectors, abs=1e-4)


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_on_either_side_changes_no_logit(student, side):
    encoded = student.encoder.encode([ROWS[4]])[0]
    ids, kinds = torch.tensor([encoded.ids]), torch.tensor([encoded.type_ids])
    more = (5, 0) if side == "left" else (0, 5)
    padded = [torch.nn.functional.pad(tensor, more) for tensor in (ids, torch.ones_like(ids), kinds)]
    with torch.inference_mode():
        alone, beside = student.model(ids, torch.ones_like(ids), kinds), student.model(*padded)
    assert beside.logits.numpy() == pytest.approx(alone.logits.numpy(), abs=1e-5)


@pytest.mark.parametrize(
    "inputs", [{"response": ""}, {"question": "", "reference_answer": ""}, {"response": "a " * 500}]
)
def test_a_row_without_one_of_the_texts_has_finite_logits(student, inputs):
    assert np.isfinite(student.logits([ROWS[4] | inputs])).all()


def bundle_of(student, graph, folder, rows):
    """Export with the graph that the student was converted to."""

    def copy(_, file):
        shutil.copyfile(graph, file)

    return export_bundle(student.folder, folder / "bundle", plan_of(GRADING), rows, convert=copy)


def test_a_bundle_gives_the_labels_of_the_checkpoint(student, graph_of, tmp_path):
    result = bundle_of(student, graph_of(student), tmp_path, ROWS)
    labels = [GRADING.names[place] for place in student.logits(ROWS).argmax(axis=1)]
    scores = Scorer(result.bundle).score(ROWS)
    assert [score.label for score in scores] == labels


@pytest.fixture(scope="module")
def apart(folder, tmp_path_factory):
    """The same student, which reads each reference answer by itself."""
    copied = shutil.copytree(folder, tmp_path_factory.mktemp("apart") / "student")
    config = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps(config | {REFERENCES_APART: True}))
    return Checkpoint.load(copied, GRADING, MAX_TOKENS)


REFERENCES = ("the bulb", "a closed path to the battery", "no gap")


def referring(*references, response="no gap in the path", question="why"):
    return {"question": question, "reference_answer": "\n".join(references), "response": response}


def test_each_reference_is_encoded_as_if_it_were_alone(apart):
    encoded = apart.encoder.encode([referring(*REFERENCES)])[0]
    assert sorted(set(encoded.type_ids)) == [0, 1, 2, 3]
    ids, kinds = torch.tensor([encoded.ids]), torch.tensor([encoded.type_ids])
    with torch.inference_mode():
        together = apart.model(ids, torch.ones_like(ids), kinds, output_hidden_states=True).hidden_states[-1][0]
        for kind in range(4):
            alone = ids[kinds == kind][None]
            states = apart.model.bert(input_ids=alone, attention_mask=torch.ones_like(alone)).last_hidden_state[0]
            assert together[kinds[0] == kind].numpy() == pytest.approx(states.numpy(), abs=1e-5)


def test_a_reference_counts_more_the_closer_it_is_to_the_response(apart):
    near, far = "no gap in the path", "yes yes yes"
    first, second, both = apart.logits([referring(near), referring(far), referring(near, far)])
    assert np.abs(both - first).max() < np.abs(both - second).max()


def test_the_question_is_read_only_without_references(apart):
    why, how = (
        apart.logits([referring(*REFERENCES, question=text), referring(question=text)]) for text in ("why", "ok")
    )
    assert why[0] == pytest.approx(how[0], abs=1e-6)
    assert np.abs(why[1] - how[1]).max() > 1e-4


def test_one_text_before_the_response_is_read_as_by_a_tokenizer_of_a_bert(apart, student):
    inputs = referring("a closed path", question="")
    assert apart.logits([inputs]) == pytest.approx(student.logits([inputs]), abs=1e-5)


@pytest.mark.parametrize(
    "inputs", [referring(""), referring("\n \n"), referring("", question=""), referring("no gap " * 99)]
)
def test_any_references_give_finite_logits(apart, inputs):
    assert np.isfinite(apart.logits([inputs])).all()


def test_a_bundle_reads_references_apart_and_gives_the_labels_of_its_graph(apart, graph_of, tmp_path):
    rows = [referring(*REFERENCES[: count % 4], response=row["response"]) for count, row in enumerate(ROWS)]
    result = bundle_of(apart, graph_of(apart), tmp_path, rows)
    assert result.bundle.manifest.truncation == "references_apart"
    served = result.bundle.folder / MODEL_FILES[result.bundle.manifest.precision]
    labels = [GRADING.names[place] for place in graph_logits(served, apart.encoder, rows).argmax(axis=1)]
    assert [score.label for score in Scorer(result.bundle).score(rows)] == labels


def test_the_graph_gives_the_logits_of_pytorch_for_any_number_of_references(apart, graph_of):
    rows = [referring(*REFERENCES[: count % 4], response=row["response"]) for count, row in enumerate(ROWS)]
    graph = graph_of(apart)
    logits, vectors = apart.outputs(rows)
    assert graph_logits(graph, apart.encoder, rows) == pytest.approx(logits, abs=1e-4)
    assert read_vectors(graph, apart.encoder.encode(rows)) == pytest.approx(vectors, abs=1e-4)
