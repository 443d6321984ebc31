"""How many injected faults the self-check finds with golden rows that were written for it, and with validation rows.

    python benchmarks/golden_faults.py CHECKPOINT HUMAN.csv --labels process outcome no_praise [--graph int8|fp32]

CHECKPOINT is a Hugging Face classifier. HUMAN.csv has a column ``response``; golden rows are chosen from its first 80
rows as an export with ``golden: validation`` chooses them. Each fault changes one thing: the weights of a matrix, the
embeddings of tokens, or the tokenizer. A fault is found if a probability of a golden row moves by more than the
tolerance. It is harmful if a probability of one of the next 100 responses does.
"""

import argparse
import csv
import json
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnx
from onnx import numpy_helper

from edgedistill_export import Checkpoint
from edgedistill_export.convert.exporter import to_onnx
from edgedistill_export.quantize.recipes import DEFAULT
from edgedistill_export.verify.golden import TOLERANCE, choose_golden_rows, choose_written_rows, written_rows
from edgedistill_export.verify.parity import graph_logits, probability_differences
from edgedistill_serve.scoring.encoding import Encoder
from edgedistill_serve.task.label_decoding import LabelDecoder
from edgedistill_serve.task.task import Label, Task

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
Rows: TypeAlias = Sequence[Mapping[str, str]]
MAX_TOKENS = 128


def _one_row(values: Array, draw: np.random.Generator) -> Array:
    changed = values.copy()
    changed[draw.integers(len(values))] *= -1
    return changed


def _one_value(values: Array, draw: np.random.Generator) -> Array:
    """Flip the highest bit of an int8 value, or the sign of the largest of 64 floats."""
    changed = values.copy().reshape(-1)
    places = draw.integers(changed.size, size=64)
    place = places[np.abs(changed[places].astype(np.float64)).argmax()]
    changed[place] = -changed[place]
    return changed.reshape(values.shape)


WEIGHT_FAULTS: Mapping[str, Callable[[Array, np.random.Generator], Array]] = {
    "negated": lambda values, _: -values,
    "zeroed": lambda values, _: np.zeros_like(values),
    "rows permuted": lambda values, draw: values[draw.permutation(len(values))],
    "halved": lambda values, _: (values / 2).astype(values.dtype),
    "one row negated": _one_row,
    "one value negated": _one_value,
}


def weight_faults(graph: Path, draw: np.random.Generator) -> Iterator[tuple[str, onnx.ModelProto]]:
    """Yield a changed graph for every matrix of weights and every fault; embeddings of tokens are apart."""
    model = onnx.load(graph)
    matrices = [
        tensor
        for tensor in model.graph.initializer
        if len(tensor.dims) >= 2
        and np.prod(tensor.dims) >= 512
        and tensor.data_type in (onnx.TensorProto.FLOAT, onnx.TensorProto.INT8)
    ]
    for tensor in matrices:
        original, kept = numpy_helper.to_array(tensor), onnx.TensorProto()
        kept.CopyFrom(tensor)
        if original.shape[0] > 10_000:
            for share in (0.5, 0.1, 0.01, 0.001):
                rows = draw.choice(len(original), max(1, round(share * len(original))), replace=False)
                changed = original.copy()
                changed[rows] = changed[draw.permutation(rows)]
                tensor.CopyFrom(numpy_helper.from_array(changed, tensor.name))
                yield f"{share:.1%} of the tokens exchanged", model
        else:
            for name, change in WEIGHT_FAULTS.items():
                tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(change(original, draw)), tensor.name))
                yield f"weights {name}", model
        tensor.CopyFrom(kept)


