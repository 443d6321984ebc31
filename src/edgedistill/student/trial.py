"""One fine-tuning run: one setting, one seed; it can go on from where a kill broke it off.

AdamW (Loshchilov & Hutter 2019) with weight decay 0.01 on all weights but biases and norms, the learning rate rising
linearly over the first tenth of the steps and falling linearly to zero, gradients clipped to norm 1. After each epoch
the student is judged on the validation rows, in fp32. The same rows, setting and seed give the same weights, byte for
byte, on the same machine with the same number of threads, as far as its kernels are deterministic: CPUs' are.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from transformers import TrainingArguments, get_linear_schedule_with_warmup

from edgedistill.errors import TrainingFailed
from edgedistill.student.levers import sums_in_order, usable
from edgedistill.student.loop import Loop, Watch
from edgedistill.student.lora import is_decoder
from edgedistill.student.marks import mark_of
from edgedistill.student.objectives import HARD, Objective
from edgedistill.student.resuming import Unfinished
from edgedistill.student.rows import Padding, TrainingRow
from edgedistill.student.types import Epoch, Levers

WARM_UP = 0.1
WEIGHT_DECAY = 0.01
GRADIENT_NORM = 1.0

_VALIDATION_BATCH = 64


@dataclass(frozen=True, slots=True)
class Setting:
    """What one trial is run with."""

    learning_rate: float
    batch_size: int
    epochs: int
    seed: int

    def steps(self, rows: int) -> int:
        """Optimizer steps that the trial makes over so many rows."""
        return self.epochs * math.ceil(rows / self.batch_size)


def run_trial(
    model: Any,
    padding: Padding,
    mixture: Sequence[TrainingRow],
    validation: Sequence[TrainingRow],
    setting: Setting,
    levers: Levers,
    *,
    on_step: Callable[[], None],
    on_epoch: Callable[[Epoch, Any], None],
    objective: Objective = HARD,
    patience: int | None = None,
    keep: Path | None = None,
    on_note: Callable[[str], None] = lambda _: None,
) -> tuple[Epoch, ...]:
    """Fine-tune the model in place.

    Args:
        model: The backbone with a fresh classifier.
        padding: How it pads.
        mixture: Rows to learn from.
        validation: Rows to judge by.
        setting: Learning rate, batch size, epochs, seed.
        levers: What makes this faster.
        on_step: Called after every optimizer step.
        on_epoch: Called after every epoch with its figures and what writes the model as it then is. For epochs that a
            killed training finished it is called again at the start, with the best of their models.
        objective: What is made small. Validation rows are judged by cross-entropy whatever it is.
        patience: The trial ends when so many epochs in a row were no better than the best before; None: never. The
            learning rate falls as if all of them were made.
        keep: A folder of this trial's own. Its state after each epoch is kept there, and a trial that finds the state
            of one with the same rows, settings and tools goes on from it, to the same student byte for byte. None:
            nothing is kept.
        on_note: Told, in a sentence, why what lies in ``keep`` or a lever is not used.

    Returns:
        One entry per epoch.

    Raises:
        TrainingFailed: The loss is no longer a number, or memory does not suffice.
        SearchBrokenOff: The state cannot be written.
    """
    levers = _made_ready(model, padding, mixture, levers, on_note)
    unfinished = None
    if keep:
        decides = (setting, levers, objective, patience)
        unfinished = Unfinished(keep, mark_of(model, padding, mixture, validation, *decides), on_note)
    before = unfinished.history if unfinished else ()
    watch = Watch(on_step, on_epoch, patience, unfinished)
    steps = setting.steps(len(mixture))
    with TemporaryDirectory() as scratch, sums_in_order():
        loop = Loop(
            model=model,
            args=_arguments(setting, setting.epochs - len(before), scratch),
            data_collator=padding.batch,
            train_dataset=list(mixture),
            eval_dataset=list(validation),
            objective=objective,
            bf16_steps=levers.bf16,
            watch=watch,
            first=len(before),
        )
        optimizer = loop.create_optimizer()
        loop.lr_scheduler = get_linear_schedule_with_warmup(optimizer, math.ceil(WARM_UP * steps), steps)
        if unfinished and before:
            unfinished.load_best(model)
            watch.tell_again(before, model, steps // setting.epochs)
            unfinished.load(model, optimizer, loop.lr_scheduler)
        try:
            if len(before) < setting.epochs and not watch.out_of_patience:
                loop.train()
        except (MemoryError, RuntimeError) as error:
            if _is_out_of_memory(error):
                raise TrainingFailed(
                    "memory does not suffice", mend="Choose a smaller batch_size, max_tokens or backbone."
                ) from error
            raise
    return tuple(watch.history)


def _made_ready(
    model: Any, padding: Padding, mixture: Sequence[TrainingRow], levers: Levers, on_note: Callable[[str], None]
) -> Levers:
    """Settle what the model does not learn and what its padding is; the levers that its code bears."""
    if levers.frozen_words:
        model.get_input_embeddings().requires_grad_(False)
    if is_decoder(model):
        model.config.pad_token_id = padding.token
    used = usable(levers, model, padding, mixture[0])
    if used != levers:
        on_note("The backbone's code cannot be run in bfloat16, so its training steps were made in fp32.")
    return used


def _arguments(setting: Setting, epochs: int, scratch: str) -> TrainingArguments:
    return TrainingArguments(
        output_dir=scratch,
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
    # torch's CPU allocator has no exception of its own: it says this in a RuntimeError.
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)
