"""An interrupted trial resumes to the same weights."""

import json
from dataclasses import asdict, replace

import pytest
import torch
from transformers import set_seed

from edgedistill.errors import SearchInterrupted
from edgedistill.project.student import LoraSection
from edgedistill.student.data import mixture_rows, validation_rows
from edgedistill.student.losses import TrainingLoss
from edgedistill.student.model import load_model, load_tokenizer_and_padding
from edgedistill.student.trial import Setting, run_trial, trial_fingerprint
from edgedistill.student.types import SpeedSettings
from edgedistill_serve.scoring.encoding import Encoder
from edgedistill_serve.task.task import Label, Task

from ...pickles import holds_a_pickle
from .conftest import KEYWORDS, WORDS, make_mixture, make_validation
from .families import save_backbone

STEPS = 12
"""Optimizer steps of an epoch: 96 rows in batches of 8."""
SETTING = Setting(learning_rate=5e-3, batch_size=8, epochs=3, seed=3)


class Broken(Exception):
    """Stands for whatever ends a process."""


@pytest.fixture(scope="module")
def trial(backbones, tmp_path_factory):
    """Run one trial on a fresh model; returns its history and its weights."""
    task = Task(kind="nominal", labels=tuple(map(Label, KEYWORDS)), inputs=("response",))
    mixture, validation = make_mixture(), make_validation()

    def run(keep=None, *, broken_after=None, backbone=backbones["bert"], lora=None, on_epoch=None, **changed):
        set_seed(SETTING.seed)
        model = load_model(backbone, task, lora)
        files = tmp_path_factory.mktemp("tokenizer")
        padding = load_tokenizer_and_padding(backbone, model, files)
        encoder = Encoder(files / "tokenizer.json", 24)
        made = []

        def on_step():
            made.append(1)
            if len(made) == broken_after:
                raise Broken

        given = {"setting": SETTING, "speed": SpeedSettings(bf16=False, frozen_embeddings=True)} | changed
        history = run_trial(
            model,
            padding,
            mixture_rows(mixture, task, encoder),
            validation_rows(validation, task, encoder),
            keep=keep,
            on_step=on_step,
            on_epoch=on_epoch or (lambda *_: None),
            **given,
        )
        return history, {name: weight.clone() for name, weight in model.state_dict().items()}

    return run


@pytest.fixture(scope="module")
def whole(trial):
    """A trial that nothing broke off: its history and its weights."""
    return trial()


def untimed(history):
    return [replace(epoch, seconds=0.0) for epoch in history]


def assert_same(first, second):
    assert untimed(first[0]) == untimed(second[0])
    assert all(torch.equal(first[1][name], second[1][name]) for name in first[1])


@pytest.mark.parametrize("epochs", [1, 2])
def test_a_trial_interrupted_in_an_epoch_gives_the_same_weights(epochs, trial, whole, tmp_path):
    with pytest.raises(Broken):
        trial(tmp_path / "keep", broken_after=epochs * STEPS + 5)
    assert [path.name for path in (tmp_path / "keep").iterdir()] == [f"epoch-000{epochs}"]
    assert_same(trial(tmp_path / "keep"), whole)


def test_a_trial_interrupted_twice_gives_the_same_weights(trial, whole, tmp_path):
    for broken_after in (STEPS + 5, 2 * STEPS + 5):
        with pytest.raises(Broken):
            trial(tmp_path / "keep", broken_after=broken_after)
    assert_same(trial(tmp_path / "keep"), whole)


def test_a_trial_with_bfloat16_soft_labels_and_class_weights_resumes(trial, tmp_path):
    given = {
        "speed": SpeedSettings(bf16=True, frozen_embeddings=False),
        "loss_function": TrainingLoss("cumulative", soft=0.5, temperature=2.0, weights=(1.0, 2.0, 0.5)),
    }
    with pytest.raises(Broken):
        trial(tmp_path / "keep", broken_after=2 * STEPS + 5, **given)
    assert_same(trial(tmp_path / "keep", **given), trial(**given))


def test_a_trial_with_adapters_resumes(trial, tmp_path):
    given = {"backbone": save_backbone("mistral", WORDS, tmp_path / "mistral"), "lora": LoraSection(rank=4)}
    with pytest.raises(Broken):
        trial(tmp_path / "keep", broken_after=2 * STEPS + 5, **given)
    assert_same(trial(tmp_path / "keep", **given), trial(**given))


def test_completed_epochs_are_not_repeated(trial, tmp_path):
    with pytest.raises(Broken):
        trial(tmp_path / "keep", broken_after=2 * STEPS + 5)
    (state,) = (tmp_path / "keep").glob("epoch-0002/state.json")
    kept = json.loads(state.read_text())["history"]
    history = trial(tmp_path / "keep")[0]
    # The seconds that an epoch took are those of the process that made it.
    assert [asdict(epoch) for epoch in history[:2]] == kept
    assert [epoch.epoch for epoch in history] == [1, 2, 3]


def test_completed_epochs_are_reported_again_with_the_best_model(trial, tmp_path):
    written = {}

    def keep_best(epoch, model):
        written[epoch.epoch] = {name: weight.clone() for name, weight in model.state_dict().items()}

    with pytest.raises(Broken):
        trial(tmp_path / "keep", broken_after=2 * STEPS + 5, on_epoch=keep_best)
    first, written = written, {}
    history, _ = trial(tmp_path / "keep", on_epoch=keep_best)
    best = max(history[:2], key=lambda epoch: epoch.selection_key).epoch
    assert all(torch.equal(first[best][name], written[best][name]) for name in first[best])


