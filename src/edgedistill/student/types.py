"""Settings and results of training.

SpeedSettings       what makes training faster and may change its result slightly
Epoch               validation metrics after one pass over the training set
Trial               one fine-tuning run: its settings, its epochs, the best of them
TrainedStudent      the result: the checkpoint's folder and every trial
TrainingProgress    the progress of training
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

Architecture: TypeAlias = Literal["cross-encoder", "bi-encoder"]
"""How a student reads context and response: as one text, or apart."""


def comparable(figure: float) -> float:
    """Return a figure of which more is better, NaN as the least of all: no comparison orders NaN."""
    return -math.inf if math.isnan(figure) else figure


@dataclass(frozen=True, slots=True)
class SpeedSettings:
    """Settings that make training faster; docs/decisions/0003-training-levers.md has the cost of each.

    Attributes:
        bf16: Whether the forward pass of a training step runs in bfloat16. Weights, gradients' accumulation, optimizer
            and validation stay in fp32.
        frozen_embeddings: Whether the word embeddings are not trained.
    """

    bf16: bool
    frozen_embeddings: bool


@dataclass(frozen=True, slots=True)
class Epoch:
    """Validation metrics after one pass over the training set.

    Attributes:
        epoch: Its number, from 1.
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
        """Sort key: higher macro-F1 first, then lower loss. Ties keep the earlier epoch."""
        return comparable(self.macro_f1), comparable(-self.loss)


@dataclass(frozen=True, slots=True)
class Trial:
    """One fine-tuning run.

    Attributes:
        learning_rate: Peak learning rate.
        batch_size: Rows in a batch.
        epochs: Epochs of the learning-rate schedule; fewer were trained where `stopped_early`.
        seed: For the head's initial weights, the order of rows, and dropout.
        history: One entry per trained epoch.
        seconds: Wall time including loading the backbone; for a resumed trial, since it was resumed.
        outcome: ``pruned`` where the search stopped it early.
        failure: Why it failed; empty where it did not.
        hint: How to fix the failure.
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
        """The epoch with the highest validation macro-F1; ties: lower loss, then the earlier."""
        return max(self.history, key=lambda epoch: epoch.selection_key)

    @property
    def stopped_early(self) -> bool:
        """Whether fewer epochs were trained than planned."""
        return len(self.history) < self.epochs

    @property
    def best_epoch(self) -> int:
        """Number of the best epoch, from 1."""
        return self.best.epoch

    @property
    def validation_macro_f1(self) -> float:
        """Macro-F1 of the best epoch on the validation rows; optimistic, because it selected the epoch."""
        return self.best.macro_f1


@dataclass(frozen=True, slots=True)
class TrainedStudent:
    """The result of training.

    Attributes:
        folder: The Hugging Face checkpoint of the best epoch of the best trial.
        trials: Every trial, setting by setting and seed by seed.
        best: The trial that the checkpoint is from.
        speed: The speed settings used.
        architecture: How the student reads context and response: ``bi-encoder`` or ``cross-encoder``.
        notes: Messages about the rows; never a response's text.
    """

    folder: Path
    trials: tuple[Trial, ...]
    best: Trial
    speed: SpeedSettings
    architecture: Architecture
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TrainingProgress:
    """The progress of training.

    Attributes:
        done: Finished optimizer steps of all trials.
        total: Optimizer steps of all trials.
        trial: The running trial, from 1.
        trials: Number of trials.
        epoch: The running trial's last finished epoch, or None.
    """

    done: int
    total: int
    trial: int
    trials: int
    epoch: Epoch | None = None

    @property
    def what(self) -> str:
        """A description: ``trial 2 of 6, macro-F1 0.712 after epoch 3``."""
        trial = f"trial {self.trial} of {self.trials}"
        return f"{trial}, macro-F1 {self.epoch.macro_f1:.3f} after epoch {self.epoch.epoch}" if self.epoch else trial
