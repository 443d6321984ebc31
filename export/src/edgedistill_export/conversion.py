"""From PyTorch to ONNX; the only module that knows optimum."""

from pathlib import Path

from optimum.exporters.onnx import export
from optimum.exporters.tasks import TasksManager

from edgedistill_export.checkpoint import Checkpoint
from edgedistill_export.errors import ExportFailed
from edgedistill_export.quiet import quiet

_MEND = "Choose a backbone such as BERT, DistilBERT, RoBERTa, ModernBERT or DeBERTa."


def to_onnx(checkpoint: Checkpoint, file: Path) -> None:
    """Write the student as an fp32 ONNX graph, batch and sequence length free.

    The graph is plain: no operators are fused, so that it can be quantized and so that every runtime knows it.

    Args:
        checkpoint: The student.
        file: The ``.onnx`` file to write, weights inside.

    Raises:
        ExportFailed: optimum does not know this kind of model, the conversion failed, or the weights do not fit into
            one file (2 GB).
    """
    kind, where = checkpoint.model.config.model_type, str(checkpoint.folder)
    try:
        describe = TasksManager.get_exporter_config_constructor(
            "onnx", model=checkpoint.model, task="text-classification", library_name="transformers"
        )
    except (KeyError, ValueError) as error:  # the kind of model, or this task of it, is in none of optimum's lists
        raise ExportFailed(f"optimum exports no classifier of the kind {kind!r}", where=where, mend=_MEND) from error
    try:
        with quiet():
            export(checkpoint.model, describe(checkpoint.model.config), file)
    except Exception as error:  # optimum and torch raise many kinds; each means no graph
        reason = " ".join(str(error).split())[:300]
        raise ExportFailed(f"the {kind} model cannot be exported ({reason})", where=where, mend=_MEND) from error
    if file.with_name(file.name + "_data").exists():
        raise ExportFailed(
            "the weights do not fit into one ONNX file (2 GB)", where=where, mend="Choose a smaller backbone."
        )