def test_a_finished_trial_is_not_run_again(trial, tmp_path):
    done = trial(tmp_path / "keep")
    again = trial(tmp_path / "keep")
    assert again[0] == done[0]
    assert all(torch.equal(done[1][name], again[1][name]) for name in done[1])


def test_the_state_of_another_setting_is_not_used_and_noted(trial, tmp_path):
    with pytest.raises(Broken):
        trial(tmp_path / "keep", broken_after=STEPS + 5)
    notes, changed = [], {"setting": replace(SETTING, learning_rate=4e-3)}
    assert_same(trial(tmp_path / "keep", on_note=notes.append, **changed), trial(**changed))
    assert notes == [
        "The state of an interrupted trial is from other rows, settings or versions, so the trial starts over."
    ]


def test_the_fingerprint_of_a_trial_covers_everything_that_determines_it(bert, task, mixture, validation, tmp_path):
    set_seed(0)
    model = load_model(bert, task)
    padding = load_tokenizer_and_padding(bert, model, tmp_path)
    encoder = Encoder(tmp_path / "tokenizer.json", 24)
    train_rows, held_out = mixture_rows(mixture, task, encoder), validation_rows(validation, task, encoder)
    softer = [replace(train_rows[0], shares=(0.5, 0.25, 0.25)), *train_rows[1:]]

    def marks():
        yield trial_fingerprint(model, padding, train_rows, held_out, SETTING)
        yield trial_fingerprint(model, padding, train_rows[1:], held_out, SETTING)
        yield trial_fingerprint(model, padding, train_rows[::-1], held_out, SETTING)
        yield trial_fingerprint(model, padding, softer, held_out, SETTING)
        yield trial_fingerprint(model, padding, train_rows, held_out[1:], SETTING)
        yield trial_fingerprint(model, padding, train_rows, held_out, replace(SETTING, epochs=5))
        yield trial_fingerprint(model, padding, train_rows, held_out, SETTING, TrainingLoss(soft=0.5))
        yield trial_fingerprint(model, replace(padding, token=7), train_rows, held_out, SETTING)
        model.get_input_embeddings().requires_grad_(False)
        yield trial_fingerprint(model, padding, train_rows, held_out, SETTING)
        with torch.no_grad():
            model.classifier.bias[0] += 1e-6
        yield trial_fingerprint(model, padding, train_rows, held_out, SETTING)

    found = list(marks())
    assert len(set(found)) == len(found)
    assert trial_fingerprint(model, padding, train_rows, held_out, SETTING) == found[-1]


@pytest.mark.parametrize("name", ["weights.safetensors", "state.json"])
def test_a_damaged_state_is_not_used_and_noted(name, trial, whole, tmp_path):
    with pytest.raises(Broken):
        trial(tmp_path / "keep", broken_after=STEPS + 5)
    file = tmp_path / "keep" / "epoch-0001" / name
    content = file.read_bytes()
    file.unlink()
    file.write_bytes(content[: len(content) // 2])
    notes = []
    assert_same(trial(tmp_path / "keep", on_note=notes.append), whole)
    assert notes == ["The state of an interrupted trial is damaged, so the trial starts over."]


def test_an_incomplete_state_is_not_used(trial, whole, tmp_path):
    with pytest.raises(Broken):
        trial(tmp_path / "keep", broken_after=STEPS + 5)
    (tmp_path / "keep" / "epoch-0002.part").mkdir()
    (tmp_path / "keep" / "epoch-0002.part" / "weights.safetensors").touch()
    assert_same(trial(tmp_path / "keep"), whole)
    assert [path.name for path in (tmp_path / "keep").iterdir()] == ["epoch-0003"]


def test_no_state_is_pickled(trial, tmp_path):
    with pytest.raises(Broken):
        trial(tmp_path / "keep", broken_after=STEPS + 5)
    files = [path for path in (tmp_path / "keep").rglob("*") if path.is_file()]
    assert len(files) == 4
    assert not any(holds_a_pickle(file) for file in files)


def test_a_folder_that_cannot_be_written_ends_the_search(trial, tmp_path):
    (tmp_path / "keep").touch()
    with pytest.raises(SearchInterrupted, match="the state of training cannot be written"):
        trial(tmp_path / "keep")


def test_patience_ends_a_trial_early(trial):
    history = trial(setting=replace(SETTING, learning_rate=5e-2, epochs=8), patience=2)[0]
    best = max(history, key=lambda epoch: epoch.selection_key).epoch
    assert len(history) == best + 2 < 8


def test_patience_does_not_change_the_learning_rate_schedule(trial, whole):
    patient = trial(patience=1)[0]
    assert untimed(patient) == untimed(whole[0])[: len(patient)]


def test_a_trial_that_stopped_early_is_not_resumed(trial, tmp_path):
    given = {"setting": replace(SETTING, learning_rate=5e-2, epochs=8), "patience": 2}
    done = trial(tmp_path / "keep", **given)[0]
    assert trial(tmp_path / "keep", **given)[0] == done
