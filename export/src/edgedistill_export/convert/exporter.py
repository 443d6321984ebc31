"""From PyTorch to ONNX: by optimum where it is installed and knows the kind of model, else by torch."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from edgedistill_export.checkpoint import Checkpoint
from edgedistill_export.convert import by_torch
from edgedistill_export.convert.nano_graph import write_graph
from edgedistill_export.errors import ExportFailed
from edgedistill_export.nano import is_nano
from edgedistill_export.quiet import quiet
from edgedistill_export.text_vectors import WithVector

try:
    from edgedistill_export.convert import by_optimum
except ImportError:  # optimum-onnx is an extra: no version of it works with transformers 5
    by_optimum = None  # type: ignore[assignment]

_HINT = "Choose a backbone such as BERT, DistilBERT, RoBERTa, ModernBERT, DeBERTa, ELECTRA or XLNet."


def to_onnx(checkpoint: Checkpoint, file: Path) -> None:
    """Write the student as an fp32 ONNX graph, batch and sequence length free.

    The graph is plain: no operators are fused, so that it can be quantized and so that every runtime knows it. It reads
    rows padded on either side, with any token, alike: what is padding is what ``attention_mask`` says.

    Args:
        checkpoint: The student.
        file: The ``.onnx`` file to write, weights inside.

    Raises:
        ExportFailed: The conversion failed, or the weights do not fit into one file (2 GB).
    """
    if is_nano(checkpoint.model):
        write_graph(checkpoint.model, file)
        return
    described = by_optimum.description(checkpoint.model) if by_optimum else None
    if described is None:
        by_torch_alone(checkpoint, file)
    else:
        _write(checkpoint, file, lambda model: by_optimum.write(model, described, file))


def by_torch_alone(checkpoint: Checkpoint, file: Path) -> None:
    """Do what `to_onnx` does without optimum."""
    names = ["input_ids", "attention_mask"] + (["token_type_ids"] if checkpoint.reads_segments else [])
    _write(checkpoint, file, lambda model: by_torch.write(model, names, file))


def _write(checkpoint: Checkpoint, file: Path, write: Callable[[Any], None]) -> None:
    kind, where = checkpoint.model.config.model_type, str(checkpoint.folder)
    try:
        with quiet():
            write(WithVector(_told_padding_by_mask(checkpoint.model), of_response=checkpoint.marks_response))
    except Exception as error:  # optimum and torch raise many kinds; each means no graph
        reason = " ".join(str(error).split())[:300]
        raise ExportFailed(f"the {kind} model cannot be exported ({reason})", where=where, hint=_HINT) from error
    if file.with_name(file.name + "_data").exists():
        raise ExportFailed(
            "the weights do not fit into one ONNX file (2 GB)", where=where, hint="Choose a smaller backbone."
        )


class _ByLastPlace(torch.nn.Module):  # type: ignore[misc]  # torch is untyped here
    """XLNet, which judges by the last place of a row, judging by the last place that is no padding."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model, self.config = model, model.config

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        token_type_ids: torch.Tensor | None = None,
        output_hidden_states: bool = True,
    ) -> dict[str, Any]:
        found = self.model.transformer(
            input_ids,
            attention_mask=attention_mask.float(),
            token_type_ids=token_type_ids,
            use_mems=False,
            output_hidden_states=output_hidden_states,
        )
        states = found[0]
        places = torch.arange(input_ids.shape[1], device=input_ids.device)
        last = (places * attention_mask).amax(dim=1)
        # The summary takes the last place of what it is given.
        read = states[torch.arange(input_ids.shape[0], device=input_ids.device), last].unsqueeze(1)
        logits = self.model.logits_proj(self.model.sequence_summary(read))
        return {"logits": logits, "hidden_states": found.hidden_states}


class _ByLastToken(torch.nn.Module):  # type: ignore[misc]  # torch is untyped here
    """A decoder that pools the last token that is not padding, with padding given by the attention mask."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model, self.config = model, model.config

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, output_hidden_states: bool = True) -> Any:
        ids = torch.where(attention_mask == 1, input_ids, self.config.pad_token_id)
        return self.model(
            input_ids=ids, attention_mask=attention_mask, use_cache=False, output_hidden_states=output_hidden_states
        )


def _told_padding_by_mask(model: Any) -> Any:
    """The model as it is traced; encoders that judge by their first token know padding by the mask anyway."""
    if getattr(getattr(model, "sequence_summary", None), "summary_type", None) == "last":
        return _ByLastPlace(model)
    if isinstance(getattr(model, "score", None), torch.nn.Linear):
        return _ByLastToken(model)
    return model
