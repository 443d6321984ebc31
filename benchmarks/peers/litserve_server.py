"""LitServe around the int8 session of a bundle: batches of 32, a window of 5 ms.

    python litserve_server.py BUNDLE PORT WORKERS THREADS

Run it in a separate virtual environment with litserve, onnxruntime, tokenizers and numpy.
"""

import json
import sys
from pathlib import Path
from typing import Any

import litserve
import numpy as np
import onnxruntime
from tokenizers import Tokenizer

BUNDLE, PORT, WORKERS, THREADS = Path(sys.argv[1]), *map(int, sys.argv[2:5])
MANIFEST = json.loads((BUNDLE / "bundle.json").read_text("utf-8"))
LABELS = [label["name"] for label in MANIFEST["task"]["labels"]]


class Classifier(litserve.LitAPI):
    """Pads a batch to its longest response, and runs the graph once."""

    def setup(self, device: str) -> None:  # noqa: ARG002  # LitServe's interface
        """Load tokenizer and session."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = THREADS
        self.session = onnxruntime.InferenceSession(
            str(BUNDLE / "onnx" / "model_quantized.onnx"), options, providers=["CPUExecutionProvider"]
        )
        self.feeds = [node.name for node in self.session.get_inputs()]
        self.tokenizer = Tokenizer.from_file(str(BUNDLE / "tokenizer.json"))
        self.tokenizer.enable_truncation(MANIFEST["max_tokens"])
        self.tokenizer.enable_padding()

    def decode_request(self, request: dict[str, Any]) -> str:
        """Parse a request."""
        return request["response"]

    def batch(self, inputs: list[str]) -> list[str]:
        """Return the batch unchanged, as a list."""
        return inputs

    def predict(self, inputs: list[str]) -> list[dict[str, Any]]:
        """Score a batch."""
        encoded = self.tokenizer.encode_batch(inputs)
        given = {
            "input_ids": np.array([each.ids for each in encoded], dtype=np.int64),
            "attention_mask": np.array([each.attention_mask for each in encoded], dtype=np.int64),
            "token_type_ids": np.array([each.type_ids for each in encoded], dtype=np.int64),
        }
        (logits,) = self.session.run(["logits"], {name: given[name] for name in self.feeds})
        weights = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares = weights / weights.sum(axis=1, keepdims=True)
        return [dict(zip(LABELS, row.tolist(), strict=True)) for row in shares]

    def unbatch(self, output: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Split the batch into results."""
        return output

    def encode_response(self, output: dict[str, Any]) -> dict[str, Any]:
        """Format an answer."""
        return {"probabilities": output}


if __name__ == "__main__":
    server = litserve.LitServer(
        Classifier(max_batch_size=32, batch_timeout=0.005),
        accelerator="cpu",
        workers_per_device=WORKERS,
        fast_queue=True,
        disable_openapi_url=True,
    )
    server.run(port=PORT, host="127.0.0.1", generate_client_file=False, log_level="error", access_log=False)
