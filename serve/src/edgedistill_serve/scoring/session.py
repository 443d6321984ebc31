"""A graph in onnxruntime that scores one response, or a batch of responses."""

import logging
import os
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgedistill_serve.errors import BundleError, ScoringFailed
from edgedistill_serve.scoring.batching import Outputs
from edgedistill_serve.scoring.encoding import Encoded
from edgedistill_serve.scoring.onnxruntime_install import import_onnxruntime

GRAPH_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
"""Inputs that a session can provide; a graph declares some of them."""
OUTPUT = "logits"
NOVELTY = "novelty"
"""A second output, which graphs may have."""
_OUTPUT_TYPES = ("tensor(float)", "tensor(float16)", "tensor(bfloat16)", "tensor(double)")
Device: TypeAlias = Literal["cpu", "cuda"]
PROVIDERS: dict[Device, str] = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_NO_FOLDER = os.path.join(os.devnull, "none")  # noqa: PTH118  # a name that can never be a folder
"""Where onnxruntime looks for weights in other files."""
GraphFeeds: TypeAlias = dict[str, NDArray[np.int64]]

_log = logging.getLogger(__name__)


class Session:
    """A graph that is ready to run. Sessions are thread-safe.

    Args:
        model: An ONNX file, or its content, with inputs among `GRAPH_INPUTS`, int64 of shape (rows, tokens), and the
            output ``logits`` of shape (rows, labels). All weights must be inside. Of other outputs, only ``novelty`` of
            shape (rows,) is read.
        device: ``cpu`` or ``cuda``; ``cuda`` requires `cuda_is_offered`.
        overflow_free: Whether no 8-bit product of the graph overflows 16 bits, as in `Manifest.int8_overflow_free`. If
            not, processors without VNNI use a slower mode that keeps the products exact.
        name: Name of the graph in error messages; by default, that of the file.

    Raises:
        RuntimeMissing: No build or both builds of onnxruntime are installed.
        BundleError: The file is not such a graph, or onnxruntime cannot run it on the device.
    """

    def __init__(
        self, model: Path | bytes, device: Device = "cpu", *, overflow_free: bool = False, name: str | None = None
    ) -> None:
        name = name or (model.name if isinstance(model, Path) else "the graph")
        runtime = import_onnxruntime()
        options = runtime.SessionOptions()
        # One single-threaded caller per core is faster than one caller with many threads, and a spinning thread takes
        # the core from the next caller.
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if not overflow_free and not has_vnni():
            # Without VNNI, 8-bit products overflow 16 bits. This option keeps them exact and costs a third of the
            # speed. With VNNI it changes no bit and costs the same.
            options.add_session_config_entry("session.x64quantprecision", "1")
        # The content is ONNX and nothing else, and no other file belongs to it.
        options.add_session_config_entry("session.load_model_format", "ONNX")
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", _NO_FOLDER)
        options.log_severity_level = 4
        providers = [_provider(device)]
        try:
            content = model.read_bytes() if isinstance(model, Path) else model
            # onnxruntime's own fallback would print to stdout and try the same provider again.
            self._session = runtime.InferenceSession(content, options, providers=providers, enable_fallback=0)
        except Exception as error:  # noqa: BLE001  # onnxruntime's errors have no common root
            raise BundleError(f"onnxruntime cannot load the graph ({_short(error)})", where=name) from None
        if PROVIDERS[device] not in self._session.get_providers():
            raise BundleError("onnxruntime finds no usable CUDA device", where=name)
        self._inputs = tuple(_check_input(node.name, node.type, name) for node in self._session.get_inputs())
        outputs = {node.name: node.type for node in self._session.get_outputs()}
        if OUTPUT not in outputs:
            raise BundleError(f"the graph has no output {OUTPUT!r}", where=name)
        if outputs[OUTPUT] not in _OUTPUT_TYPES:
            raise BundleError(f"the output {OUTPUT!r} has the type {outputs[OUTPUT]}, not tensor(float)", where=name)
        self._outputs = [OUTPUT, NOVELTY] if outputs.get(NOVELTY) in _OUTPUT_TYPES else [OUTPUT]
        # A function and not a bound method, which would be a reference cycle: the server freezes the garbage collector
        # after start, so that a cycle would never be freed.
        self._run = (
            make_array_runner(self._session, self._outputs)
            if device == "cpu"
            else make_binding_runner(runtime, self._session, device, self._outputs)
        )

    def logits(self, encoded: Encoded) -> NDArray[np.float64]:
        """Run the graph on one response.

        Returns:
            Shape (labels,), computed in float32.

        Raises:
            ScoringFailed: The graph failed on this response, or its logits are not finite.
        """
        return self.batch_logits((encoded,)).reshape(-1)

    def batch_logits(self, rows: Sequence[Encoded], length: int = 0) -> NDArray[np.float64]:
        """Run the graph once on one or more responses; shorter ones are padded.

        Args:
            rows: At least one response.
            length: Padded length in tokens; at least the length of the longest row is used.

        Returns:
            Shape (rows, labels), computed in float32.

        Raises:
            ScoringFailed: The graph failed on them, or a number is not finite.
        """
        return self.run(rows, length).logits

    def run(self, rows: Sequence[Encoded], length: int = 0) -> Outputs:
        """Run the graph once, as `batch_logits` does, and return all that it gives.

        Raises:
            ScoringFailed: The graph failed on them, or a number is not finite.
        """
        feeds = build_feeds(rows, length)
        try:
            logits, *novelty = self._run({name: feeds[name] for name in self._inputs})
        except Exception as error:  # noqa: BLE001  # onnxruntime's errors have no common root
            # The original message would contain token ids, which reveal the text.
            raise ScoringFailed(f"the model failed on this response ({type(error).__name__})") from None
        found = Outputs(
            np.asarray(logits, dtype=np.float64),
            np.asarray(novelty[0], dtype=np.float64).reshape(len(rows)) if novelty else None,
        )
        if not np.isfinite(found.table).all():
            raise ScoringFailed("the model gave numbers that are not finite for this response")
        return found


