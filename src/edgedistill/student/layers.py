"""A model with fewer layers: which are kept, and the rest left out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import ModuleList

from edgedistill.errors import TrainingFailed
from edgedistill.student.model import load_model
from edgedistill_serve.task import Task


def evenly_spaced(layers: int, kept: int) -> tuple[int, ...]:
    """Choose layers from the first to the last at even distances, as DistilBERT was begun (Sanh et al. 2019).

    Args:
        layers: How many there are.
        kept: How many to choose, from 1 to ``layers``; one alone is the first.

    Returns:
        Their places, from 0, the lowest first.
    """
    return tuple(int(place) for place in np.linspace(0, layers - 1, kept).round())


def write_with_layers(checkpoint: Path, task: Task, kept: Sequence[int] | None, count: int, folder: Path) -> list[int]:
    """Write a student with some of another's layers; embeddings and classifier are the other's too.

    Args:
        checkpoint: The other student's folder.
        task: Its labels are the classes.
        kept: Places of the layers, from 0, the lowest first; None: ``count`` evenly spaced ones.
        count: How many layers are kept.
        folder: Where config and weights are written.

    Returns:
        The places of the layers that were kept.

    Raises:
        TrainingFailed: There are no such layers, or the model is not what is left when layers are left out.
    """
    model = load_model(checkpoint, task)
    parent, name, stack = _stack(model)
    if not count < len(stack):
        raise TrainingFailed(
            f"the student has {len(stack)} layers, and {count} of them make it no smaller",
            where="student.shrink.layers",
            mend=f"Choose 1 to {len(stack) - 1}." if len(stack) > 1 else "Leave shrink out.",
        )
    places = list(kept if kept is not None else evenly_spaced(len(stack), count))
    if beyond := [place for place in places if place >= len(stack)]:
        raise TrainingFailed(
            f"there is no layer {beyond[0]}", where="student.shrink.kept", mend=f"They are 0 to {len(stack) - 1}."
        )
    setattr(parent, name, ModuleList(stack[place] for place in places))
    model.config.num_hidden_layers = len(places)
    model.save_pretrained(folder, max_shard_size="100GB")
    _expect_same(model, load_model(folder, task))
    return places


def _stack(model: Any) -> tuple[Any, str, Any]:
    """The layers, and where the model holds them."""
    stacks = [
        (parent, name, part)
        for parent in model.modules()
        for name, part in parent.named_children()
        if isinstance(part, ModuleList) and len(part) == model.config.num_hidden_layers
    ]
    if len(stacks) != 1:
        raise _not_shrunk(model)
    return stacks[0]


def _expect_same(model: Any, written: Any) -> None:
    """Some models compute a layer by its place, so that without the layers below it is another."""
    # RoBERTa gives padding no position of its own, so the row must be of another token.
    token = 1 if getattr(model.config, "pad_token_id", None) == 0 else 0
    ids = torch.full((1, 8), token)
    with torch.inference_mode():
        logits = [one.eval()(input_ids=ids, attention_mask=torch.ones_like(ids)).logits for one in (model, written)]
    if not torch.allclose(*logits, atol=1e-4):
        raise _not_shrunk(model)


def _not_shrunk(model: Any) -> TrainingFailed:
    return TrainingFailed(
        f"a {model.config.model_type} student cannot be shrunk by leaving layers out",
        where="student.shrink",
        mend="Leave shrink out, or choose a backbone such as BERT, RoBERTa or DistilBERT.",
    )
