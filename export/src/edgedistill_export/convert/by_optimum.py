"""Convert PyTorch to ONNX with optimum's exporter configurations; the only module that imports optimum."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from optimum.exporters.onnx import export
from optimum.exporters.onnx.config import TextEncoderOnnxConfig
from optimum.exporters.tasks import TasksManager
from optimum.utils import NormalizedTextConfig

from edgedistill_export.text_vectors import VECTOR

_AXES = {0: "batch_size", 1: "sequence_length"}


def description(model: Any) -> Callable[[Any], Any] | None:
    """Return optimum's exporter configuration for a classifier; None if optimum does not support its model type."""
    if model.config.model_type == "xlnet":
        return lambda config: _XLNet(config, task="text-classification")
    try:
        found: Callable[[Any], Any] = TasksManager.get_exporter_config_constructor(
            "onnx", model=model, task="text-classification", library_name="transformers"
        )
    except (KeyError, ValueError):  # optimum does not support the model type, or not for this task
        return None
    return found


def write(model: Any, describe: Callable[[Any], Any], file: Path) -> None:
    """Write a graph.

    Args:
        model: The classifier to trace.
        describe: Its `description`.
        file: The ``.onnx`` file to write.

    Raises:
        Exception: The conversion failed; optimum raises many types.
    """
    description = describe(model.config)
    description.__class__ = _with_vector(type(description))
    export(model, description, file)


def _with_vector(kind: type) -> type:
    """Return a kind of description with one more output, so that optimum does not drop it."""

    def outputs(self: Any) -> dict[str, dict[int, str]]:
        return {**super(described, self).outputs, VECTOR: {0: "batch_size"}}

    described: Any = type(kind.__name__, (kind,), {"outputs": property(outputs)})
    return described  # type: ignore[no-any-return]  # a type, which `super` must be free to take


class _XLNet(TextEncoderOnnxConfig):  # type: ignore[misc]  # optimum is untyped here
    """The configuration of XLNet, which optimum lacks; torch's exporter is ten times slower for it."""

    NORMALIZED_CONFIG_CLASS = NormalizedTextConfig.with_args(
        hidden_size="d_model", num_layers="n_layer", num_attention_heads="n_head"
    )

    @property
    def inputs(self) -> dict[str, dict[int, str]]:
        """The inputs with their dynamic axes; segment ids if the model has several segments."""
        names = ["input_ids", "attention_mask"]
        if getattr(self._config, "type_vocab_size", 0) > 1:
            names.append("token_type_ids")
        return dict.fromkeys(names, _AXES)
