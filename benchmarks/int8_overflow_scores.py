"""Score the graphs that `int8_overflow.py` left in OUT on this processor, as any program with onnxruntime would.

    qemu-x86_64 -cpu Haswell .venv/bin/python benchmarks/int8_overflow_scores.py OUT [RECIPE]

Each graph runs with and without `session.x64quantprecision`, and is compared with the scores of the processor that made
it. Debian's qemu-user stands in for a processor without VNNI.
"""

import json
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime


def score(file: Path, rows: Sequence[Sequence[Sequence[int]]], *, exact: bool) -> npt.NDArray[np.float32]:
    """Return logits, of shape (rows, labels).

    Args:
        file: The graph.
        rows: Token ids and segment ids of each.
        exact: Whether onnxruntime shall keep 8-bit products exact, which is slower.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    if exact:
        options.add_session_config_entry("session.x64quantprecision", "1")
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    names = {given.name for given in session.get_inputs()}
    found = []
    for ids, types in rows:
        fed = {"input_ids": [ids], "attention_mask": [[1] * len(ids)], "token_type_ids": [types]}
        found.append(session.run(["logits"], {name: np.array(fed[name]) for name in names})[0][0])
    return np.array(found, dtype=np.float32)


def main(out: Path, recipe: str = "") -> None:
    """Print, over all students, how many labels differ and by how much logits do, for each graph of a recipe or all."""
    flips: dict[tuple[str, bool], int] = defaultdict(int)
    rows: dict[tuple[str, bool], int] = defaultdict(int)
    largest: dict[tuple[str, bool], float] = defaultdict(float)
    for file in sorted(out.glob("*/scores.json")):
        kept = json.loads(file.read_text(encoding="utf-8"))
        for name, logits in kept["logits"].items():
            if recipe and not name.startswith(f"{recipe}."):
                continue
            wanted = np.array(logits)
            for exact in (False, True):
                found = score(file.parent / name, kept["rows"], exact=exact)
                flips[name, exact] += int((found.argmax(1) != wanted.argmax(1)).sum())
                rows[name, exact] += len(found)
                largest[name, exact] = max(largest[name, exact], float(np.abs(found - wanted).max()))
    print("| graph | setting | labels that differ | largest change of a logit |\n|---|---|---|---|")
    for (name, exact), differ in flips.items():
        setting = "on" if exact else "off"
        print(f"| {name} | {setting} | {differ} of {rows[name, exact]} | {largest[name, exact]:.2g} |")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
