"""How the tests export: a plan, what a bundle holds, and steps of an export that go wrong."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from edgedistill_export import Checkpoint, ExportPlan
from edgedistill_export.convert.exporter import to_onnx
from edgedistill_serve.bundle.manifest import Precision
from edgedistill_serve.scoring.encoding import Encoded
from edgedistill_serve.task.task import Task

from .tiny import MAX_TOKENS, PRAISE


def plan_of(task: Task = PRAISE, precision: Precision = "int8", max_flip_rate: float = 1.0) -> ExportPlan:
    """A plan for the tiny student that lets int8 change every label, unless something else is said."""
    return ExportPlan("praise", task, MAX_TOKENS, precision, max_flip_rate)


def contents_of(folder: Path) -> dict[str, bytes]:
    """The bytes of every file below a folder."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def with_weights(source: Path, target: Path, change: str) -> None:
    """Copy a graph with its classification head negated, or its weights made NaN."""
    model = onnx.load(source)
    for weights in model.graph.initializer:
        if "classifier" in weights.name and weights.data_type == onnx.TensorProto.FLOAT:
            values = numpy_helper.to_array(weights)
            weights.CopyFrom(numpy_helper.from_array(-values if change == "negated" else values * np.nan, weights.name))
    onnx.save(model, target)


def negating(fp32: Path, int8: Path, _rows: Sequence[Encoded]) -> None:
    """A quantization that turns every score round."""
    with_weights(fp32, int8, "negated")


def spoiling(fp32: Path, int8: Path, _rows: Sequence[Encoded]) -> None:
    """A quantization whose logits are not finite."""
    with_weights(fp32, int8, "nan")


def unfaithful(student: Checkpoint, file: Path) -> None:
    """A conversion that turns every score round."""
    to_onnx(student, file)
    with_weights(file, file, "negated")
