"""The frozen encoder as a student of its own: an ordinary classifier whose head says what the fitted one says.

A classifier of transformers has a layer with a bent function between backbone and labels. It is set so that it leaves
the first token's state as it is: scaled down to where the hyperbolic tangent is straight, or lifted above the bend of
a rectifier.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgedistill.errors import TrainingFailed
from edgedistill.project.sections import StudentSection
from edgedistill.records.types import MixtureRow, ValidationRows
from edgedistill.student.checkpoint import beside, replacing
from edgedistill.student.frozen import FrozenHead, fit_frozen
from edgedistill.student.keeping import copy_files
from edgedistill.student.model import load_model, load_padding
from edgedistill.student.pooled import pooled
from edgedistill.student.quiet import transformers_quiet
from edgedistill_export.checkpoint import Checkpoint
from edgedistill_serve.task import Task

_SCALE = 1e-4
"""A state of 30, as large as they come, is bent by a 300,000th of itself."""
_LIFT = 4.0
"""Times the largest value of a state among the rows it was fitted on."""
_TOLERANCE = 1e-2


def train_frozen_student(
    mixture: Sequence[MixtureRow],
    validation: ValidationRows,
    task: Task,
    section: StudentSection,
    backbone: Path,
    folder: Path,
) -> tuple[FrozenHead, ...]:
    """Fit classifiers on the first token's states, and write the best as a checkpoint that exports like any other.

    Args:
        mixture: Rows to learn from.
        validation: Human-coded rows to choose the penalty by.
        task: Its labels, in their order, are the classes.
        section: The longest row in tokens.
        backbone: A folder as `backbone_folder` returns it.
        folder: Becomes the Hugging Face checkpoint; what is there stays whole until it is replaced at the end.

    Returns:
        Every classifier that was tried, the best first.

    Raises:
        TrainingFailed: Rows that cannot train or judge, or a backbone whose head cannot be set so.
        SearchBrokenOff: The folder cannot be written.
    """
    heads = fit_frozen(mixture, validation, task, section.max_tokens, backbone, poolings=("first",))
    rows = [row.response.inputs for row in validation]
    with transformers_quiet(), beside(folder) as aside:
        model = load_model(backbone, task)
        load_padding(backbone, model, aside)
        states = pooled(backbone, task, section.max_tokens, rows)["first"]
        _set_head(model, heads[0], float(np.abs(states).max()))
        model.save_pretrained(aside, max_shard_size="100GB")
        written = Checkpoint.load(aside, task, section.max_tokens).logits(rows)
        wanted = states @ heads[0].weights.T + heads[0].bias
        if np.abs(written - wanted).max() > _TOLERANCE:
            raise _no_such_head(model)
        with replacing(folder) as new:
            copy_files(aside, new)
    return heads


def _set_head(model: Any, head: FrozenHead, largest: float) -> None:
    """Set what stands between the first token's state and the logits."""
    kind = model.config.model_type
    with torch.no_grad():
        if kind == "bert":
            _fill(model.base_model.pooler.dense, model.classifier, head, scale=_SCALE, lift=0.0)
        elif kind in ("roberta", "xlm-roberta", "camembert"):
            _fill(model.classifier.dense, model.classifier.out_proj, head, scale=_SCALE, lift=0.0)
        elif kind == "distilbert":
            _fill(model.pre_classifier, model.classifier, head, scale=1.0, lift=_LIFT * largest)
        else:
            raise _no_such_head(model)


def _fill(before: Any, last: Any, head: FrozenHead, *, scale: float, lift: float) -> None:
    weights, bias = torch.from_numpy(head.weights), torch.from_numpy(head.bias)
    before.weight.copy_(scale * torch.eye(len(before.weight)))
    before.bias.fill_(lift)
    last.weight.copy_(weights / scale)
    last.bias.copy_(bias - lift * weights.sum(dim=1))


def _no_such_head(model: Any) -> TrainingFailed:
    return TrainingFailed(
        f"a {model.config.model_type} backbone cannot be a frozen student",
        where="student.kind",
        mend="Choose BERT, RoBERTa or DistilBERT, or let the student be fine-tuned.",
    )
