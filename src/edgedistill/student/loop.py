"""The passes over the mixture: transformers' Trainer with batches of like length, and what watches it."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader
from transformers import EvalPrediction, PrinterCallback, Trainer, TrainerCallback

from edgedistill.agreement.bootstrap import accuracies, confusion_of, macro_f1s
from edgedistill.errors import TrainingFailed
from edgedistill.student.batches import LikeLengths
from edgedistill.student.lora import as_written
from edgedistill.student.objectives import Objective
from edgedistill.student.resuming import Unfinished
from edgedistill.student.thresholds import exact_match_and_macro_f1
from edgedistill.student.types import Epoch


class Watch(TrainerCallback):  # type: ignore[misc]  # transformers is untyped here
    """Takes down every epoch, tells of it, keeps its state, and ends a training that gets no better.

    Args:
        on_step: Called after every optimizer step.
        on_epoch: Called after every epoch.
        patience: Epochs in a row that may be no better than the best before; None for any number.
        unfinished: Where the state after each epoch is kept.
    """

    def __init__(
        self,
        on_step: Callable[[], None],
        on_epoch: Callable[[Epoch, Any], None],
        patience: int | None,
        unfinished: Unfinished | None,
    ) -> None:
        self.history: list[Epoch] = []
        self._on_step, self._on_epoch, self._patience, self._unfinished = on_step, on_epoch, patience, unfinished
        self._start = time.perf_counter()
        self._goes_on = False

    @property
    def out_of_patience(self) -> bool:
        """Whether the last epochs were no better than the best before them."""
        if self._patience is None or not self.history:
            return False
        best = max(self.history, key=lambda epoch: epoch.merit)
        return len(self.history) - best.epoch >= self._patience

    def tell_again(self, history: Sequence[Epoch], model: Any, steps: int) -> None:
        """Take down the epochs of a training that was broken off, each of so many steps.

        Args:
            history: The epochs.
            model: The model of the best of them: whatever is kept of the others gives way to it.
            steps: Optimizer steps of an epoch.
        """
        for epoch in history:
            for _ in range(steps):
                self._on_step()
            self.history.append(epoch)
            self._on_epoch(epoch, as_written(model))
        self._goes_on = True

    def on_epoch_begin(self, *_: Any, **__: Any) -> None:
        """Start the clock; where a training goes on, let chance go on too."""
        self._start = time.perf_counter()
        if self._goes_on and self._unfinished:
            self._unfinished.load_chance()
            self._goes_on = False

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Tell of a step."""
        self._on_step()

    def on_evaluate(self, _: Any, __: Any, control: Any, **given: Any) -> None:
        """Take down an epoch, which has just been judged."""
        figures, model = given["metrics"], given["model"]
        epoch = Epoch(
            epoch=len(self.history) + 1,
            loss=float(figures["eval_loss"]),
            accuracy=figures["eval_accuracy"],
            macro_f1=figures["eval_macro_f1"],
            seconds=time.perf_counter() - self._start,
        )
        self.history.append(epoch)
        self._on_epoch(epoch, as_written(model))
        if self._unfinished:
            self._unfinished.save(self.history, model, given["optimizer"], given["lr_scheduler"])
        control.should_training_stop = control.should_training_stop or self.out_of_patience


class Loop(Trainer):  # type: ignore[misc]  # transformers is untyped here
    """Trainer with batches of like length, an objective of ours, and bfloat16 in training steps only.

    Args:
        objective: What is made small.
        bf16_steps: Whether the forward pass of a training step runs in bfloat16.
        watch: Takes down every epoch.
        first: Epochs that were made before; the order of rows goes on after them.
        given: What `Trainer` is given.
    """

    def __init__(self, *, objective: Objective, bf16_steps: bool, watch: Watch, first: int, **given: Any) -> None:
        super().__init__(compute_metrics=_figures, callbacks=[watch], **given)
        self.remove_callback(PrinterCallback)
        self._objective, self._bf16_steps, self._watch, self._first = objective, bf16_steps, watch, first

    def get_train_dataloader(self) -> Any:
        """Return batches of like length."""
        lengths = [len(row) for row in self.train_dataset]
        batches = LikeLengths(lengths, self.args.per_device_train_batch_size, self.args.seed, self._first)
        return self.accelerator.prepare(
            DataLoader(self.train_dataset, batch_sampler=batches, collate_fn=self.data_collator)
        )

    def compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, **_: Any) -> Any:
        """Return the loss of a batch: the objective where the model learns, cross-entropy where it is judged.

        Raises:
            TrainingFailed: It is no number.
        """
        targets, shares = inputs.pop("labels"), inputs.pop("shares", None)
        with torch.autocast(targets.device.type, torch.bfloat16, enabled=self._bf16_steps and model.training):
            logits = model(**inputs).logits
        if model.training:
            loss = self._objective.loss(logits.float(), targets, shares)
        else:
            loss = self._objective.judged(logits.float(), targets)
        if not torch.isfinite(loss):
            raise TrainingFailed(
                f"the loss is no longer a number in epoch {len(self._watch.history) + 1}",
                mend=f"Choose a learning_rate below {self.args.learning_rate:g}.",
            )
        return (loss, {"logits": logits}) if return_outputs else loss


def _figures(prediction: EvalPrediction) -> dict[str, float]:
    logits, targets = np.asarray(prediction.predictions), np.asarray(prediction.label_ids)
    if targets.ndim == 2:
        accuracy, macro_f1 = exact_match_and_macro_f1(logits, targets == 1)
        return {"accuracy": accuracy, "macro_f1": macro_f1}
    confusion = confusion_of(targets, logits.argmax(axis=1), logits.shape[1])[None]
    return {"accuracy": float(accuracies(confusion)[0]), "macro_f1": float(macro_f1s(confusion)[0])}
