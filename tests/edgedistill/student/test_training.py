"""Training a tiny student on a toy task."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from edgedistill.agreement import agreement
from edgedistill.errors import TrainingFailed
from edgedistill.student import Epoch, SpeedSettings, Trial, train_student
from edgedistill.student.checkpoints import beside, replacing
from edgedistill_export.checkpoint import Checkpoint
from edgedistill_serve.task.task import Task

PLAIN = SpeedSettings(bf16=False, frozen_embeddings=False)


def epoch(number, macro_f1, loss=1.0):
    return Epoch(epoch=number, loss=loss, accuracy=macro_f1, macro_f1=macro_f1, seconds=0.0)


def finished_trial(*history):
    return Trial(learning_rate=1e-3, batch_size=8, epochs=len(history), seed=0, history=history, seconds=0.0)


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert"])
def test_a_student_learns_keyword_labels(family, backbones, validation, task, sections, mixtures, tmp_path):
    section = sections(learning_rate=(4e-3,), epochs=(8,))
    trained = train_student(mixtures(192), validation, task, section, backbones[family], tmp_path / "student")
    assert trained.best.validation_macro_f1 > 0.9


def test_the_checkpoint_reproduces_the_validation_score_of_training(
    bert, mixture, validation, task, sections, tmp_path
):
    search = sections(learning_rate=(5e-3, 1e-4), epochs=(2,), seeds=(0, 1))
    trained = train_student(mixture, validation, task, search, bert, tmp_path / "student")
    logits = Checkpoint.load(trained.folder, task, 24).logits([row.response.inputs for row in validation])
    coded = [task.names[number] for number in logits.argmax(axis=1)]
    found = agreement(validation.labels, coded, task)
    assert found.macro_f1.value == pytest.approx(trained.best.validation_macro_f1)
    assert trained.best.validation_macro_f1 == max(e.macro_f1 for trial in trained.trials for e in trial.history)


def test_every_combination_is_run_with_every_seed(bert, mixtures, validation, task, sections, tmp_path):
    search = sections(learning_rate=(1e-3, 5e-3), batch_size=(16, 32), epochs=(1, 2), seeds=(0, 7))
    trained = train_student(mixtures(16), validation, task, search, bert, tmp_path / "student")
    run = [(trial.learning_rate, trial.batch_size, trial.epochs, trial.seed) for trial in trained.trials]
    expected = [(r, b, e, s) for r in (1e-3, 5e-3) for b in (16, 32) for e in (1, 2) for s in (0, 7)]
    assert run == expected
    assert [[each.epoch for each in trial.history] for trial in trained.trials] == [[1], [1], [1, 2], [1, 2]] * 4


def test_of_equal_macro_f1_the_lower_loss_is_the_best_epoch():
    assert finished_trial(epoch(1, 0.6, loss=0.9), epoch(2, 0.7, loss=0.8), epoch(3, 0.7, loss=0.7)).best_epoch == 3


def test_of_equal_epochs_the_earlier_is_the_best():
    assert finished_trial(epoch(1, 0.6), epoch(2, 0.7), epoch(3, 0.7)).best_epoch == 2


def test_a_higher_macro_f1_wins_over_a_lower_loss():
    assert finished_trial(epoch(1, 0.6, loss=0.1), epoch(2, 0.7, loss=0.8)).best_epoch == 2


def test_the_same_seed_gives_the_same_bytes(bert, mixture, validation, task, sections, tmp_path):
    for name in ("first", "second"):
        train_student(mixture, validation, task, sections(epochs=(1,)), bert, tmp_path / name)
    first, second = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("first", "second"))
    assert first == second


def test_a_trial_does_not_depend_on_the_trials_before_it(bert, mixture, validation, task, sections, tmp_path):
    alone = train_student(mixture, validation, task, sections(epochs=(1,), seeds=(5,)), bert, tmp_path / "a")
    after = train_student(mixture, validation, task, sections(epochs=(1,), seeds=(3, 5)), bert, tmp_path / "b")
    assert after.trials[1].history[0].loss == alone.trials[0].history[0].loss


def test_another_seed_gives_another_student(bert, mixture, validation, task, sections, tmp_path):
    search = sections(epochs=(1,), seeds=(0, 1))
    first, second = train_student(mixture, validation, task, search, bert, tmp_path / "student").trials
    assert first.history[0].loss != second.history[0].loss


def test_the_checkpoint_contains_the_files_for_export(bert, mixture, validation, task, section, tmp_path):
    folder = train_student(mixture, validation, task, section, bert, tmp_path / "student").folder
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.json",
        "model.safetensors",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    config = json.loads((folder / "config.json").read_text())
    assert config["id2label"] == {"0": "process", "1": "outcome", "2": "other"}
    assert config["label2id"] == {"process": 0, "outcome": 1, "other": 2}
    assert config["problem_type"] == "single_label_classification"
    assert (folder / "model.safetensors").stat().st_mode == (folder / "config.json").stat().st_mode
    assert {tensor.dtype for tensor in load_file(folder / "model.safetensors").values()} == {torch.float32}


def test_the_tokenizer_is_the_backbones_byte_for_byte(bert, mixture, validation, task, sections, tmp_path):
    folder = train_student(mixture, validation, task, sections(epochs=(1,)), bert, tmp_path / "student").folder
    assert (folder / "tokenizer.json").read_bytes() == (bert / "tokenizer.json").read_bytes()


def test_only_the_student_is_written_and_nothing_is_printed(
    bert, mixture, validation, task, section, tmp_path, capfd, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    train_student(mixture, validation, task, section, bert, tmp_path / "student")
    assert [path.name for path in tmp_path.iterdir()] == ["student"]
    assert capfd.readouterr() == ("", "")


def test_an_ordinal_task_is_trained_like_a_nominal_one(bert, mixture, validation, task, sections, tmp_path):
    ordinal = Task(kind="ordinal", labels=task.labels, inputs=task.inputs)
    trained = train_student(mixture, validation, ordinal, sections(epochs=(1,)), bert, tmp_path / "student")
    assert len(trained.trials) == 1


def test_frozen_embeddings_do_not_change(bert, mixture, validation, task, sections, tmp_path):
    name = "embeddings.word_embeddings.weight"
    before = load_file(bert / "model.safetensors")[name]
    tables = []
    for frozen in (True, False):
        speed = SpeedSettings(bf16=False, frozen_embeddings=frozen)
        folder = tmp_path / str(frozen)
        train_student(mixture, validation, task, sections(epochs=(1,)), bert, folder, speed=speed)
        tables.append(load_file(folder / "model.safetensors")[f"bert.{name}"])
    assert torch.equal(tables[0], before)
    assert not torch.equal(tables[1], before)


def test_training_in_bfloat16_changes_the_loss_slightly(bert, mixture, validation, task, sections, tmp_path):
    losses = []
    for bf16 in (True, False):
        speed = SpeedSettings(bf16=bf16, frozen_embeddings=False)
        done = train_student(mixture, validation, task, sections(epochs=(1,)), bert, tmp_path / "student", speed=speed)
        losses.append(done.best.best.loss)
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], abs=0.05)


def test_progress_reports_every_step(bert, mixture, validation, task, sections, tmp_path):
    reports = []
    search = sections(epochs=(1, 2), seeds=(0,))
    train_student(mixture, validation, task, search, bert, tmp_path / "student", progress=reports.append)
    assert [each.done for each in reports] == sorted(each.done for each in reports)
    assert (reports[-1].done, reports[-1].total) == (36, 36)
    assert (reports[-1].trial, reports[-1].trials, reports[-1].epoch.epoch) == (2, 2, 2)
    assert reports[0].what == "trial 1 of 2"
    assert reports[-1].what.startswith("trial 2 of 2, macro-F1 0.")


def test_a_label_without_rows_is_noted(bert, mixture, validation, task, sections, tmp_path):
    rows = [row for row in mixture if row.label != "other"]
    notes = train_student(rows, validation, task, sections(epochs=(1,)), bert, tmp_path / "student").notes
    assert notes == ("No training row has the label 'other': the student cannot learn it.",)


def test_truncated_responses_are_noted(bert, mixture, validation, task, sections, tmp_path):
    section = sections(epochs=(1,), max_tokens=8)
    notes = train_student(mixture, validation, task, section, bert, tmp_path / "student").notes
    assert len(notes) == 2
    assert "of 96 mixture responses were truncated to max_tokens = 8" in notes[0]
    assert "of 30 validation responses were truncated to max_tokens = 8" in notes[1]


def test_an_existing_student_is_replaced(bert, mixture, validation, task, sections, tmp_path):
    for seed in (0, 1):
        train_student(mixture, validation, task, sections(epochs=(1,), seeds=(seed,)), bert, tmp_path / "student")
        (tmp_path / "student" / f"mark-{seed}").touch()
    assert not (tmp_path / "student" / "mark-0").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["student"]


def test_an_existing_student_is_unchanged_when_training_is_interrupted(
    bert, mixture, validation, task, sections, tmp_path
):
    train_student(mixture, validation, task, sections(epochs=(1,)), bert, tmp_path / "student")
    before = (tmp_path / "student" / "model.safetensors").read_bytes()

    def stop(progress):
        if progress.done == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_student(mixture, validation, task, sections(seeds=(9,)), bert, tmp_path / "student", progress=stop)
    assert (tmp_path / "student" / "model.safetensors").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["student"]


def test_concurrent_replacements_leave_one_complete_student(tmp_path):
    def put(turn):
        with replacing(tmp_path / "student") as new:
            for name in ("config.json", "model.safetensors"):
                (new / name).write_text(str(turn))

    with ThreadPoolExecutor(4) as writers:
        list(writers.map(put, range(60)))
    found = [(tmp_path / "student" / name).read_text() for name in ("config.json", "model.safetensors")]
    assert found[0] == found[1]
    assert [path.name for path in tmp_path.iterdir()] == ["student"]


def test_cleaning_up_does_not_remove_a_folder_that_another_thread_is_locking(tmp_path):
    def write(turn):
        with beside(tmp_path / "student") as new:
            (new / "config.json").write_text(str(turn))

    with ThreadPoolExecutor(8) as writers:
        list(writers.map(write, range(600)))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_other_files_is_not_replaced(bert, mixture, validation, task, section, tmp_path):
    (tmp_path / "essays").mkdir()
    (tmp_path / "essays" / "thesis.docx").touch()
    with pytest.raises(TrainingFailed, match="has files that are not a student's"):
        train_student(mixture, validation, task, section, bert, tmp_path / "essays")


def test_a_loss_that_is_not_finite_ends_training(bert, mixture, validation, task, section, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(bert, broken)
    weights = load_file(broken / "model.safetensors")
    weights["encoder.layer.1.output.dense.weight"][:] = float("nan")
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(TrainingFailed, match=r"the loss is not finite in epoch 1. Choose a learning_rate below"):
        train_student(mixture, validation, task, section, broken, tmp_path / "student")
    assert not (tmp_path / "student").exists()


def test_the_order_of_inputs_in_a_row_does_not_matter(bert, mixture, validation, task, sections, tmp_path):
    paired_task = Task(kind="nominal", labels=task.labels, inputs=("question", "response"))
    rows = [replace(row, inputs={"response": row.inputs["response"], "question": "what is it"}) for row in mixture]
    validation_rows = type(validation)(
        tuple(
            replace(row, response=replace(row.response, inputs={**row.response.inputs, "question": "what is it"}))
            for row in validation
        )
    )
    trained = train_student(
        rows, validation_rows, paired_task, sections(epochs=(3,)), bert, tmp_path / "student", speed=PLAIN
    )
    logits = Checkpoint.load(trained.folder, paired_task, 24).logits([row.response.inputs for row in validation_rows])
    found = agreement(
        validation_rows.labels, [paired_task.names[number] for number in logits.argmax(axis=1)], paired_task
    )
    assert found.macro_f1.value == pytest.approx(trained.best.validation_macro_f1)
