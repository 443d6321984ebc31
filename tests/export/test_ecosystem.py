"""The bundle's folder as other readers take it: optimum in Python, and the layout text-embeddings-inference loads.

What that server asks for is written down here from its loader (router/src/lib.rs and backends/ort/src/lib.rs, 2025):
it reads a local folder, takes a model whose architecture ends in ``Classification`` for a classifier, and runs
``model.onnx`` or ``onnx/model.onnx`` in fp32.
"""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from tokenizers import Tokenizer
from transformers import AutoConfig, AutoTokenizer

from edgedistill_export import ExportPlan, export_bundle
from edgedistill_serve.bundle.manifest import Precision
from edgedistill_serve.scoring.graph_choice import load_encoder
from edgedistill_serve.scoring.scorer import Scorer
from edgedistill_serve.task.task import model_texts

from .tiny import BERT, DISTILBERT, FAMILIES, GRADING, MAX_TOKENS, PRAISE, ROBERTA, TEXTS, Kin, save_student


def _exported(place: Path, task, kin: Kin, rows, precision: Precision = "int8", vocabulary="cut"):
    student = save_student(place / "student", task, kin)
    plan = ExportPlan("praise", task, MAX_TOKENS, precision, 1.0, vocabulary=vocabulary, novelty_rows=rows)
    bundle = export_bundle(student, place / "bundle", plan, rows).bundle
    assert bundle.manifest.novelty is not None, "other readers must open a graph with a second output"
    return bundle


def _short_rows(task):
    """Sixty rows that fit whole, since optimum cuts the longer text first and the scorer the context."""
    words = " ".join(TEXTS[:6]).split()
    context = {"question": "Why did it stay on?", "reference_answer": "no gap"}
    texts = [" ".join(words[(i * 5 + k) % len(words)] for k in range(1 + i % 3)) for i in range(60)]
    return [{name: context[name] for name in task.inputs if name in context} | {"response": text} for text in texts]


# optimum and onnxruntime warn of their own future on import and load, which is not what these tests are about
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("precision", ["int8", "fp32"])
@pytest.mark.parametrize("task", [PRAISE, GRADING], ids=["response alone", "pair"])
def test_optimum_gives_the_scorers_labels(tmp_path: Path, task, precision: Precision):
    loader = pytest.importorskip("optimum.onnxruntime").ORTModelForSequenceClassification

    rows = _short_rows(task)
    bundle = _exported(tmp_path, task, BERT, rows, precision)
    file = bundle.model_file(precision)
    assert file is not None
    model = loader.from_pretrained(bundle.folder, subfolder="onnx", file_name=file.name)
    tokenizer = AutoTokenizer.from_pretrained(bundle.folder)
    texts = [[text for text in model_texts(row) if text is not None] for row in rows]
    logits = np.array([model(**tokenizer(*given, return_tensors="np"))[0][0] for given in texts])
    scores = Scorer(bundle, threads=1).score(rows)
    assert not any(score.truncated for score in scores)
    assert [model.config.id2label[i] for i in logits.argmax(axis=1)] == [score.label for score in scores]
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert shares.max(axis=1).tolist() == pytest.approx([score.probability for score in scores], abs=1e-4)


