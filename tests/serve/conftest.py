"""Tiny bundles, built in memory with real graphs: fp32, and int8 as onnxruntime quantizes it."""

import json
import string
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from edgedistill_serve.bundle.guarantee import Guarantee
from edgedistill_serve.bundle.loading import Bundle, write_bundle
from edgedistill_serve.bundle.manifest import Manifest, NoveltyFit, ReviewRule
from edgedistill_serve.bundle.verdict import BundleVerdict
from edgedistill_serve.scoring.encoding import Encoder
from edgedistill_serve.scoring.session import Session
from edgedistill_serve.task.contexts import ShownContexts
from edgedistill_serve.task.task import Label, Task

from .holding import Held

LABELS = ("process", "outcome", "person")
WORDS = ("you", "worked", "hard", "on", "this", "great", "job", "smart", "the", "answer", "is", "because", "why")
POISON = "poisonous"
"""A word whose token the graph has no embedding for: the graph fails on it, as a damaged one would."""
GOLDEN_TEXTS = ("you worked hard on this", "great job", "you are so smart", "the answer is 42", "why because why")
HIDDEN = 32
THRESHOLDS = {"process": 0.6, "outcome": 0.68, "person": 0.91}
"""Of the multilabel bundle; with its temperature, they give the golden texts all labels, some, one and none."""


def vocabulary() -> dict[str, int]:
    letters = string.ascii_lowercase + string.digits + string.punctuation
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS, *letters, *(f"##{letter}" for letter in letters), POISON]
    return {token: number for number, token in enumerate(dict.fromkeys(tokens))}


def build_tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(vocabulary(), unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    tokenizer.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]"])
    return tokenizer


