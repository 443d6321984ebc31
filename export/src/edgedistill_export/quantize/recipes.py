"""From an fp32 graph to a smaller, faster one: each recipe is one function.

docs/decisions/0010-int8-recipes.md says what each was measured to cost.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypeAlias

from onnxruntime.quantization import QuantType, quantize_dynamic

from edgedistill_export.convert.graph import Graph
from edgedistill_export.errors import ExportFailed
from edgedistill_export.quantize.activation_scaling import choose_activations, errors, fed_layers
from edgedistill_export.quantize.embedding import quantize_embeddings
from edgedistill_export.quantize.int8_layers import Scaling, quantize_layers
from edgedistill_export.quantize.prune_last_layer import only_what_is_read
from edgedistill_export.quantize.rounding import Floats, Integers, carried, nearest
from edgedistill_export.quiet import quiet
from edgedistill_serve.scoring.encoding import Encoded

Recipe: TypeAlias = Callable[[Path, Path, Sequence[Encoded]], None]
"""Reads the fp32 graph at the first path and writes another to the second, weights inside; rows to calibrate with."""

CALIBRATION_ROWS = 128
"""Of the rows that a recipe is given, so many are used."""


def dynamic_int8(fp32: Path, int8: Path, _rows: Sequence[Encoded] = ()) -> None:
    """Quantize to 8 bits as onnxruntime does: weights per output channel, activations when a row is scored.

    Every operator that onnxruntime can quantize is, the embedding table among them. Weights are integers from -64 to
    64, so that no pair of them overflows. One scale is taken over the whole input of a layer, so a row's score depends
    on the rows in its batch: rows must be scored alone.

    Args:
        fp32: The plain graph; its folder must be writable, for onnxruntime keeps a file there meanwhile.
        int8: The file to write.

    Raises:
        ExportFailed: onnxruntime cannot quantize the graph.
    """
    try:
        with quiet():
            quantize_dynamic(fp32, int8, per_channel=True, reduce_range=True, weight_type=QuantType.QInt8)
    except Exception as error:  # onnx and onnxruntime raise many kinds; each means no graph
        raise ExportFailed(
            f"the graph cannot be quantized ({error})", hint="Set export.precision to fp32, or choose another backbone."
        ) from error


def measured_int8(
    fp32: Path,
    int8: Path,
    rows: Sequence[Encoded],
    *,
    scalings: Sequence[Scaling] = ("fixed", "above"),
    apart: int = 1,
    kept: float = 0.0,
    carry: bool = True,
) -> None:
    """Quantize to 8 bits with scales that were measured on calibration rows, so that rows cannot touch each other.

    Every layer over tokens becomes 8-bit integers: its channels are evened out and its input scaled as
    `activation_scaling` finds best, its weights rounded by `rounding`. The table of embeddings becomes 8-bit integers
    with a scale for each piece. The classifier stays in floats. What no score depends on is left out
    (`prune_last_layer`).

    Args:
        fp32: The plain graph.
        int8: The file to write.
        rows: Calibration rows, at least one.
        scalings: How inputs may be scaled.
        apart: How many channels of every input are multiplied apart, in floats.
        kept: Share of the inputs, those whose layers change most, that keep their layers in floats.
        carry: Whether rounding carries errors on, or takes the nearest integers.

    Raises:
        ExportFailed: The graph has no layer that can be quantized, or cannot be run.
    """
    graph = Graph(fp32)
    layers = graph.linears()
    if not layers:
        raise ExportFailed(
            "the graph has no layer that can be quantized", where=fp32.name, hint="Set export.precision to fp32."
        )
    fed = fed_layers(graph, rows[:CALIBRATION_ROWS])
    how = choose_activations(layers, fed, scalings, apart)
    change = errors(layers, fed, how)
    spared = sorted(change, key=change.__getitem__, reverse=True)[: round(kept * len(change))]

    def rounding(source: str, weights: Floats) -> tuple[Integers, Floats]:
        name = source.removesuffix(".first")
        return carried(weights, how[name].even(fed[name].values)) if carry else nearest(weights)

    only_what_is_read(graph)
    left = [layer for layer in graph.linears() if layer.source.removesuffix(".first") not in spared]
    quantize_layers(graph, left, how | {f"{source}.first": one for source, one in how.items()}, rounding)
    quantize_embeddings(graph)
    graph.save(int8)


RECIPES: Mapping[str, Recipe] = {
    "int8-apart": measured_int8,
    "int8-apart-token": partial(measured_int8, scalings=("token", "above")),
    "int8-kept": partial(measured_int8, scalings=("fixed", "token"), apart=0, kept=1 / 6),
    "int8-fixed": partial(measured_int8, scalings=("fixed",), apart=0),
    "int8-token": partial(measured_int8, scalings=("token",), apart=0),
    "int8-dynamic": dynamic_int8,
}
"""What `edgedistill_export.quantize.tuning` tries, by the name that ``bundle.json`` tells."""

DEFAULT = RECIPES["int8-apart"]
"""What is made without tuning; docs/decisions/0025-outlier-channels-apart.md says why."""
