"""Training, export and serving of every family of backbones."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from edgedistill.errors import ProjectFileError, TrainingFailed
from edgedistill.project.student import LoraSection
from edgedistill.student import SpeedSettings, train_student
from edgedistill.student.model import load_model, load_tokenizer_and_padding
from edgedistill_export import export_bundle
from edgedistill_export.checkpoint import Checkpoint
from edgedistill_export.plan import ExportPlan
from edgedistill_serve import Bundle, Scorer
from edgedistill_serve.scoring.session import Session
from edgedistill_serve.task.task import Task

from .conftest import WORDS, make_mixture, make_section, make_validation
from .families import DECODERS, ENCODERS, save_backbone

QUESTION = "what did it do"


@pytest.fixture(scope="module")
def family_of(tmp_path_factory):
    """The maker of backbones, one of each family."""
    made = {}

    def make(family):
        if family not in made:
            made[family] = save_backbone(family, WORDS, tmp_path_factory.mktemp(family))
        return made[family]

    return make


@pytest.fixture
def paired_task(task):
    return Task(kind="nominal", labels=task.labels, inputs=("question", "response"))


@pytest.fixture
def pairs():
    """Mixture and validation rows with a question."""

    def with_question(given):
        return {"question": QUESTION, **given}

    validation_rows = make_validation()
    return (
        [replace(row, inputs=with_question(row.inputs)) for row in make_mixture()],
        type(validation_rows)(
            tuple(
                replace(row, response=replace(row.response, inputs=with_question(row.response.inputs)))
                for row in validation_rows
            )
        ),
    )


@pytest.mark.parametrize("family", [*ENCODERS, *DECODERS])
def test_a_student_is_trained_exported_and_served(family, family_of, paired_task, pairs, tmp_path):
    mixture, validation_rows = pairs
    rate, epochs = (3e-3, 8) if family == "electra" else (5e-3, 3)
    section = make_section(learning_rate=(rate,), epochs=(epochs,), max_tokens=32)
    if family in DECODERS:
        section = section.model_copy(update={"peft": "lora"})
    trained = train_student(mixture, validation_rows, paired_task, section, family_of(family), tmp_path / "student")
    rows = [dict(row.response.inputs) for row in validation_rows]
    known = [dict(row.inputs) for row in mixture]
    plan = ExportPlan("toy", paired_task, 32, "int8", 0.2, novelty_rows=known)
    assert export_bundle(trained.folder, tmp_path / "bundle", plan, rows).bundle.manifest.novelty is not None
    scores = Scorer(Bundle.load(tmp_path / "bundle")).score(rows)
    right = np.mean([score.label == label for score, label in zip(scores, validation_rows.labels, strict=True)])
    assert trained.best.best.macro_f1 > 0.4  # a third is chance
    assert right == pytest.approx(trained.best.best.accuracy, abs=0.1)  # int8 may change a few of 30 rows


@pytest.mark.parametrize("family", ["xlnet", "mistral"])
def test_a_graph_that_classifies_by_its_last_token_finds_it_by_the_attention_mask(
    family, family_of, paired_task, pairs, tmp_path
):
    mixture, validation_rows = pairs
    section = make_section(epochs=(1,), max_tokens=32)
    folder = train_student(
        mixture, validation_rows, paired_task, section, family_of(family), tmp_path / "student"
    ).folder
    rows = [dict(row.response.inputs) for row in validation_rows]
    export_bundle(folder, tmp_path / "bundle", ExportPlan("toy", paired_task, 32, "fp32", 0.2), rows)
    student = Checkpoint.load(folder, paired_task, 32)
    encoded = student.encoder.encode(rows)
    assert len({len(row.ids) for row in encoded}) > 1
    padded = Session(tmp_path / "bundle" / "onnx" / "model.onnx").batch_logits(encoded)
    np.testing.assert_allclose(padded, student.logits(rows), atol=1e-5)


@pytest.mark.parametrize(
    ("family", "left", "segments"),
    [("xlnet", True, True), ("electra", False, True), ("modernbert", False, False), ("deberta-v2", False, False)],
)
def test_a_family_is_padded_as_it_was_pretrained(family, left, segments, family_of, task, tmp_path):
    padding = load_tokenizer_and_padding(family_of(family), load_model(family_of(family), task), tmp_path)
    assert (padding.left, padding.segments) == (left, segments)


def test_a_model_that_classifies_by_its_first_token_is_padded_on_the_right_whatever_its_tokenizer_is_set_to(
    bert, task, tmp_path
):
    folder = shutil.copytree(bert, tmp_path / "backbone")
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"padding_side": "left"}))
    (tmp_path / "student").mkdir()
    assert not load_tokenizer_and_padding(folder, load_model(folder, task), tmp_path / "student").left


@pytest.mark.parametrize("family", ["electra", "qwen2", "xlnet", "deberta"])
def test_rows_that_are_scored_on_several_threads_have_the_vectors_that_they_have_alone(
    family, family_of, task, tmp_path, monkeypatch
):
    """Transformers records the states of layers in the modules, where another thread's row could be found."""
    model = load_model(family_of(family), task)
    load_tokenizer_and_padding(family_of(family), model, tmp_path)
    model.save_pretrained(tmp_path)
    student = Checkpoint.load(tmp_path, task, 32)
    rows = [{"response": "you tried " * (number % 7 + 1) + str(number)} for number in range(40)]
    monkeypatch.setattr("edgedistill_export.checkpoint.available_cores", lambda: 4)
    logits, vectors = student.outputs(rows)
    alone = [student.outputs([row]) for row in rows]
    np.testing.assert_array_equal(vectors, np.concatenate([each[1] for each in alone]))
    np.testing.assert_array_equal(logits, np.concatenate([each[0] for each in alone]))
    np.testing.assert_array_equal(logits, student.logits(rows))


