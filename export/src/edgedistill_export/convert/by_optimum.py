"""From PyTorch to ONNX by optimum, which has a description of each kind of model; the only module that knows it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from optimum.exporters.onnx import export
from optimum.exporters.onnx.config import TextEncoderOnnxConfig
from optimum.exporters.tasks import TasksManager
from optimum.utils import NormalizedTextConfig

_AXES = {0: "batch_size", 1: "sequence_length"}


def description(model: Any) -> Callable[[Any], Any] | None:
    """Return what describes a classifier to optimum, from its config; None where optimum does not know its kind."""
    if model.config.model_type == "xlnet":
        return lambda config: _XLNet(config, task="text-classification")
    try:
        found: Callable[[Any], Any] = TasksManager.get_exporter_config_constructor(
            "onnx", model=model, task="text-classification", library_name="transformers"
        )
    except (KeyError, ValueError):  # the kind of model, or this task of it, is in none of optimum's lists
        return None
    return found


def write(model: Any, describe: Callable[[Any], Any], file: Path) -> None:
    """Write a graph.

    Args:
        model: A classifier as it is to be traced.
        describe: Its `description`.
        file: The ``.onnx`` file to write.

    Raises:
        Exception: Of many kinds, where the conversion fails.
    """
    export(model, describe(model.config), file)


class _XLNet(TextEncoderOnnxConfig):  # type: ignore[misc]  # optimum is untyped here
    """What optimum must know of XLNet, which it has no description of; torch alone takes ten times as long for it."""

    NORMALIZED_CONFIG_CLASS = NormalizedTextConfig.with_args(
        hidden_size="d_model", num_layers="n_layer", num_attention_heads="n_head"
    )

    @property
    def inputs(self) -> dict[str, dict[int, str]]:
        """The inputs with their free axes; segments where the student was trained with them."""
        names = ["input_ids", "attention_mask"]
        if getattr(self._config, "type_vocab_size", 0) > 1:
            names.append("token_type_ids")
        return dict.fromkeys(names, _AXES)
