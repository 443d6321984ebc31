"""Quantization recipes: functions that write an int8 graph from an fp32 graph.

docs/decisions/0025-outlier-channels-apart.md and 0032-three-int8-recipes.md have their measured costs.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypeAlias

from edgedistill_export.convert.graph import Graph
from edgedistill_export.errors import ExportFailed
from edgedistill_export.quantize.activation_scaling import choose_activation_scaling, record_layer_inputs
from edgedistill_export.quantize.int8_layers import Scaling, quantize_embeddings, quantize_layers
from edgedistill_export.quantize.prune_last_layer import prune_last_layer
from edgedistill_export.quantize.rounding import Floats, Integers, round_gptq
from edgedistill_serve.scoring.encoding import Encoded

Recipe: TypeAlias = Callable[[Path, Path, Sequence[Encoded]], None]
"""Reads the fp32 graph at the first path and writes the quantized one to the second, given calibration rows."""

CALIBRATION_ROWS = 128
"""Maximum number of rows that a recipe uses for calibration."""


def quantize_int8(
    fp32: Path,
    int8: Path,
    rows: Sequence[Encoded],
    *,
    scalings: Sequence[Scaling] = ("fixed", "above"),
    outliers: int = 1,
) -> None:
    """Quantize to int8 such that a row's score does not depend on the other rows of a batch.

    Every linear layer over tokens becomes an int8 layer, with the channel scales and input scaling that
    `activation_scaling` chooses and weights rounded by `rounding`. The embedding table becomes int8 with one scale per
    token. The classifier remains in fp32. Computation that no score depends on is removed (`prune_last_layer`). Of a
    graph without such layers, as a nano student's, only the embedding table becomes int8.

    Args:
        fp32: The fp32 graph.
        int8: The file to write.
        rows: Calibration rows, at least one.
        scalings: Allowed scalings of layer inputs.
        outliers: Number of outlier channels of every layer input that are multiplied in fp32.

    Raises:
        ExportFailed: The graph has no layer that can be quantized, or cannot be run.
    """
    graph = Graph(fp32)
    layers = graph.linear_layers()
    if not layers:
        if not quantize_embeddings(graph):
            raise ExportFailed(
                "the graph has no layer that can be quantized", where=fp32.name, hint="Set export.precision to fp32."
            )
        graph.save(int8)
        return
    fed = record_layer_inputs(graph, rows[:CALIBRATION_ROWS])
    how = choose_activation_scaling(layers, fed, scalings, outliers)

    def rounding(source: str, weights: Floats) -> tuple[Integers, Floats]:
        name = source.removesuffix(".first")
        return round_gptq(weights, how[name].scaled(fed[name].values))

    prune_last_layer(graph)
    quantize_layers(
        graph, graph.linear_layers(), how | {f"{source}.first": one for source, one in how.items()}, rounding
    )
    quantize_embeddings(graph)
    graph.save(int8)


RECIPES: Mapping[str, Recipe] = {
    "int8-apart": quantize_int8,
    "int8-apart-token": partial(quantize_int8, scalings=("token", "above")),
    "int8-fixed": partial(quantize_int8, scalings=("fixed",), outliers=0),
}
"""The recipes that `edgedistill_export.quantize.tuning` compares, by their name in ``bundle.json``."""

DESCRIPTIONS: Mapping[str, str] = {
    "int8-apart": "static activation scales with SmoothQuant channel scaling, per-token scales after the GELU, "
    "weights rounded with GPTQ, and the outlier channel of each layer input in fp32.",
    "int8-apart-token": "as `int8-apart`, with per-token activation scales for all layer inputs.",
    "int8-fixed": "static activation scales with SmoothQuant channel scaling, weights rounded with GPTQ, no channel in "
    "fp32.",
}
"""Each recipe in one sentence, for the model card."""

DEFAULT = RECIPES["int8-apart"]
"""The recipe without tuning; docs/decisions/0025-outlier-channels-apart.md gives the reasons."""
