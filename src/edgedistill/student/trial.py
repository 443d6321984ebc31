"""One fine-tuning run: precision and speed settings, the training loop, resuming after an interruption.

folder/epoch-0003/     whole, for it is written aside and moved into place; the epoch before it is then removed
├── state.json         history, learning-rate schedule, random states, and the SHA-256 of the files beside it
├── weights.safetensors    what training changes; the rest is the backbone's
├── optimizer.safetensors
└── best.safetensors   the weights of the best epoch so far

AdamW (Loshchilov & Hutter 2019) with weight decay 0.01 on all weights but biases and norms, the learning rate rising
linearly over the first tenth of the steps and falling linearly to zero, gradients clipped to norm 1. After each epoch
the student is evaluated on the validation rows, in fp32. The same rows, setting and seed give the same weights, byte
for byte, on the same machine with the same number of threads, as far as its kernels are deterministic: CPUs' are.
"""

import hashlib
import json
import math
import os
import random
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch.utils.data import DataLoader
from transformers import (
    EvalPrediction,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    get_linear_schedule_with_warmup,
)

from edgedistill.agreement.confusion import accuracies, confusion_matrix, macro_f1s
from edgedistill.errors import SearchInterrupted, TrainingFailed
from edgedistill.student.data import LengthGroupedBatches, Padding, TrainingRow
from edgedistill.student.label_thresholds import exact_match_and_macro_f1
from edgedistill.student.losses import HARD, TrainingLoss
from edgedistill.student.model import is_decoder, writable_model
from edgedistill.student.types import Epoch, SpeedSettings
from edgedistill_export.temporary import temporary_folder


def default_speed_settings() -> SpeedSettings:
    """Return the speed settings for this machine (docs/decisions/0003-training-levers.md)."""
    return SpeedSettings(bf16=has_bf16(), frozen_embeddings=True)


def has_bf16() -> bool:
    """Whether the training device has bfloat16 in hardware; in software it is slower than fp32."""
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # For CPUs torch has only private functions for this; where a release lacks one, training uses fp32.
    probes = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return not torch.backends.mps.is_available() and any(probe() for probe in probes if probe)


def supported_settings(speed: SpeedSettings, model: Any, padding: Padding, row: TrainingRow) -> SpeedSettings:
    """Return the speed settings that a model supports; DeBERTa, for example, overflows in bfloat16.

    Args:
        speed: The machine's settings.
        model: Runs one row, as in a training step but without dropout.
        padding: How it pads.
        row: Any row.
    """
    if not speed.bf16:
        return speed
    device = next(model.parameters()).device
    batch = {name: tensor.to(device) for name, tensor in padding.batch([row]).items()}
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16):
            model(**{name: batch[name] for name in batch if name not in ("labels", "shares")})
    except RuntimeError:
        return replace(speed, bf16=False)
    finally:
        model.train(was_training)
    return speed


@contextmanager
def deterministic_sums() -> Iterator[None]:
    """Run the block with deterministic GPU kernels; CPU kernels are deterministic already.

    Where a GPU has no such kernel for an operation, torch warns and takes the other.
    """
    if not torch.cuda.is_available():
        yield
        return
    # cuBLAS reads this at its first use; without it torch refuses matrix products in this mode.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])


_FORMAT = 1
"""Increased when training changes so that an older state cannot be resumed."""
_TOOLS = ("torch", "transformers", "accelerate", "numpy")


def trial_fingerprint(
    model: Any,
    padding: Padding,
    mixture: Sequence[TrainingRow],
    validation: Sequence[TrainingRow],
    *settings: object,
) -> str:
    """Return the SHA-256 of all inputs of a trial and of the environment it runs in.

    Args:
        model: The model before its first step, with initialized head and adapters.
        padding: How it pads.
        mixture: Training rows, in order.
        validation: Validation rows, in order.
        settings: All other settings, by their ``repr``.
    """
    total = hashlib.sha256()
    settings_text = [
        _FORMAT,
        [version(tool) for tool in _TOOLS],
        _machine(),
        repr(padding),
        [repr(one) for one in settings],
    ]
    total.update(json.dumps(settings_text).encode())
    for rows in (mixture, validation):
        total.update(f"{len(rows)} rows".encode())
        for row in rows:
            total.update(repr((row.encoded.ids, row.encoded.type_ids, row.target, row.shares)).encode())
    for name, tensor in model.state_dict().items():
        total.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        total.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    for name, weight in model.named_parameters():
        total.update(f"{name} {weight.requires_grad}".encode())
    return total.hexdigest()


