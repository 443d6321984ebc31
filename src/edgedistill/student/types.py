"""What training says about itself.

Levers              what makes training faster and may change its outcome a little
Epoch               the student after one pass over the mixture, judged on validation rows
Trial               one fine-tuning run: its settings, its epochs, the best of them
TrainedStudent      the outcome: the checkpoint's folder and every trial
TrainingProgress    how far training is
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, slots=True)
class SpeedSettings:
    """What makes training faster; docs/decisions/0003-training-levers.md says what each costs.

    Attributes:
        bf16: Whether the forward pass of a training step runs in bfloat16. Weights, gradients' accumulation, optimizer
            and validation stay in fp32.
        frozen_embeddings: Whether the word-embedding table keeps the backbone's values.
    """

    bf16: bool
    frozen_embeddings: bool


@dataclass(frozen=True, slots=True)
class Epoch:
    """The student after one pass over the mixture.

    Attributes:
        epoch: From 1.
        loss: Mean cross-entropy of the validation rows, in nats.
        accuracy: On validation rows, in [0, 1].
        macro_f1: On validation rows, in [0, 1], defined as in `edgedistill.agreement`.
        seconds: Wall time of the pass and its validation.
    """

    epoch: int
    loss: float
    accuracy: float
    macro_f1: float
    seconds: float

    @property
    def selection_key(self) -> tuple[float, float]:
        """What is compared: a higher macro-F1 is better, then a lower loss; of equals the earlier is kept."""
        return self.macro_f1, -self.loss


@dataclass(frozen=True, slots=True)
class Trial:
    """One fine-tuning run.

    Attributes:
        learning_rate: Peak learning rate.
        batch_size: Rows in a batch.
        epochs: Passes over the mixture that the learning-rate schedule was laid out for; fewer were made where it
            `stopped_early`.
        seed: Of the classifier's first weights, the order of rows, and dropout.
        history: One entry per epoch that was made.
        seconds: Wall time, loading of the backbone included; of a trial that went on after a kill, since then.
        outcome: ``pruned`` where it fell behind the others and was ended early.
        failure: Why it failed, in words, and empty where it did not.
        hint: What may help where it failed.
    """

    learning_rate: float
    batch_size: int
    epochs: int
    seed: int
    history: tuple[Epoch, ...]
    seconds: float
    outcome: Literal["done", "pruned", "failed"] = "done"
    failure: str = ""
    hint: str | None = None

    @property
    def best(self) -> Epoch:
        """The epoch with the highest validation macro-F1; of equals the one with the lower loss, then the earlier."""
        return max(self.history, key=lambda epoch: epoch.selection_key)

    @property
    def stopped_early(self) -> bool:
        """Whether fewer passes were made than the schedule was laid out for."""
        return len(self.history) < self.epochs

    @property
    def best_epoch(self) -> int:
        """Number of the best epoch, from 1."""
        return self.best.epoch

    @property
    def validation_macro_f1(self) -> float:
        """Macro-F1 of the best epoch on the validation rows; it chose, so it flatters."""
        return self.best.macro_f1


@dataclass(frozen=True, slots=True)
class TrainedStudent:
    """What training made.

    Attributes:
        folder: The Hugging Face checkpoint of the best epoch of the best trial.
        trials: Every trial, setting by setting and seed by seed.
        best: The trial that the checkpoint is from.
        speed: What training used on this machine.
        notes: What a reader should know of the rows, in plain sentences; never a response's text.
    """

    folder: Path
    trials: tuple[Trial, ...]
    best: Trial
    speed: SpeedSettings
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TrainingProgress:
    """How far training is.

    Attributes:
        done: Optimizer steps made, over all trials.
        total: Optimizer steps of all trials.
        trial: The running trial, from 1.
        trials: How many there are.
        epoch: The last finished epoch of the running trial; None before its first.
    """

    done: int
    total: int
    trial: int
    trials: int
    epoch: Epoch | None = None

    @property
    def what(self) -> str:
        """In words: ``trial 2 of 6, macro-F1 0.712 after epoch 3``."""
        trial = f"trial {self.trial} of {self.trials}"
        return f"{trial}, macro-F1 {self.epoch.macro_f1:.3f} after epoch {self.epoch.epoch}" if self.epoch else trial
