"""From PyTorch to ONNX; the only module that knows optimum."""

from pathlib import Path

from optimum.exporters.onnx import export
from optimum.exporters.tasks import TasksManager

from edgedistill_export.checkpoint import Checkpoint
from edgedistill_export.errors import ExportFailed
from edgedistill_export.quiet import quiet


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
    try:
        with quiet():
            describe = TasksManager.get_exporter_config_constructor(
                "onnx", model=checkpoint.model, task="text-classification", library_name="transformers"
            )
            export(checkpoint.model, describe(checkpoint.model.config), file)
    except Exception as error:  # optimum and torch raise many kinds; each means no graph
        raise ExportFailed(
            f"a {checkpoint.model.config.model_type} model cannot be exported to ONNX ({error})",
            where=str(checkpoint.folder),
            mend="Choose a backbone that optimum exports, such as BERT, DistilBERT, RoBERTa or DeBERTa.",
        ) from error
    if file.with_name(file.name + "_data").exists():
        raise ExportFailed(
            "the weights do not fit into one ONNX file (2 GB)",
            where=str(checkpoint.folder),
            mend="Choose a smaller backbone.",
        )
