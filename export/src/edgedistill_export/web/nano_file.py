"""The file from which `page/nano.mjs` scores: the constants of a nano student's graph, as safetensors."""

from pathlib import Path

import numpy as np
from safetensors.numpy import save

from edgedistill_export.convert.graph import Graph
from edgedistill_export.convert.nano_graph import TABLE
from edgedistill_serve.scoring.session import NOVELTY


def nano_file(graph_file: Path) -> bytes | None:
    """Return the file of a bundle's graph, int8 or fp32; None if it is not that of a nano student.

    Raises:
        ExportFailed: The graph cannot be read.
    """
    graph = Graph(graph_file)
    names = [tensor.name for tensor in graph.proto.initializer]
    if not any(name in (TABLE, f"{TABLE}.int8") for name in names):
        return None
    kept = [name for name in names if name.startswith(("nano.", f"{NOVELTY}.")) or name in ("length", "shortest")]
    values = {name: np.atleast_1d(np.asarray(graph.constant(name))) for name in kept if name != f"{NOVELTY}.axis"}
    return save({name: np.ascontiguousarray(found) for name, found in values.items()})
