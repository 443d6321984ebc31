"""The tiny bundles of the scoring package, and bundles whose labels a test can choose."""

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgedistill_serve.scoring.encoding import Encoder
from edgedistill_serve.scoring.session import Session

from ...serve.conftest import GOLDEN_TEXTS, LABELS, make_bundle, make_novelty_bundle, parts, vocabulary

__all__ = ["make_bundle", "make_keyword_bundle", "make_novelty_bundle", "parts"]


def keyword_graph(words):
    """A graph whose logit of a label is the sum over the tokens of what `words` says, a number per label."""
    table = np.zeros((len(vocabulary()), len(LABELS)), np.float32)
    for word, logits in words.items():
        table[vocabulary()[word]] = logits
    nodes = [
        helper.make_node("Gather", ["words", "input_ids"], ["said"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["wide_mask"]),
        helper.make_node("Mul", ["said", "wide_mask"], ["counted"]),
        helper.make_node("ReduceSum", ["counted", "tokens"], ["logits"], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "keywords",
        [
            helper.make_tensor_value_info(name, TensorProto.INT64, ["rows", "tokens"])
            for name in ("input_ids", "attention_mask")
        ],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["rows", len(LABELS)])],
        [
            numpy_helper.from_array(table, "words"),
            numpy_helper.from_array(np.array([-1]), "last"),
            numpy_helper.from_array(np.array([1]), "tokens"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


@pytest.fixture(scope="session")
def make_keyword_bundle(parts, make_bundle, tmp_path_factory):
    """Write a bundle that decides by words: `make(folder, {"hard": (3, 0, 0)})`; other arguments as `make_bundle`."""

    def make(folder, words, *, inputs=("response",), **given):
        file = tmp_path_factory.mktemp("graphs") / "model.onnx"
        onnx.save(keyword_graph(words), file)
        encoder, session = Encoder(parts / "tokenizer.json", 24), Session(file)
        rows = [dict.fromkeys(inputs, "why is this the answer") | {"response": text} for text in GOLDEN_TEXTS]
        logits = [session.logits(encoded).tolist() for encoded in encoder.encode(rows)]
        golden = [{"inputs": row, "logits": found} for row, found in zip(rows, logits, strict=True)]
        files = {
            "onnx/model.onnx": file,
            "onnx/model_quantized.onnx": None,
            "golden.json": json.dumps({"rows": golden, "tolerance": {"fp32": 1e-5}}).encode(),
        }
        return make_bundle(folder, inputs=inputs, precision="fp32", files=files, **given)

    return make
