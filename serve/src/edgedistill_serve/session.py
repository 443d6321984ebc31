"""One graph in onnxruntime, fed with one response at a time."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgedistill_serve.encoding import Encoded
from edgedistill_serve.errors import BundleError, ScoringFailed
from edgedistill_serve.runtime import onnxruntime

FEEDS = ("input_ids", "attention_mask", "token_type_ids")
"""What can be fed; a graph declares some of them."""
OUTPUT = "logits"


class Session:
    """A graph that is ready to run; any number of threads may share it.

    Args:
        model: An ONNX file with inputs among `FEEDS`, int64 of shape (rows, tokens), and the output ``logits`` of shape
            (rows, labels).

    Raises:
        RuntimeMissing: onnxruntime is not installed, or there twice.
        BundleError: The file is no such graph, or this onnxruntime cannot run it.
    """

    def __init__(self, model: Path) -> None:
        runtime = onnxruntime()
        options = runtime.SessionOptions()
        # A caller per core, each on its own thread, is faster than one caller with many threads, and a thread that
        # spins takes the core from the next caller.
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # Without VNNI, 8-bit products overflow 16 bits; this makes them 7-bit there and changes nothing elsewhere.
        options.add_session_config_entry("session.x64quantprecision", "1")
        options.log_severity_level = 4
        try:
            self._session = runtime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # noqa: BLE001  # onnxruntime's errors have no common root
            raise BundleError(f"onnxruntime cannot load the graph ({_short(error)})", where=model.name) from None
        self._feeds = tuple(_feed(node.name, node.type, model.name) for node in self._session.get_inputs())
        if OUTPUT not in {node.name for node in self._session.get_outputs()}:
            raise BundleError(f"the graph has no output {OUTPUT!r}", where=model.name)

    def logits(self, encoded: Encoded) -> NDArray[np.float64]:
        """Run the graph on one response.

        Returns:
            Shape (labels,), as the graph computed them in float32.

        Raises:
            ScoringFailed: The graph failed on this response, or its logits are not finite.
        """
        ids = np.array([encoded.ids], dtype=np.int64)
        given = {
            "input_ids": ids,
            "attention_mask": np.ones_like(ids),
            "token_type_ids": np.array([encoded.type_ids], dtype=np.int64),
        }
        try:
            (found,) = self._session.run([OUTPUT], {name: given[name] for name in self._feeds})
        except Exception as error:  # noqa: BLE001  # onnxruntime's errors have no common root
            # Its own words would name token ids, which are a part of the text.
            raise ScoringFailed(f"the model failed on this response ({type(error).__name__})") from None
        logits = np.asarray(found, dtype=np.float64).reshape(-1)
        if not np.isfinite(logits).all():
            raise ScoringFailed("the model gave no finite logits for this response")
        return logits


def _feed(name: str, kind: str, model: str) -> str:
    if name not in FEEDS or kind != "tensor(int64)":
        raise BundleError(f"the graph wants the input {name!r} of {kind}, which cannot be fed", where=model)
    return name


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
