"""The embedding table in 8-bit integers, with one scale for each piece of the vocabulary."""

import numpy as np
from onnx import TensorProto

from edgedistill_export.convert.graph import Graph, node
from edgedistill_export.quantize.rounding import nearest

LEAST_PIECES = 200
"""A smaller table, such as that of the segments, is left as it is."""


def quantize_embeddings(graph: Graph) -> None:
    """Replace large tables of floats that rows are looked up in, in place.

    Args:
        graph: The graph.
    """
    for gather in [one for one in graph.proto.node if one.op_type == "Gather"]:
        table = graph.constant(gather.input[0])
        if table is None or table.ndim != 2 or table.dtype != np.float32 or len(table) < LEAST_PIECES:
            continue
        integers, scales = nearest(table.T, multiplied=False)
        name, (_, ids), result = gather.input[0], gather.input, gather.output[0]
        small = graph.add_constant(f"{name}.int8", integers.T)
        steps = graph.add_constant(f"{name}.steps", scales[:, None])
        graph.insert(
            gather,
            [
                node("Gather", [small, ids], f"{result}.int8", axis=0),
                node("Cast", [f"{result}.int8"], f"{result}.steps", to=TensorProto.FLOAT),
                node("Gather", [steps, ids], f"{result}.scale", axis=0),
                node("Mul", [f"{result}.steps", f"{result}.scale"], result),
            ],
        )
        graph.remove(gather)
