"""One fine-tuning run: one setting, one seed.

AdamW (Loshchilov & Hutter 2019) with weight decay 0.01 on all weights but biases and norms, the learning rate rising
linearly over the first tenth of the steps and falling linearly to zero, gradients clipped to norm 1. After each epoch
the student is judged on the validation rows, in fp32. The same rows, setting and seed give the same weights, byte for
byte, on the same machine with the same number of threads, as far as its kernels are deterministic: CPUs' are.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader
from transformers import EvalPrediction, PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from edgedistill.agreement.bootstrap import accuracies, confusion_of, macro_f1s
from edgedistill.errors import TrainingFailed
from edgedistill.student.batches import LikeLengths
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
        on_epoch: Called after every epoch with its figures and the model as it then is.

    Returns:
        One entry per epoch.

    Raises:
        TrainingFailed: The loss is no longer a number, or memory does not suffice.
    """
    if levers.frozen_words:
        model.get_input_embeddings().requires_grad_(False)
    watch = _Watch(on_step, on_epoch)
    with TemporaryDirectory() as scratch:
        trainer = _LikeLengthTrainer(
            model=model,
            args=_arguments(setting, setting.steps(len(mixture)), scratch),
            data_collator=padding.batch,
            train_dataset=list(mixture),
            eval_dataset=list(validation),
            compute_metrics=_figures,
            callbacks=[watch],
            bf16_steps=levers.bf16,
        )
        trainer.remove_callback(PrinterCallback)
        try:
            trainer.train()
        except (MemoryError, RuntimeError) as error:
            if _is_out_of_memory(error):
                raise TrainingFailed(
                    "memory does not suffice", mend="Choose a smaller batch_size, max_tokens or backbone."
                ) from error
            raise
    return tuple(watch.history)


def _arguments(setting: Setting, steps: int, scratch: str) -> TrainingArguments:
    return TrainingArguments(
        output_dir=scratch,
        learning_rate=setting.learning_rate,
        per_device_train_batch_size=setting.batch_size,
        per_device_eval_batch_size=_VALIDATION_BATCH,
        num_train_epochs=setting.epochs,
        seed=setting.seed,
        optim="adamw_torch_fused",
        weight_decay=WEIGHT_DECAY,
        max_grad_norm=GRADIENT_NORM,
        lr_scheduler_type="linear",
        warmup_steps=math.ceil(WARM_UP * steps),
        eval_strategy="epoch",
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
    )


class _LikeLengthTrainer(Trainer):  # type: ignore[misc]  # transformers is untyped here
    """Trainer with batches of like length, and bfloat16 in training steps only."""

    def __init__(self, *, bf16_steps: bool, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._bf16_steps = bf16_steps

    def get_train_dataloader(self) -> Any:
        lengths = [len(row) for row in self.train_dataset]
        batches = LikeLengths(lengths, self.args.per_device_train_batch_size, self.args.seed)
        return self.accelerator.prepare(
            DataLoader(self.train_dataset, batch_sampler=batches, collate_fn=self.data_collator)
        )

    def compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, **_: Any) -> Any:
        targets = inputs.pop("labels")
        with torch.autocast(targets.device.type, torch.bfloat16, enabled=self._bf16_steps and model.training):
            logits = model(**inputs).logits
        loss = cross_entropy(logits.float(), targets)
        if not torch.isfinite(loss):
            raise TrainingFailed(
                f"the loss is no longer a number in epoch {math.floor(self.state.epoch or 0) + 1}",
                mend=f"Choose a learning_rate below {self.args.learning_rate:g}.",
            )
        return (loss, {"logits": logits}) if return_outputs else loss


class _Watch(TrainerCallback):  # type: ignore[misc]  # transformers is untyped here
    """Takes down every epoch and tells of it."""

    def __init__(self, on_step: Callable[[], None], on_epoch: Callable[[Epoch, Any], None]) -> None:
        self.history: list[Epoch] = []
        self._on_step, self._on_epoch = on_step, on_epoch
        self._start = time.perf_counter()

    def on_epoch_begin(self, *_: Any, **__: Any) -> None:
        self._start = time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self._on_step()

    def on_evaluate(self, *_: Any, **given: Any) -> None:
        figures = given["metrics"]
        epoch = Epoch(
            epoch=len(self.history) + 1,
            loss=float(figures["eval_loss"]),
            accuracy=figures["eval_accuracy"],
            macro_f1=figures["eval_macro_f1"],
            seconds=time.perf_counter() - self._start,
        )
        self.history.append(epoch)
        self._on_epoch(epoch, given["model"])


def _figures(prediction: EvalPrediction) -> dict[str, float]:
    logits, targets = np.asarray(prediction.predictions), np.asarray(prediction.label_ids)
    confusion = confusion_of(targets, logits.argmax(axis=1), logits.shape[1])[None]
    return {"accuracy": float(accuracies(confusion)[0]), "macro_f1": float(macro_f1s(confusion)[0])}


def _is_out_of_memory(error: Exception) -> bool:
    # torch's CPU allocator has no exception of its own: it says this in a RuntimeError.
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)