def build_feeds(rows: Sequence[Encoded], length: int = 0) -> GraphFeeds:
    """Return the input arrays, each of shape (rows, max(longest row, ``length``)); padding is 0 and masked."""
    shape = len(rows), max(length, *(len(row.ids) for row in rows))
    if shape == (1, len(rows[0].ids)):
        (row,) = rows
        ids = np.array([row.ids], dtype=np.int64)
        types = np.array([row.type_ids], dtype=np.int64)
        return {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": types}
    feeds = {name: np.zeros(shape, dtype=np.int64) for name in GRAPH_INPUTS}
    for index, row in enumerate(rows):
        size = len(row.ids)
        feeds["input_ids"][index, :size] = row.ids
        feeds["attention_mask"][index, :size] = 1
        feeds["token_type_ids"][index, :size] = row.type_ids
    return feeds


def make_array_runner(session: Any, outputs: Sequence[str]) -> Callable[[GraphFeeds], list[Any]]:
    """Return a function that runs a session on NumPy arrays and returns these outputs."""

    def run(feeds: GraphFeeds) -> list[Any]:
        return list(session.run(outputs, feeds))

    return run


def make_binding_runner(
    runtime: ModuleType, session: Any, device: Device, outputs: Sequence[str]
) -> Callable[[GraphFeeds], list[Any]]:
    """Return a function that runs a session with inputs and these outputs bound to device memory."""

    def run(feeds: GraphFeeds) -> list[Any]:
        binding = session.io_binding()
        for name, values in feeds.items():
            binding.bind_ortvalue_input(name, runtime.OrtValue.ortvalue_from_numpy(values, device, 0))
        for name in outputs:
            binding.bind_output(name, device, 0)
        session.run_with_iobinding(binding)
        return list(binding.copy_outputs_to_cpu())

    return run


def cuda_is_offered() -> bool:
    """Whether the installed onnxruntime was built for CUDA; the machine may still have no CUDA device.

    Raises:
        RuntimeMissing: No build or both builds of onnxruntime are installed.
    """
    return PROVIDERS["cuda"] in import_onnxruntime().get_available_providers()


@cache
def has_vnni(cpuinfo: Path = Path("/proc/cpuinfo"), system: str = sys.platform) -> bool:
    """Whether this processor is known to sum 8-bit products in 32 bits (AVX-VNNI or AVX512-VNNI). The result is cached.

    Args:
        cpuinfo: File in which Linux lists the processor's features. Other systems have none, and the result is False.
        system: `sys.platform`. On Linux, an unreadable file is logged.
    """
    try:
        content = cpuinfo.read_text(encoding="ascii", errors="replace")
    except OSError as error:
        if system == "linux":
            message = "%s cannot be read (%s); int8 uses the slower mode that is exact on every processor"
            _log.warning(message, cpuinfo, error.strerror)
        return False
    flags = next((line.split() for line in content.splitlines() if line.startswith("flags")), [])
    return not {"avx512_vnni", "avx_vnni"}.isdisjoint(flags)


def _provider(device: Device) -> tuple[str, dict[str, str]]:
    # TensorFloat-32 keeps 10 bits of a product, fewer than the float32 that the bundle was checked with.
    return PROVIDERS[device], {"use_tf32": "0"} if device == "cuda" else {}


def _check_input(name: str, kind: str, model: str) -> str:
    if name not in GRAPH_INPUTS or kind != "tensor(int64)":
        raise BundleError(f"the graph requires the input {name!r} of type {kind}, which is not supported", where=model)
    return name


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