def _machine() -> list[object]:
    """The order of summation depends on the device and the number of threads."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    return [device, torch.get_num_threads()]


def random_state() -> dict[str, Any]:
    """Return the state of every random generator, in numbers that JSON represents exactly."""
    version, words, gauss = random.getstate()
    name, keys, place, has_gauss, cached = np.random.get_state(legacy=True)  # transformers seeds the legacy generator
    return {
        "python": [version, list(words), gauss],
        "numpy": [name, np.asarray(keys).tolist(), place, has_gauss, cached],
        "torch": torch.get_rng_state().tolist(),
        "cuda": [state.tolist() for state in torch.cuda.get_rng_state_all()] if torch.cuda.is_available() else [],
    }


def restore_random_state(states: Mapping[str, Any]) -> None:
    """Restore the state that `random_state` returned, on a machine with the same devices."""
    version, words, gauss = states["python"]
    random.setstate((version, tuple(words), gauss))
    name, keys, place, has_gauss, cached = states["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), place, has_gauss, cached))
    torch.set_rng_state(torch.tensor(states["torch"], dtype=torch.uint8))
    for number, state in enumerate(states["cuda"]):
        torch.cuda.set_rng_state(torch.tensor(state, dtype=torch.uint8), number)


_WEIGHTS, _OPTIMIZER, _BEST, _STATE = "weights.safetensors", "optimizer.safetensors", "best.safetensors", "state.json"


class ResumableState:
    """The saved state of a trial, from which it can be resumed.

    Args:
        folder: The trial's folder; created after its first epoch.
        mark: `trial_fingerprint` of everything that determines the outcome.
        on_note: Called with a sentence where a saved state cannot be used.
    """

    def __init__(self, folder: Path, mark: str, on_note: Callable[[str], None]) -> None:
        self._folder, self._mark = folder, mark
        self._place, self._state = self._found(on_note)

    @property
    def history(self) -> tuple[Epoch, ...]:
        """The finished epochs; empty where there is no state to resume."""
        return tuple(Epoch(**epoch) for epoch in self._state.get("history", ()))

    def load_best(self, model: Any) -> None:
        """Load the weights of the best finished epoch into the model."""
        _load(model, load_file(self._place / _BEST))

    def load(self, model: Any, optimizer: torch.optim.Optimizer, schedule: Any) -> None:
        """Restore model, optimizer and learning-rate schedule to the end of the last finished epoch."""
        _load(model, load_file(self._place / _WEIGHTS))
        moments: dict[int, dict[str, torch.Tensor]] = {}
        for name, tensor in load_file(self._place / _OPTIMIZER).items():
            number, _, what = name.partition(".")
            moments.setdefault(int(number), {})[what] = tensor
        optimizer.load_state_dict({"state": moments, "param_groups": self._state["groups"]})
        schedule.load_state_dict(self._state["schedule"])

    def load_random_state(self) -> None:
        """Restore all random generators."""
        restore_random_state(self._state["chance"])

    def save(self, history: Sequence[Epoch], model: Any, optimizer: torch.optim.Optimizer, schedule: Any) -> None:
        """Save the state after an epoch, replacing the previous one.

        Raises:
            SearchInterrupted: The disk is full, or permission is missing; the previous state is kept.
        """
        place = self._folder / f"epoch-{len(history):04d}"
        aside = place.with_name(f"{place.name}.part")
        try:
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir(parents=True)
            state = self._written(aside, history, model, optimizer, schedule)
            aside.rename(place)
        except (OSError, SafetensorError) as error:
            shutil.rmtree(aside, ignore_errors=True)
            raise SearchInterrupted(
                f"the state of training cannot be written ({getattr(error, 'strerror', None) or error})",
                where=str(self._folder),
                hint="Free disk space, or give write permission; finished epochs are kept.",
            ) from error
        before, self._place, self._state = self._place, place, state
        if before != self._folder:
            shutil.rmtree(before, ignore_errors=True)

    def _written(
        self, aside: Path, history: Sequence[Epoch], model: Any, optimizer: torch.optim.Optimizer, schedule: Any
    ) -> dict[str, Any]:
        save_file(_trainable_tensors(model), aside / _WEIGHTS)
        if max(history, key=lambda epoch: epoch.selection_key) is history[-1]:
            _link_or_copy(aside / _WEIGHTS, aside / _BEST)
        else:
            _link_or_copy(self._place / _BEST, aside / _BEST)
        optimizer_state = optimizer.state_dict()
        moments = {
            f"{number}.{what}": tensor.contiguous()
            for number, moment in optimizer_state["state"].items()
            for what, tensor in moment.items()
        }
        save_file(moments, aside / _OPTIMIZER)
        state = {
            "mark": self._mark,
            "history": [asdict(epoch) for epoch in history],
            "groups": optimizer_state["param_groups"],
            "schedule": schedule.state_dict(),
            "chance": random_state(),
            "files": {name: _digest(aside / name) for name in (_WEIGHTS, _OPTIMIZER, _BEST)},
        }
        (aside / _STATE).write_text(json.dumps(state), "utf-8")
        return state

    def _found(self, on_note: Callable[[str], None]) -> tuple[Path, dict[str, Any]]:
        nothing: tuple[Path, dict[str, Any]] = self._folder, {}
        places = sorted(place for place in self._folder.glob("epoch-*") if place.suffix != ".part")
        if not places:
            return nothing
        state = _read(places[-1])
        if state is None:
            on_note("The state of an interrupted trial is damaged, so the trial starts over.")
        elif state["mark"] != self._mark:
            on_note(
                "The state of an interrupted trial is from other rows, settings or versions, so the trial starts over."
            )
        else:
            return places[-1], state
        shutil.rmtree(self._folder, ignore_errors=True)
        return nothing


def _read(place: Path) -> dict[str, Any] | None:
    """The saved state, or None where it is incomplete."""
    try:
        state: dict[str, Any] = json.loads((place / _STATE).read_text("utf-8"))
        whole = all(_digest(place / name) == sha256 for name, sha256 in state["files"].items())
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return None
    return state if whole and "mark" in state else None


def _trainable_tensors(model: Any) -> dict[str, torch.Tensor]:
    """Trainable weights, and the buffers in the model's state dict."""
    weights = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    kept = model.state_dict()
    weights |= {name: tensor for name, tensor in model.named_buffers() if name in kept}
    return {name: tensor.detach().contiguous() for name, tensor in weights.items()}