def tokenizer_faults(content: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield changed tokenizers."""
    vocabulary = content["model"]["vocab"]
    yield "tokenizer: case kept", content | {"normalizer": {**content["normalizer"], "lowercase": False}}
    yield "tokenizer: accents kept", content | {"normalizer": {**content["normalizer"], "strip_accents": False}}
    yield "tokenizer: no normalizer", content | {"normalizer": None}
    yield "tokenizer: split at spaces only", content | {"pre_tokenizer": {"type": "WhitespaceSplit"}}
    moved = {
        token: number if number < 1000 else 1000 + (number - 999) % (len(vocabulary) - 1000)
        for token, number in vocabulary.items()
    }
    yield "tokenizer: ids off by one", content | {"model": {**content["model"], "vocab": moved}}
    longest = {**content["model"], "max_input_chars_per_word": 8}
    yield "tokenizer: long words unknown", content | {"model": longest}
    yield "tokenizer: no special tokens", content | {"post_processor": None}
    half = {
        token: number
        for token, number in vocabulary.items()
        if not token.startswith("##") or number % 2 == 0 or len(token) == 3
    }
    yield "tokenizer: half of the inner tokens missing", content | {"model": {**content["model"], "vocab": half}}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("human", type=Path)
    parser.add_argument("--labels", nargs="+", required=True)
    parser.add_argument("--graph", choices=("int8", "fp32"), default="int8")
    parser.add_argument("--responses", type=int, default=100, help="responses whose change is measured")
    given = parser.parse_args()
    task = Task("nominal", tuple(map(Label, given.labels)), ("response",))
    student, decoder = Checkpoint.load(given.checkpoint, task, MAX_TOKENS), LabelDecoder(task)
    with given.human.open(encoding="utf-8", newline="") as stream:
        responses = [{"response": row["response"]} for row in csv.DictReader(stream)]
    validation, measured = responses[:80], responses[80 : 80 + given.responses]
    with tempfile.TemporaryDirectory() as work:
        graph = Path(work) / "fp32.onnx"
        to_onnx(student, graph)
        candidates, required = written_rows(task, student.encoder, (given.checkpoint / "tokenizer.json").read_bytes())
        fp32 = graph_logits(graph, student.encoder, candidates)
        tokens = [row.ids for row in student.encoder.encode(candidates)]
        sets: dict[str, Rows] = {
            "written": [candidates[row] for row in choose_written_rows(fp32, tokens, decoder, required)],
            "validation": [
                validation[row] for row in choose_golden_rows(graph_logits(graph, student.encoder, validation), decoder)
            ],
            "responses": measured,
        }
        if given.graph == "int8":
            DEFAULT(graph, Path(work) / "int8.onnx", student.encoder.encode(validation))
            graph = Path(work) / "int8.onnx"
        _measure(graph, student, decoder, sets, TOLERANCE[given.graph], Path(work))


def _measure(
    graph: Path, student: Checkpoint, decoder: LabelDecoder, sets: Mapping[str, Rows], tolerance: float, work: Path
) -> None:
    expected = {name: graph_logits(graph, student.encoder, rows) for name, rows in sets.items()}
    found: dict[str, list[tuple[bool, bool, float]]] = {}

    def compare(kind: str, file: Path, encoder: Encoder) -> None:
        moved = {}
        for name, rows in sets.items():
            try:
                logits = graph_logits(file, encoder, rows)
                moved[name] = probability_differences(expected[name], logits, decoder) > tolerance
            except Exception:  # noqa: BLE001  # a graph that fails is found by every set
                moved[name] = np.ones(len(rows), dtype=bool)
        found.setdefault(kind, []).append(
            (bool(moved["written"].any()), bool(moved["validation"].any()), float(moved["responses"].mean()))
        )

    for kind, model in weight_faults(graph, np.random.default_rng(0)):
        onnx.save(model, work / "changed.onnx")
        compare(kind, work / "changed.onnx", student.encoder)
    for kind, content in tokenizer_faults(json.loads((student.folder / "tokenizer.json").read_text("utf-8"))):
        (work / "tokenizer.json").write_text(json.dumps(content), "utf-8")
        compare(kind, graph, Encoder(work / "tokenizer.json", MAX_TOKENS))
    sizes = {name: sum(len(row.ids) for row in student.encoder.encode(rows)) for name, rows in sets.items()}
    print(f"tokens of the golden rows: written {sizes['written']}, validation {sizes['validation']}\n")
    head = (
        "fault",
        "injected",
        "found by written rows",
        "found by validation rows",
        "harmful",
        "missed though harmful",
    )
    print(f"| {' | '.join((*head, 'responses moved'))} |")
    print("|---" * 7 + "|")
    totals: Counter[str] = Counter()
    for kind, results in found.items():
        written, validation, shares = (list(column) for column in zip(*results, strict=True))
        harmful = sum(share > 0 for share in shares)
        missed = [
            sum(share > 0 and not hit for share, hit in zip(shares, hits, strict=True))
            for hits in (written, validation)
        ]
        totals.update(n=len(results), w=sum(written), v=sum(validation), h=harmful, mw=missed[0], mv=missed[1])
        print(
            f"| {kind} | {len(results)} | {sum(written)} | {sum(validation)} | {harmful} | {missed[0]}, {missed[1]} "
            f"| {np.mean(shares):.0%} |"
        )
    print(f"| all | {totals['n']} | {totals['w']} | {totals['v']} | {totals['h']} | {totals['mw']}, {totals['mv']} | |")


if __name__ == "__main__":
    main()
