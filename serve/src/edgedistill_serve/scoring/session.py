"""One graph in onnxruntime: fed with one response, or with several at once."""

import logging
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgedistill_serve.errors import BundleError, ScoringFailed
from edgedistill_serve.scoring.encoding import Encoded
from edgedistill_serve.scoring.onnxruntime_install import import_onnxruntime

GRAPH_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
"""What can be fed; a graph declares some of them."""
OUTPUT = "logits"
Device: TypeAlias = Literal["cpu", "cuda"]
PROVIDERS: dict[Device, str] = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
Feeds: TypeAlias = dict[str, NDArray[np.int64]]

_log = logging.getLogger(__name__)


class Session:
    """A graph that is ready to run; any number of threads may share it.

    Args:
        model: An ONNX file with inputs among `GRAPH_INPUTS`, int64 of shape (rows, tokens), and the output ``logits``
            of shape (rows, labels).
        device: Where it runs; ``cuda`` only where `cuda_is_offered`.
        overflow_free: Whether no 8-bit product of the graph overflows 16 bits, as `Manifest.int8_overflow_free` says.
            Of other graphs, processors without VNNI keep the products exact in a way that is slower.

    Raises:
        RuntimeMissing: onnxruntime is not installed, or there twice.
        BundleError: The file is no such graph, or this onnxruntime cannot run it there.
    """

    def __init__(self, model: Path, device: Device = "cpu", *, overflow_free: bool = False) -> None:
        runtime = import_onnxruntime()
        options = runtime.SessionOptions()
        # A caller per core, each on its own thread, is faster than one caller with many threads, and a thread that
        # spins takes the core from the next caller.
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if not overflow_free and not has_vnni():
            # 8-bit products overflow 16 bits there; this keeps them exact and costs a third of the speed. Where there
            # is VNNI it changes no bit and costs as much.
            options.add_session_config_entry("session.x64quantprecision", "1")
        options.log_severity_level = 4
        providers = [_provider(device)]
        try:
            # onnxruntime's own fallback would print to stdout and try the same again.
            self._session = runtime.InferenceSession(str(model), options, providers=providers, enable_fallback=0)
        except Exception as error:  # noqa: BLE001  # onnxruntime's errors have no common root
            raise BundleError(f"onnxruntime cannot load the graph ({_short(error)})", where=model.name) from None
        if PROVIDERS[device] not in self._session.get_providers():
            raise BundleError("onnxruntime finds no CUDA that it can use", where=model.name)
        self._feeds = tuple(_feed(node.name, node.type, model.name) for node in self._session.get_inputs())
        if OUTPUT not in {node.name for node in self._session.get_outputs()}:
            raise BundleError(f"the graph has no output {OUTPUT!r}", where=model.name)
        # A method of this session would hold it for good: what the server loads at its start no collector looks at.
        self._run = (
            make_array_runner(self._session) if device == "cpu" else make_binding_runner(runtime, self._session, device)
        )

    def logits(self, encoded: Encoded) -> NDArray[np.float64]:
        """Run the graph on one response.

        Returns:
            Shape (labels,), as the graph computed them in float32.

        Raises:
            ScoringFailed: The graph failed on this response, or its logits are not finite.
        """
        return self.batch_logits((encoded,)).reshape(-1)

    def batch_logits(self, rows: Sequence[Encoded], length: int = 0) -> NDArray[np.float64]:
        """Run the graph once on one or more responses, the shorter ones padded.

        Args:
            rows: At least one.
            length: In tokens, to which all are padded; to the longest of them where that is more.

        Returns:
            Shape (rows, labels), as the graph computed them in float32.

        Raises:
            ScoringFailed: The graph failed on them, or a logit is not finite.
        """
        given = build_feeds(rows, length)
        try:
            found = self._run({name: given[name] for name in self._feeds})
        except Exception as error:  # noqa: BLE001  # onnxruntime's errors have no common root
            # Its own words would name token ids, which are a part of the text.
            raise ScoringFailed(f"the model failed on this response ({type(error).__name__})") from None
        logits = np.asarray(found, dtype=np.float64)
        if not np.isfinite(logits).all():
            raise ScoringFailed("the model gave no finite logits for this response")
        return logits


def build_feeds(rows: Sequence[Encoded], length: int = 0) -> Feeds:
    """Return what the graph reads, each of shape (rows, longest or ``length``); padding is 0 and masked."""
    shape = len(rows), max(length, *(len(row.ids) for row in rows))
    if shape == (1, len(rows[0].ids)):
        (row,) = rows
        ids = np.array([row.ids], dtype=np.int64)
        types = np.array([row.type_ids], dtype=np.int64)
        return {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": types}
    given = {name: np.zeros(shape, dtype=np.int64) for name in GRAPH_INPUTS}
    for place, row in enumerate(rows):
        own = len(row.ids)
        given["input_ids"][place, :own] = row.ids
        given["attention_mask"][place, :own] = 1
        given["token_type_ids"][place, :own] = row.type_ids
    return given


def make_array_runner(session: Any) -> Callable[[Feeds], Any]:
    """Return what runs a session on arrays."""

    def run(given: Feeds) -> Any:
        return session.run([OUTPUT], given)[0]

    return run


def make_binding_runner(runtime: ModuleType, session: Any, device: Device) -> Callable[[Feeds], Any]:
    """Return what runs a session with its inputs and its output bound to a device's memory."""

    def run(given: Feeds) -> Any:
        binding = session.io_binding()
        for name, values in given.items():
            binding.bind_ortvalue_input(name, runtime.OrtValue.ortvalue_from_numpy(values, device, 0))
        binding.bind_output(OUTPUT, device, 0)
        session.run_with_iobinding(binding)
        return binding.copy_outputs_to_cpu()[0]

    return run


def cuda_is_offered() -> bool:
    """Whether the onnxruntime that is installed was built for CUDA; the machine may have none all the same.

    Raises:
        RuntimeMissing: onnxruntime is not installed, or there twice.
    """
    return PROVIDERS["cuda"] in import_onnxruntime().get_available_providers()


@cache
def has_vnni(described: Path = Path("/proc/cpuinfo"), system: str = sys.platform) -> bool:
    """Whether this processor is known to sum 8-bit products in 32 bits (AVX-VNNI or AVX512-VNNI); found out once.

    Args:
        described: Where Linux says what the processor can; elsewhere there is no such file, and nothing is known.
        system: As `sys.platform` names it. That Linux does not say it is logged.
    """
    try:
        content = described.read_text(encoding="ascii", errors="replace")
    except OSError as error:
        if system == "linux":
            said = "%s cannot be read (%s), so int8 is computed in a way that is exact on every processor, and slower"
            _log.warning(said, described, error.strerror)
        return False
    flags = next((line.split() for line in content.splitlines() if line.startswith("flags")), [])
    return not {"avx512_vnni", "avx_vnni"}.isdisjoint(flags)


def _provider(device: Device) -> tuple[str, dict[str, str]]:
    # TensorFloat-32 keeps 10 bits of a product: not what the bundle was checked with.
    return PROVIDERS[device], {"use_tf32": "0"} if device == "cuda" else {}


def _feed(name: str, kind: str, model: str) -> str:
    if name not in GRAPH_INPUTS or kind != "tensor(int64)":
        raise BundleError(f"the graph wants the input {name!r} of {kind}, which cannot be fed", where=model)
    return name


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
