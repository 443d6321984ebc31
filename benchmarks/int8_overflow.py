"""What it costs that no 8-bit product overflows without VNNI: flips, changes, speed and size beside other roundings.

    python benchmarks/int8_overflow.py OUT
    python benchmarks/int8_overflow.py OUT --student runs/praise/student --rows human.csv responses.csv
    qemu-x86_64 -cpu Haswell .venv/bin/python benchmarks/int8_overflow_scores.py OUT

Students are quantized with every recipe as it is now and, "before", with weights as wide as 8 bits allow; with the
default recipe also in other ways that cannot overflow. The table compares each graph with fp32 on the same rows; speed
is times fp32, in the same rounds. Without `--student` it takes nine of the tests' tiny random students. Of the rows,
the first 128 calibrate and the others are compared, unless there are too few.

OUT keeps the graphs and the scores of some rows, for `int8_overflow_scores.py`.
"""

import argparse
import csv
import json
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper
from onnxruntime.quantization import quantize_dynamic

from edgedistill_export.checkpoint import Checkpoint
from edgedistill_export.convert.exporter import to_onnx
from edgedistill_export.quantize import recipes, rounding
from edgedistill_export.quantize.recipes import RECIPES
from edgedistill_export.quantize.speed import measure_speeds
from edgedistill_serve.scoring.session import Session
from edgedistill_serve.task.task import Label, Task

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.export.tiny import FAMILIES, GRADING, rows_for, save_student

DEFAULT = "int8-apart"
CALIBRATION_ROWS = 128
INPUTS = ("question", "reference_answer", "response")
MOST_TOKENS = 128
KEPT_ROWS = 64
"""Rows whose scores are kept; a processor in software is slow."""
Row = Mapping[str, str]
Found = dict[str, list[dict[str, float]]]

_narrow = partial(rounding._scales, multiplied=False)


def _whole_range(*files: Path, **options: object) -> None:
    quantize_dynamic(*files, **{**options, "reduce_range": False})


VARIANTS: Mapping[str, Callable[[], Sequence[object]]] = {
    "before": lambda: [
        patch.object(rounding, "MAX_PAIR_SUM", 254),
        patch.object(recipes, "quantize_dynamic", _whole_range),
    ],
    "now": list,
    "pairs clipped, scales as before": lambda: [
        patch.object(rounding, "_scales", lambda weights, **_: _narrow(weights)),
    ],
    "7 bits": lambda: [patch.object(rounding, "_LARGEST", 63)],
}
"""What is changed while a recipe runs."""


def compare(student: Path, rows: Sequence[Row], out: Path, found: Found) -> None:
    """Add a student's figures to those of each recipe and variant."""
    config = json.loads((student / "config.json").read_text(encoding="utf-8"))
    names = [config["id2label"][str(place)] for place in range(len(config["id2label"]))]
    task = Task("nominal", tuple(map(Label, names)), tuple(name for name in INPUTS if name in rows[0]))
    checkpoint = Checkpoint.load(student, task, min(MOST_TOKENS, config["max_position_embeddings"] - 2))
    encoded = checkpoint.encoder.encode([{name: row[name] for name in task.inputs} for row in rows])
    judged = encoded[CALIBRATION_ROWS:] if len(encoded) > 2 * CALIBRATION_ROWS else encoded
    folder = out / student.name
    folder.mkdir(parents=True, exist_ok=True)
    files = {"fp32": folder / "fp32.onnx"}
    to_onnx(checkpoint, files["fp32"])
    for recipe, make in RECIPES.items():
        for variant, changes in VARIANTS.items():
            if recipe != DEFAULT and variant not in ("before", "now"):
                continue
            file = files[f"{recipe}, {variant}"] = folder / f"{recipe}.{variant.replace(' ', '-')}.onnx"
            with ExitStack() as stack:
                for change in changes():
                    stack.enter_context(change)  # type: ignore[arg-type]
                make(files["fp32"], file, encoded[:CALIBRATION_ROWS])
    sessions = {name: Session(file) for name, file in files.items()}
    logits = {name: np.array([session.logits(row) for row in judged]) for name, session in sessions.items()}
    speed = measure_speeds(sessions, judged, callers=(1,))
    for name, given in logits.items():
        change = np.abs(given - logits["fp32"])
        found[name].append(
            {
                "flips": (given.argmax(1) != logits["fp32"].argmax(1)).sum(),
                "rows": len(given),
                "mean": change.mean(),
                "largest": change.max(),
                "probability": np.abs(_shares(given) - _shares(logits["fp32"])).max(),
                "speed": speed[name].alone[1] / speed["fp32"].alone[1],
                "megabytes": files[name].stat().st_size / 1e6,
                "overflowing": _overflowing(files[name]),
            }
        )
    kept = {file.name: logits[name][:KEPT_ROWS].tolist() for name, file in files.items()}
    rows_kept = [[row.ids, row.type_ids] for row in judged[:KEPT_ROWS]]
    (folder / "scores.json").write_text(json.dumps({"rows": rows_kept, "logits": kept}), encoding="utf-8")


def table(found: Found) -> None:
    """Print sums of flips, largest changes, and means of the other figures over the students."""
    header = ("recipe", "flips", "mean change of a logit", "largest", "of a probability", "times fp32", "MB", "pairs")
    print("| " + " | ".join(header) + " |\n|" + "---|" * len(header))
    for name, of_students in found.items():
        column = {key: np.array([one[key] for one in of_students]) for key in of_students[0]}
        cells = (
            name,
            f"{column['flips'].sum():.0f} of {column['rows'].sum():.0f}",
            f"{column['mean'].mean():.4f}",
            f"{column['largest'].max():.3f}",
            f"{column['probability'].max():.3f}",
            f"{column['speed'].mean():.2f}",
            f"{column['megabytes'].mean():.2f}",
            f"{column['overflowing'].mean():.2%}",
        )
        print("| " + " | ".join(cells) + " |")


def _overflowing(file: Path) -> float:
    """The share of neighbouring weights whose products can overflow, in [0, 1]."""
    model = onnx.load(file)
    read = {node.input[1] for node in model.graph.node if node.op_type.startswith("MatMulInteger")}
    weights = [numpy_helper.to_array(tensor) for tensor in model.graph.initializer if tensor.name in read]
    sums = [rounding.pair_sums(one).ravel() for one in weights]
    return float((np.concatenate(sums) > rounding.MAX_PAIR_SUM).mean()) if sums else 0.0


def _shares(logits: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: npt.NDArray[np.float64] = raised / raised.sum(axis=1, keepdims=True)
    return shares


def main() -> None:
    """Read the command."""
    reader = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    reader.add_argument("out", type=Path)
    reader.add_argument("--student", type=Path, help="a checkpoint folder")
    reader.add_argument("--rows", type=Path, nargs="*", default=[], help="CSV files with the student's inputs")
    given = reader.parse_args()
    found: Found = defaultdict(list)
    if given.student:
        rows = [row for file in given.rows for row in csv.DictReader(file.open(encoding="utf-8"))]
        compare(given.student, rows, given.out, found)
    else:
        with TemporaryDirectory() as work:
            for kin in FAMILIES:
                for seed in (0, 1, 2):
                    folder = save_student(Path(work) / f"{kin.name}-{seed}", GRADING, kin, seed)
                    compare(folder, rows_for(GRADING), given.out, found)
    table(found)


if __name__ == "__main__":
    main()
