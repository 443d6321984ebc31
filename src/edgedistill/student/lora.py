"""Adapters beside a decoder's weights, and the decoder with its adapters added in."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from edgedistill.errors import ProjectFileError
from edgedistill.project.lora_section import LoraSection

_WHERE = "student.peft"


def is_decoder(model: Any) -> bool:
    """Whether a classifier reads a text from left to right and judges by its last token, as Mistral and its kin do."""
    return isinstance(getattr(model, "score", None), torch.nn.Linear)


def add_adapters(model: Any, section: LoraSection) -> Any:
    """Freeze the model, put fresh adapters beside its linear layers, and leave them and the head to training.

    The adapters' first weights are drawn from torch's generator; they add nothing before the first step.

    Returns:
        The same model.

    Raises:
        ProjectFileError: The model is no decoder, a target is none of its layers, or peft is not installed.
    """
    if not is_decoder(model):
        raise ProjectFileError(
            f"lora is for decoders such as Mistral, and the backbone is {model.config.model_type}",
            where=_WHERE,
            mend="Leave peft out, for an encoder is small enough to be trained whole, or name a decoder.",
        )
    if find_spec("peft") is None:
        raise ProjectFileError(
            "lora needs the package peft", where=_WHERE, mend='Install it: pip install "edgedistill[lora]".'
        )
    from peft import LoraConfig, TaskType, inject_adapter_in_model

    targets = "all-linear" if section.targets == ("all-linear",) else list(section.targets)
    config = LoraConfig(
        task_type=TaskType.SEQ_CLS, r=section.rank, lora_alpha=section.alpha, target_modules=targets, lora_dropout=0.0
    )
    try:
        adapted = inject_adapter_in_model(config, model)
    except ValueError as error:  # peft's word for targets that the model has none of
        raise ProjectFileError(
            f"the backbone has no layer named {' or '.join(section.targets)} that can have an adapter",
            where="student.lora.targets",
            mend="Name its linear layers, such as q_proj, or leave targets out for all of them.",
        ) from error
    adapted.score.requires_grad_(True)
    return adapted


class Merged:
    """A decoder as it is written: an ordinary model, its adapters added to its weights.

    Args:
        model: A model with adapters; it is left as it is.
    """

    def __init__(self, model: Any) -> None:
        self._model = model

    def save_pretrained(self, folder: Path, **options: Any) -> None:
        """Write the checkpoint, as a model of transformers does."""
        self._model.save_pretrained(folder, state_dict=_merged_weights(self._model), **options)


def as_written(model: Any) -> Any:
    """Return what writes a model's checkpoint: the model, or with adapters `Merged`."""
    return Merged(model) if any(_has_adapters(part) for part in model.modules()) else model


def _has_adapters(part: Any) -> bool:
    return hasattr(part, "base_layer") and hasattr(part, "get_delta_weight")


def _merged_weights(model: Any) -> dict[str, torch.Tensor]:
    """With adapters, ``weight + alpha / rank * B A`` (Hu et al. 2021, section 4.1); the others as they are."""
    adapted = {name: part for name, part in model.named_modules() if _has_adapters(part)}
    weights = {
        name.replace(".base_layer.", "."): tensor
        for name, tensor in model.state_dict().items()
        if not any(name.startswith(f"{layer}.") for layer in adapted) or ".base_layer." in name
    }
    with torch.no_grad():
        for name, part in adapted.items():
            delta = sum(part.get_delta_weight(adapter) for adapter in part.active_adapters)
            weights[f"{name}.weight"] = part.base_layer.weight + delta
    return weights