@pytest.mark.parametrize("kin", FAMILIES, ids=lambda kin: kin.name)
def test_text_embeddings_inference_finds_what_its_loader_asks_for(tmp_path: Path, kin: Kin):
    folder = _exported(tmp_path, PRAISE, kin, _short_rows(PRAISE), vocabulary="full").folder
    config = json.loads((folder / "config.json").read_text())
    # The router's ModelConfig, and the ort backend's Config: both refuse a field that is missing or of another type.
    assert any(name.endswith("Classification") for name in config["architectures"])
    assert isinstance(config["model_type"], str)
    for key in ("max_position_embeddings", "pad_token_id", "hidden_size", "num_hidden_layers"):
        assert type(config[key]) is int
        assert config[key] >= 0
    assert config["id2label"] == {str(i): name for i, name in enumerate(PRAISE.names)}
    assert config["label2id"] == {name: i for i, name in enumerate(PRAISE.names)}
    tokenizer = json.loads((folder / "tokenizer_config.json").read_text())
    assert tokenizer.get("padding_side", "right") in ("left", "right")
    assert (
        Tokenizer.from_file(str(folder / "tokenizer.json")).token_to_id(tokenizer["pad_token"])
        == config["pad_token_id"]
    )
    # What its ort backend feeds, and the output it takes, in float32.
    graph = onnx.load(folder / "onnx/model.onnx").graph
    assert {node.name for node in graph.input} <= {"input_ids", "attention_mask", "token_type_ids", "position_ids"}
    # It takes the first output, or that of this name.
    assert [node.name for node in graph.output] == ["logits", "novelty"]
    assert graph.output[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT


def _padding(student: Path) -> Path:
    """A student whose tokenizer pads every text and cuts it elsewhere, as sentence-transformers publishes it."""
    tokenizer = Tokenizer.from_file(str(student / "tokenizer.json"))
    tokenizer.enable_padding(length=MAX_TOKENS, pad_id=tokenizer.token_to_id("[PAD]"), pad_token="[PAD]")
    tokenizer.enable_truncation(2 * MAX_TOKENS)
    tokenizer.save(str(student / "tokenizer.json"))
    return student


@pytest.mark.parametrize("vocabulary", ["full", "cut"])
def test_the_bundles_tokenizer_pads_nothing_unasked_and_cuts_where_the_scorer_does(tmp_path: Path, vocabulary):
    student = _padding(save_student(tmp_path / "student", PRAISE))
    assert len(Tokenizer.from_file(str(student / "tokenizer.json")).encode("ok")) == MAX_TOKENS
    plan = ExportPlan("praise", PRAISE, MAX_TOKENS, "fp32", 1.0, vocabulary=vocabulary)
    bundle = export_bundle(student, tmp_path / "bundle", plan, _short_rows(PRAISE)).bundle
    opened, texts = Tokenizer.from_file(str(bundle.tokenizer_file)), [text for text in TEXTS if "[SEP]" not in text]
    wanted = [list(each.ids) for each in load_encoder(bundle).encode([{"response": text} for text in texts])]
    assert opened.padding is None
    assert opened.truncation["max_length"] == MAX_TOKENS
    assert [opened.encode(text).ids for text in texts] == wanted
    transformers = AutoTokenizer.from_pretrained(bundle.folder)
    assert transformers(texts)["input_ids"] == wanted
    together = transformers(texts, padding=True)
    assert [sum(mask) for mask in together["attention_mask"]] == list(map(len, wanted))
    assert {len(ids) for ids in together["input_ids"]} == {max(map(len, wanted))}


@pytest.mark.parametrize("kin", [DISTILBERT, ROBERTA], ids=lambda kin: kin.name)
def test_sizes_under_two_names_are_read_as_one(tmp_path: Path, kin: Kin):
    folder = _exported(tmp_path, PRAISE, kin, _short_rows(PRAISE)).folder
    config = AutoConfig.from_pretrained(folder)
    assert (config.hidden_size, config.num_hidden_layers) == (32, 2)
    assert config.problem_type == "single_label_classification"


def test_what_transformers_5_writes_of_a_tokenizer_is_read_by_4_and_by_5(tmp_path: Path):
    student = save_student(tmp_path / "student", PRAISE)
    marks = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    written = {"backend": "tokenizers", "tokenizer_class": "TokenizersBackend", "extra_special_tokens": ["[MASK]"]}
    (student / "tokenizer_config.json").write_text(json.dumps(written | marks))
    (student / "special_tokens_map.json").unlink(missing_ok=True)
    plan = ExportPlan("praise", PRAISE, MAX_TOKENS, "fp32", 1.0)
    bundle = export_bundle(student, tmp_path / "bundle", plan, _short_rows(PRAISE)).bundle
    opened = AutoTokenizer.from_pretrained(bundle.folder)
    texts = [text for text in TEXTS if "[SEP]" not in text]
    wanted = [list(each.ids) for each in load_encoder(bundle).encode([{"response": text} for text in texts])]
    assert opened(texts)["input_ids"] == wanted
    assert opened.convert_tokens_to_ids("[MASK]") in opened.all_special_ids
    assert json.loads((bundle.folder / "special_tokens_map.json").read_text()) == marks
