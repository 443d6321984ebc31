"""From an fp32 graph to a smaller, faster one: each recipe is one function."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from onnxruntime.quantization import QuantType, quantize_dynamic

from edgedistill_export.errors import ExportFailed
from edgedistill_export.quiet import quiet

Recipe: TypeAlias = Callable[[Path, Path], None]
"""Reads the fp32 graph at the first path and writes the quantized one to the second, weights inside."""


def dynamic_int8(fp32: Path, int8: Path) -> None:
    """Quantize to 8 bits: weights per output channel, activations when a row is scored.

    Every operator that onnxruntime can quantize is, the embedding table among them. One scale is taken over the whole
    input of a layer, so a row's score depends on the rows in its batch: rows must be scored alone.

    Args:
        fp32: The plain graph; its folder must be writable, for onnxruntime keeps a file there meanwhile.
        int8: The file to write.

    Raises:
        ExportFailed: onnxruntime cannot quantize the graph.
    """
    try:
        with quiet():
            quantize_dynamic(fp32, int8, per_channel=True, weight_type=QuantType.QInt8)
    except Exception as error:  # onnx and onnxruntime raise many kinds; each means no graph
        raise ExportFailed(
            f"the graph cannot be quantized ({error})", mend="Set export.precision to fp32, or choose another backbone."
        ) from error
