"""What the layers of a graph are fed: ranges of their inputs, measured on calibration rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime

from edgedistill_export.errors import ExportFailed
from edgedistill_export.graph import Graph
from edgedistill_serve.encoding import Encoded
from edgedistill_serve.session import feeds

MOST_VALUES = 2_000_000
"""Values of one layer's input that are kept to find percentiles in; of more, an even choice is."""


@dataclass(frozen=True, slots=True, eq=False)
class Fed:
    """What one layer was fed with over all calibration rows.

    Attributes:
        values: Shape (tokens, channels), float32.
    """

    values: npt.NDArray[np.float32]

    @property
    def channels(self) -> npt.NDArray[np.float32]:
        """Each channel's largest absolute value, of shape (channels,)."""
        found: npt.NDArray[np.float32] = np.abs(self.values).max(axis=0)
        return found


def fed_layers(graph: Graph, rows: Sequence[Encoded]) -> dict[str, Fed]:
    """Score calibration rows, each alone, and keep what every layer over tokens is fed with.

    Args:
        graph: An fp32 graph.
        rows: At least one.

    Returns:
        By the name of a layer's input.

    Raises:
        ExportFailed: The graph cannot be run.
    """
    sources = list(dict.fromkeys(layer.source for layer in graph.linears()))
    watched = onnx.ModelProto()
    watched.CopyFrom(graph.model)
    watched.graph.output.extend(onnx.ValueInfoProto(name=name) for name in sources)
    with TemporaryDirectory(prefix="edgedistill-calibration-") as work:
        file = Path(work) / "watched.onnx"
        onnx.save(watched, file)
        try:
            session = _session(file)
            wanted = {given.name for given in session.get_inputs()}
            found = [
                session.run(sources, {name: value for name, value in feeds([row]).items() if name in wanted})
                for row in rows
            ]
        except Exception as error:  # onnxruntime's errors have no common root
            raise ExportFailed(f"the graph cannot be calibrated ({type(error).__name__})", where=file.name) from error
    return {name: Fed(_stacked([of_row[place] for of_row in found])) for place, name in enumerate(sources)}


def _session(file: Path) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    # Fusions would do away with the values that are watched.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


def _stacked(found: Sequence[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
    values = np.concatenate([one.reshape(-1, one.shape[-1]) for one in found])
    every = -(-values.size // MOST_VALUES)
    return values[::every]