def test_xlnet_distinguishes_question_and_response(family_of, paired_task, tmp_path):
    torch.manual_seed(0)  # the head is drawn, and a small one shows less
    model = load_model(family_of("xlnet"), paired_task)
    load_tokenizer_and_padding(family_of("xlnet"), model, tmp_path)
    model.save_pretrained(tmp_path)
    student = Checkpoint.load(tmp_path, paired_task, 32)
    encoded = student.encoder.encode([{"question": QUESTION, "response": "you tried"}])[0]
    assert encoded.type_ids == (0,) * 5 + (1,) * 3 + (2,)
    alone = replace(encoded, type_ids=(0,) * len(encoded.ids))
    message, untold = (student._score(row, student.model)["logits"] for row in (encoded, alone))
    assert np.abs(message - untold).max() > 1e-4


def test_a_decoder_without_a_padding_token_uses_the_end_of_text_token(family_of, task, tmp_path):
    load_tokenizer_and_padding(family_of("mistral"), load_model(family_of("mistral"), task), tmp_path)
    assert AutoTokenizer.from_pretrained(tmp_path).pad_token == "</s>"
    assert (tmp_path / "tokenizer.json").read_bytes() == (family_of("mistral") / "tokenizer.json").read_bytes()


def test_an_encoder_without_a_padding_token_is_refused(bert, task, tmp_path):
    folder = shutil.copytree(bert, tmp_path / "backbone")
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        if (folder / name).exists():
            message = json.loads((folder / name).read_text())
            (folder / name).write_text(json.dumps({key: message[key] for key in message if key != "pad_token"}))
    with pytest.raises(TrainingFailed, match="tokenizer has no padding token"):
        load_tokenizer_and_padding(folder, load_model(folder, task), tmp_path)


def test_a_backbone_without_bfloat16_support_is_trained_in_fp32_with_a_note(
    family_of, mixture, validation, task, tmp_path
):
    speed = SpeedSettings(bf16=True, frozen_embeddings=True)
    section = make_section(epochs=(1,))
    trained = train_student(mixture, validation, task, section, family_of("deberta"), tmp_path / "student", speed=speed)
    assert trained.notes == ("The backbone does not support bfloat16, so it was trained in fp32.",)


def test_a_decoder_with_adapters_is_saved_as_an_ordinary_model(family_of, mixture, validation, task, tmp_path):
    section = make_section(epochs=(3,)).model_copy(update={"peft": "lora"})
    trained = train_student(mixture, validation, task, section, family_of("mistral"), tmp_path / "student")
    plain = load_model(family_of("mistral"), task).state_dict()
    written = Checkpoint.load(trained.folder, task, 24).model.state_dict()
    assert set(written) == set(plain)
    moved = {name for name in plain if name.startswith("model.") and not np.array_equal(plain[name], written[name])}
    assert moved == {name for name in plain if ".self_attn." in name or ".mlp." in name}


def test_adapters_are_merged_into_their_layers(family_of, mixture, validation, task, tmp_path):
    section = make_section(epochs=(2,)).model_copy(update={"peft": "lora"})
    trained = train_student(mixture, validation, task, section, family_of("qwen2"), tmp_path / "student")
    logits = Checkpoint.load(trained.folder, task, 24).logits([row.response.inputs for row in validation])
    chosen = [task.names[number] for number in logits.argmax(axis=1)]
    right = np.mean([found == label for found, label in zip(chosen, validation.labels, strict=True)])
    assert right == pytest.approx(trained.best.best.accuracy)


def test_adapters_are_added_to_the_layers_of_the_project_file(family_of, task):
    model = load_model(family_of("mistral"), task, LoraSection(rank=4, targets=("q_proj",)))
    learnt = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert {name.split(".")[4] for name in learnt if name != "score.weight"} == {"q_proj"}
    assert "score.weight" in learnt


def test_adapters_without_a_decoder_are_an_error_of_the_project_file(bert, task):
    with pytest.raises(ProjectFileError, match=r"^student.peft: lora supports decoders such as Mistral, .* is bert"):
        load_model(bert, task, LoraSection())


def test_adapters_for_unknown_layers_are_an_error_of_the_project_file(family_of, task):
    with pytest.raises(ProjectFileError, match=r"student.lora.targets: the backbone has no linear layer named query"):
        load_model(family_of("mistral"), task, LoraSection(targets=("query",)))