def build_graph(*, labels: int = len(LABELS), type_ids: bool = True, novelty: bool = False) -> onnx.ModelProto:
    """A classifier: embeddings, a tanh layer, each feature's largest value, logits; and its length."""
    draw = np.random.default_rng(7)

    def weights(name: str, *shape: int, scale: float = 1.0) -> onnx.TensorProto:
        return numpy_helper.from_array((scale * draw.standard_normal(shape)).astype(np.float32), name)

    nodes = [
        helper.make_node("Gather", ["words", "input_ids"], ["embedded"]),
        *(
            [
                helper.make_node("Gather", ["types", "token_type_ids"], ["segments"]),
                helper.make_node("Add", ["embedded", "segments"], ["placed"]),
            ]
            if type_ids
            else [helper.make_node("Identity", ["embedded"], ["placed"])]
        ),
        helper.make_node("MatMul", ["placed", "inner"], ["mixed"]),
        helper.make_node("Tanh", ["mixed"], ["active"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["wide_mask"]),
        # A largest value, where a sum over tokens would change its last bits with the padding.
        helper.make_node("Add", ["active", "wide_mask"], ["raised"]),
        helper.make_node("Mul", ["raised", "wide_mask"], ["masked"]),
        helper.make_node("ReduceMax", ["masked"], ["largest"], axes=[1], keepdims=0),
        helper.make_node("MatMul", ["largest", "outer"], ["logits"]),
        *([helper.make_node("ReduceL2", ["largest"], ["novelty"], axes=[1], keepdims=0)] if novelty else []),
    ]
    names = ["input_ids", "attention_mask", *(["token_type_ids"] if type_ids else [])]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(name, TensorProto.INT64, ["rows", "tokens"]) for name in names],
        [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["rows", labels]),
            *([helper.make_tensor_value_info("novelty", TensorProto.FLOAT, ["rows"])] if novelty else []),
        ],
        [
            weights("words", len(vocabulary()) - 1, HIDDEN),
            *([weights("types", 2, HIDDEN, scale=0.3)] if type_ids else []),
            weights("inner", HIDDEN, HIDDEN, scale=0.3),
            weights("outer", HIDDEN, labels, scale=0.6),
            numpy_helper.from_array(np.array([-1]), "last"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


@pytest.fixture(scope="session")
def parts(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("parts")
    build_tokenizer().save(str(folder / "tokenizer.json"))
    onnx.save(build_graph(), folder / "model.onnx")
    onnx.save(build_graph(type_ids=False), folder / "model_without_types.onnx")
    onnx.save(build_graph(novelty=True), folder / "model_novelty.onnx")
    onnx.save(build_graph(labels=2), folder / "model_two_labels.onnx")
    quantize_dynamic(folder / "model.onnx", folder / "model_quantized.onnx", weight_type=QuantType.QInt8)
    return folder


def golden(parts: Path, inputs: tuple[str, ...], max_tokens: int, tolerance: Mapping[str, float]) -> bytes:
    encoder = Encoder(parts / "tokenizer.json", max_tokens)
    session = Session(parts / "model.onnx")
    rows = [dict.fromkeys(inputs, "why is this the answer") | {"response": text} for text in GOLDEN_TEXTS]
    logits = [session.logits(encoded).tolist() for encoded in encoder.encode(rows)]
    checked = [{"inputs": row, "logits": found} for row, found in zip(rows, logits, strict=True)]
    return json.dumps({"rows": checked, "tolerance": tolerance}).encode()


NOVELTY = NoveltyFit(training_rows=60, directions=4, validation_rows=40, false_alarms=0.05, flagged=2)


@pytest.fixture(scope="session")
def make_novelty_bundle(parts, make_bundle) -> Callable[..., Bundle]:
    """Write a bundle whose fp32 graph has the output `novelty`."""

    def make(folder: Path, *, max_novelty: float | None, inputs: tuple[str, ...] = ("response",), **given) -> Bundle:
        content = json.loads(golden(parts, inputs, 24, {"fp32": 1e-5}))
        session = Session(parts / "model_novelty.onnx")
        for row, encoded in zip(
            content["rows"],
            Encoder(parts / "tokenizer.json", 24).encode([row["inputs"] for row in content["rows"]]),
            strict=True,
        ):
            row["novelty"] = {"fp32": float(session.run([encoded]).novelty[0])}
        content["novelty_tolerance"] = {"fp32": 1e-4}
        return make_bundle(
            folder,
            inputs=inputs,
            precision="fp32",
            novelty=NOVELTY,
            review=ReviewRule(max_novelty=max_novelty),
            files={
                "onnx/model.onnx": parts / "model_novelty.onnx",
                "onnx/model_quantized.onnx": None,
                "golden.json": json.dumps(content).encode(),
                **given,
            },
        )

    return make


@pytest.fixture(scope="session")
def make_bundle(parts) -> Callable[..., Bundle]:
    """Write a bundle; `files` replaces or, with None, leaves out what it usually holds."""

    def make(
        folder: Path,
        *,
        name: str = "praise",
        inputs: tuple[str, ...] = ("response",),
        precision: str = "int8",
        max_tokens: int = 24,
        review: ReviewRule | None = None,
        temperature: float = 1.0,
        tolerance: Mapping[str, float] | None = None,
        kind: str = "nominal",
        labels: tuple[str, ...] = LABELS,
        thresholds: Mapping[str, float] | None = None,
        int8_overflow_free: bool = False,
        contexts: ShownContexts | None = None,
        guarantee: Guarantee | None = None,
        verdict: BundleVerdict | None = None,
        novelty: NoveltyFit | None = None,
        files: Mapping[str, Path | bytes | None] | None = None,
    ) -> Bundle:
        draft = Manifest(
            name=name,
            version="",
            task=Task(kind=kind, labels=tuple(map(Label, labels)), inputs=inputs),
            max_tokens=max_tokens,
            precision=precision,
            files={},
            review=review or ReviewRule(),
            temperature=temperature,
            thresholds=dict(thresholds or {}),
            int8_overflow_free=int8_overflow_free,
            contexts=contexts,
            guarantee=guarantee,
            verdict=verdict,
            novelty=novelty,
            metrics={"kappa": 0.61},
            provenance={"teacher": "none"},
        )
        usual: dict[str, Path | bytes | None] = {
            "config.json": b"{}",
            "tokenizer.json": parts / "tokenizer.json",
            "onnx/model.onnx": parts / "model.onnx",
            "onnx/model_quantized.onnx": parts / "model_quantized.onnx",
            "golden.json": golden(parts, inputs, max_tokens, tolerance or {"int8": 0.2, "fp32": 1e-5}),
            "README.md": b"# A tiny bundle\n",
        }
        kept = {path: source for path, source in {**usual, **(files or {})}.items() if source is not None}
        return write_bundle(folder, draft, kept)

    return make


@pytest.fixture(scope="session")
def bundle(make_bundle, tmp_path_factory) -> Bundle:
    """Scores a response alone."""
    return make_bundle(tmp_path_factory.mktemp("bundles") / "praise")


@pytest.fixture(scope="session")
def answers_bundle(make_bundle, tmp_path_factory) -> Bundle:
    """Scores a response to a question that has a reference answer."""
    folder = tmp_path_factory.mktemp("bundles") / "answers"
    return make_bundle(folder, name="answers", inputs=("question", "reference_answer", "response"))


@pytest.fixture(scope="session")
def moves_bundle(make_bundle, tmp_path_factory) -> Bundle:
    """A multilabel bundle, each label with a threshold of its own."""
    folder = tmp_path_factory.mktemp("bundles") / "moves"
    return make_bundle(folder, name="moves", kind="multilabel", thresholds=THRESHOLDS, temperature=4.0)


@pytest.fixture
def tampered(make_bundle, tmp_path) -> Callable[[Callable[[dict], object]], Path]:
    """Write a bundle and change its `bundle.json` as somebody with an editor would."""

    def make(change: Callable[[dict], object]) -> Path:
        file = make_bundle(tmp_path / "tampered").folder / "bundle.json"
        content = json.loads(file.read_text())
        change(content)
        file.write_text(json.dumps(content))
        return file.parent

    return make


@pytest.fixture
def held(bundle):
    """Creates queues whose graph can be paused."""
    opened = []

    def hold(of=bundle, **given):
        opened.append(Held(of, **given))
        return opened[-1]

    yield hold
    for one in opened:
        one.graph.open.set()
        one.queue.close()


@pytest.fixture(scope="module")
def sharing_bundle(bundle):
    """A bundle whose manifest says that it is batch-invariant, so that rows share batches."""
    return replace(bundle, manifest=msgspec.structs.replace(bundle.manifest, batch_invariant=True, precision="fp32"))