def _load(model: Any, weights: Mapping[str, torch.Tensor]) -> None:
    places = dict(model.named_parameters()) | dict(model.named_buffers())
    with torch.no_grad():
        for name, tensor in weights.items():
            places[name].copy_(tensor)


def _link_or_copy(file: Path, to: Path) -> None:
    """Hard-link a file, or copy it where the file system has no hard links."""
    try:
        os.link(file, to)
    except OSError:
        shutil.copyfile(file, to)


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


class EpochCallback(TrainerCallback):  # type: ignore[misc]  # transformers is untyped here
    """Records every epoch, reports it, saves the state, and stops early.

    Args:
        on_step: Called after every optimizer step.
        on_epoch: Called after every epoch.
        patience: Epochs without improvement before stopping early; None: never.
        unfinished: Saves the state after each epoch.
    """

    def __init__(
        self,
        on_step: Callable[[], None],
        on_epoch: Callable[[Epoch, Any], None],
        patience: int | None,
        unfinished: ResumableState | None,
    ) -> None:
        self.history: list[Epoch] = []
        self._on_step, self._on_epoch, self._patience, self._unfinished = on_step, on_epoch, patience, unfinished
        self._start = time.perf_counter()
        self._goes_on = False

    @property
    def should_stop(self) -> bool:
        """Whether early stopping applies."""
        if self._patience is None or not self.history:
            return False
        best = max(self.history, key=lambda epoch: epoch.selection_key)
        return len(self.history) - best.epoch >= self._patience

    def replay(self, history: Sequence[Epoch], model: Any, steps: int) -> None:
        """Report the finished epochs of a resumed training.

        Args:
            history: The epochs.
            model: The model of the best epoch.
            steps: Optimizer steps per epoch.
        """
        for epoch in history:
            for _ in range(steps):
                self._on_step()
            self.history.append(epoch)
            self._on_epoch(epoch, writable_model(model))
        self._goes_on = True

    def on_epoch_begin(self, *_: Any, **__: Any) -> None:
        """Start the clock; in a resumed training, restore the random state."""
        self._start = time.perf_counter()
        if self._goes_on and self._unfinished:
            self._unfinished.load_random_state()
            self._goes_on = False

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Report a step."""
        self._on_step()

    def on_evaluate(self, _: Any, __: Any, control: Any, **given: Any) -> None:
        """Record an evaluated epoch."""
        figures, model = given["metrics"], given["model"]
        epoch = Epoch(
            epoch=len(self.history) + 1,
            loss=float(figures["eval_loss"]),
            accuracy=figures["eval_accuracy"],
            macro_f1=figures["eval_macro_f1"],
            seconds=time.perf_counter() - self._start,
        )
        self.history.append(epoch)
        self._on_epoch(epoch, writable_model(model))
        if self._unfinished:
            self._unfinished.save(self.history, model, given["optimizer"], given["lr_scheduler"])
        control.should_training_stop = control.should_training_stop or self.should_stop


class StudentTrainer(Trainer):  # type: ignore[misc]  # transformers is untyped here
    """Trainer with length-grouped batches, our loss functions, and bfloat16 in training steps only.

    Args:
        loss_function: The training loss.
        bf16_steps: Whether the forward pass of a training step runs in bfloat16.
        watch: Records every epoch.
        first: Epochs trained before resuming; the order of rows continues after them.
        given: Arguments of `Trainer`.
    """

    def __init__(
        self, *, loss_function: TrainingLoss, bf16_steps: bool, watch: EpochCallback, first: int, **given: Any
    ) -> None:
        super().__init__(compute_metrics=_figures, callbacks=[watch], **given)
        self.remove_callback(PrinterCallback)
        self._objective, self._bf16_steps, self._watch, self._first = loss_function, bf16_steps, watch, first

    def get_train_dataloader(self) -> Any:
        """Return length-grouped batches."""
        lengths = [len(row) for row in self.train_dataset]
        batches = LengthGroupedBatches(lengths, self.args.per_device_train_batch_size, self.args.seed, self._first)
        return self.accelerator.prepare(
            DataLoader(self.train_dataset, batch_sampler=batches, collate_fn=self.data_collator)
        )

    def compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, **_: Any) -> Any:
        """Return the loss of a batch: the training loss in training, cross-entropy in evaluation.

        Raises:
            TrainingFailed: It is not finite.
        """
        targets, shares = inputs.pop("labels"), inputs.pop("shares", None)
        with torch.autocast(targets.device.type, torch.bfloat16, enabled=self._bf16_steps and model.training):
            logits = model(**inputs).logits
        if model.training:
            loss = self._objective.loss(logits.float(), targets, shares)
        else:
            loss = self._objective.evaluation_loss(logits.float(), targets)
        if not torch.isfinite(loss):
            raise TrainingFailed(
                f"the loss is not finite in epoch {len(self._watch.history) + 1}",
                hint=f"Choose a learning_rate below {self.args.learning_rate:g}.",
            )
        return (loss, {"logits": logits}) if return_outputs else loss


def _figures(prediction: EvalPrediction) -> dict[str, float]:
    logits, targets = np.asarray(prediction.predictions), np.asarray(prediction.label_ids)
    if targets.ndim == 2:
        accuracy, macro_f1 = exact_match_and_macro_f1(logits, targets == 1)
        return {"accuracy": accuracy, "macro_f1": macro_f1}
    confusion = confusion_matrix(targets, logits.argmax(axis=1), logits.shape[1])[None]
    return {"accuracy": float(accuracies(confusion)[0]), "macro_f1": float(macro_f1s(confusion)[0])}


WARM_UP = 0.1
WEIGHT_DECAY = 0.01
GRADIENT_NORM = 1.0

_VALIDATION_BATCH = 64


@dataclass(frozen=True, slots=True)
class Setting:
    """The hyperparameters and the seed of a trial."""

    learning_rate: float
    batch_size: int
    epochs: int
    seed: int

    def steps(self, rows: int) -> int:
        """The number of optimizer steps of the trial on so many rows."""
        return self.epochs * math.ceil(rows / self.batch_size)


def run_trial(
    model: Any,
    padding: Padding,
    mixture: Sequence[TrainingRow],
    validation: Sequence[TrainingRow],
    setting: Setting,
    speed: SpeedSettings,
    *,
    on_step: Callable[[], None],
    on_epoch: Callable[[Epoch, Any], None],
    loss_function: TrainingLoss = HARD,
    patience: int | None = None,
    keep: Path | None = None,
    on_note: Callable[[str], None] = lambda _: None,
) -> tuple[Epoch, ...]:
    """Fine-tune the model in place.

    Args:
        model: The backbone with a new head.
        padding: How it pads.
        mixture: Training rows.
        validation: Validation rows.
        setting: Learning rate, batch size, epochs, seed.
        speed: Speed settings.
        on_step: Called after every optimizer step.
        on_epoch: Called after every epoch with its metrics and the model to save. When a trial is resumed, it is called
            for the finished epochs at the start, with the best of their models.
        loss_function: The training loss. Validation always uses cross-entropy.
        patience: Stop early after this many epochs without improvement; None: never. The learning-rate schedule is not
            shortened.
        keep: The trial's folder for its state after each epoch. A trial that finds the state of one with the same rows,
            settings and versions resumes from it, to the same weights byte for byte. None: save nothing.
        on_note: Called with a sentence where the state in ``keep`` or a speed setting cannot be used.

    Returns:
        One entry per epoch.

    Raises:
        TrainingFailed: The loss is not finite, or the process is out of memory.
        SearchInterrupted: The state cannot be saved.
    """
    speed = _prepare_model(model, padding, mixture, speed, on_note)
    unfinished = None
    if keep:
        decides = (setting, speed, loss_function, patience)
        unfinished = ResumableState(keep, trial_fingerprint(model, padding, mixture, validation, *decides), on_note)
    before = unfinished.history if unfinished else ()
    watch = EpochCallback(on_step, on_epoch, patience, unfinished)
    steps = setting.steps(len(mixture))
    with temporary_folder("training") as scratch, deterministic_sums():
        loop = StudentTrainer(
            model=model,
            args=_arguments(setting, setting.epochs - len(before), scratch),
            data_collator=padding.batch,
            train_dataset=list(mixture),
            eval_dataset=list(validation),
            loss_function=loss_function,
            bf16_steps=speed.bf16,
            watch=watch,
            first=len(before),
        )
        optimizer = loop.create_optimizer()
        loop.lr_scheduler = get_linear_schedule_with_warmup(optimizer, math.ceil(WARM_UP * steps), steps)
        if unfinished and before:
            unfinished.load_best(model)
            watch.replay(before, model, steps // setting.epochs)
            unfinished.load(model, optimizer, loop.lr_scheduler)
        try:
            if len(before) < setting.epochs and not watch.should_stop:
                loop.train()
        except (MemoryError, RuntimeError) as error:
            if _is_out_of_memory(error):
                raise TrainingFailed(
                    "out of memory", hint="Choose a smaller batch_size, max_tokens or backbone."
                ) from error
            raise
    return tuple(watch.history)


def _prepare_model(
    model: Any, padding: Padding, mixture: Sequence[TrainingRow], speed: SpeedSettings, on_note: Callable[[str], None]
) -> SpeedSettings:
    """Freeze embeddings where set, set the padding token, and return the supported speed settings."""
    if speed.frozen_embeddings:
        model.get_input_embeddings().requires_grad_(False)
    if is_decoder(model):
        model.config.pad_token_id = padding.token
    used = supported_settings(speed, model, padding, mixture[0])
    if used != speed:
        on_note("The backbone does not support bfloat16, so it was trained in fp32.")
    return used


def _arguments(setting: Setting, epochs: int, scratch: Path) -> TrainingArguments:
    return TrainingArguments(
        output_dir=str(scratch),
        learning_rate=setting.learning_rate,
        per_device_train_batch_size=setting.batch_size,
        per_device_eval_batch_size=_VALIDATION_BATCH,
        num_train_epochs=epochs,
        seed=setting.seed,
        optim="adamw_torch_fused",
        weight_decay=WEIGHT_DECAY,
        max_grad_norm=GRADIENT_NORM,
        eval_strategy="epoch",
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
    )


def _is_out_of_memory(error: Exception) -> bool:
    # torch's CPU allocator raises a plain RuntimeError.
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)
