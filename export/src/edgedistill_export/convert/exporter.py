"""From PyTorch to ONNX; the only module that knows optimum."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from optimum.exporters.onnx import export
from optimum.exporters.onnx.config import TextEncoderOnnxConfig
from optimum.exporters.tasks import TasksManager
from optimum.utils import NormalizedTextConfig

from edgedistill_export.checkpoint import Checkpoint
from edgedistill_export.errors import ExportFailed
from edgedistill_export.quiet import quiet

_HINT = "Choose a backbone such as BERT, DistilBERT, RoBERTa, ModernBERT, DeBERTa, ELECTRA or XLNet."
_AXES = {0: "batch_size", 1: "sequence_length"}


def to_onnx(checkpoint: Checkpoint, file: Path) -> None:
    """Write the student as an fp32 ONNX graph, batch and sequence length free.

    The graph is plain: no operators are fused, so that it can be quantized and so that every runtime knows it. It reads
    rows padded on either side, with any token, alike: what is padding is what ``attention_mask`` says.

    Args:
        checkpoint: The student.
        file: The ``.onnx`` file to write, weights inside.

    Raises:
        ExportFailed: optimum does not know this kind of model, the conversion failed, or the weights do not fit into
            one file (2 GB).
    """
    kind, where = checkpoint.model.config.model_type, str(checkpoint.folder)
    try:
        describe = _describer(checkpoint.model)
    except (KeyError, ValueError) as error:  # the kind of model, or this task of it, is in none of optimum's lists
        raise ExportFailed(f"optimum exports no classifier of the kind {kind!r}", where=where, hint=_HINT) from error
    try:
        with quiet():
            export(_told_padding_by_mask(checkpoint.model), describe(checkpoint.model.config), file)
    except Exception as error:  # optimum and torch raise many kinds; each means no graph
        reason = " ".join(str(error).split())[:300]
        raise ExportFailed(f"the {kind} model cannot be exported ({reason})", where=where, hint=_HINT) from error
    if file.with_name(file.name + "_data").exists():
        raise ExportFailed(
            "the weights do not fit into one ONNX file (2 GB)", where=where, hint="Choose a smaller backbone."
        )


class _XLNet(TextEncoderOnnxConfig):  # type: ignore[misc]  # optimum is untyped here
    """What optimum must know of XLNet, which it has no description of."""

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


class _ByLastPlace(torch.nn.Module):  # type: ignore[misc]  # torch is untyped here
    """XLNet, which judges by the last place of a row, judging by the last place that is no padding."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model, self.config = model, model.config

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor | None = None
    ) -> dict[str, torch.Tensor]:
        states = self.model.transformer(
            input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids, use_mems=False
        )[0]
        places = torch.arange(input_ids.shape[1], device=input_ids.device)
        last = (places * attention_mask).amax(dim=1)
        # The summary takes the last place of what it is given.
        read = states[torch.arange(input_ids.shape[0], device=input_ids.device), last].unsqueeze(1)
        return {"logits": self.model.logits_proj(self.model.sequence_summary(read))}


class _ByLastToken(torch.nn.Module):  # type: ignore[misc]  # torch is untyped here
    """A decoder, which judges by the last token that is not the padding token, told by the mask what is padding."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model, self.config = model, model.config

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> dict[str, torch.Tensor]:
        ids = torch.where(attention_mask == 1, input_ids, self.config.pad_token_id)
        return {"logits": self.model(input_ids=ids, attention_mask=attention_mask, use_cache=False).logits}


def _describer(model: Any) -> Callable[[Any], Any]:
    """What describes a model to optimum, from its config.

    Raises:
        KeyError: optimum does not know this kind of model.
        ValueError: It knows no classifier of this kind.
    """
    if model.config.model_type == "xlnet":
        return lambda config: _XLNet(config, task="text-classification")
    describe: Callable[[Any], Any] = TasksManager.get_exporter_config_constructor(
        "onnx", model=model, task="text-classification", library_name="transformers"
    )
    return describe


def _told_padding_by_mask(model: Any) -> Any:
    """The model as it is traced; encoders that judge by their first token know padding by the mask anyway."""
    if getattr(getattr(model, "sequence_summary", None), "summary_type", None) == "last":
        return _ByLastPlace(model)
    if isinstance(getattr(model, "score", None), torch.nn.Linear):
        return _ByLastToken(model)
    return model
