"""What each int8 recipe costs and gives on Beetle's unseen answers.

    python benchmarks/quantization_recipes.py DATA STUDENT [STUDENT ...]

DATA is the folder with train.csv and test_ua.csv; a STUDENT is a checkpoint that was fine-tuned on question, first
reference answer and response, and not on the 400 rows that are drawn here to calibrate with. Rows are scored alone;
batch flips compare with batches of 32 strangers. Speeds are the best of three rounds in which the graphs take turns.
"""

import argparse
import csv
import random
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from rich.console import Console
from rich.table import Table
from sklearn.metrics import cohen_kappa_score, f1_score

from edgedistill_export.checkpoint import Checkpoint
from edgedistill_export.conversion import to_onnx
from edgedistill_export.parity import graph_logits
from edgedistill_export.quantization import RECIPES, Recipe, measured_int8
from edgedistill_export.tuning import Judge, tune
from edgedistill_serve.encoding import Encoded
from edgedistill_serve.task import Label, Task

LABELS = ("correct", "contradictory", "incorrect")
TASK = Task("nominal", tuple(map(Label, LABELS)), ("question", "reference_answer", "response"))
TRIED = RECIPES | {"int8-mixed, nearest integers": partial(measured_int8, carry=False)}
HEADS = ("recipe", "flips", "largest", "batch", "macro-F1", "kappa", "alone 1/2", "batched 1/2", "MB", "load s")


def read(file: Path) -> list[dict[str, str]]:
    """Rows of a CSV file, with the first of the reference answers."""
    with file.open(encoding="utf-8", newline="") as stream:
        return [row | {"reference_answer": row["reference_answer"].split(" || ")[0]} for row in csv.DictReader(stream)]


def calibrated(recipe: Recipe, rows: Sequence[Encoded]) -> Recipe:
    """The recipe with these calibration rows, whatever rows it is judged by."""
    return lambda fp32, int8, _judged: recipe(fp32, int8, rows)


def measure(data: Path, folder: Path) -> Table:
    """Make and measure every recipe for one student."""
    student = Checkpoint.load(folder, TASK, 128)
    train, test = read(data / "train.csv"), read(data / "test_ua.csv")
    random.Random(0).shuffle(train)  # noqa: S311  a draw of rows, not a secret
    held_out = student.encoder.encode(train[:400])
    codes = [row["label"] for row in test]
    table = Table(*HEADS, title=folder.name)
    with TemporaryDirectory() as work:
        fp32 = Path(work) / "model.onnx"
        to_onnx(student, fp32)
        recipes = {name: calibrated(recipe, held_out) for name, recipe in TRIED.items()}
        judge = Judge(student.encoder.encode(test), TASK, 1.0, 0.005, codes)
        for one in tune(fp32, recipes, Path(work), judge).tried:
            if one.fault is not None:
                table.add_row(one.recipe, one.fault)
                continue
            file = fp32 if one.recipe == "fp32" else Path(work) / f"{one.recipe}.onnx"
            chosen = np.array(LABELS)[graph_logits(file, student.encoder, test).argmax(axis=1)]
            table.add_row(
                one.recipe,
                f"{one.flip_rate:.2%}",
                f"{one.max_probability_difference:.3f}",
                str(one.batch_flips),
                f"{f1_score(codes, chosen, average='macro'):.3f}",
                f"{cohen_kappa_score(codes, chosen):.3f}",
                "/".join(f"{speed:.0f}" for speed in (one.texts_per_second or {}).values()),
                "/".join(f"{speed:.0f}" for speed in (one.batched_per_second or {}).values()),
                f"{(one.bytes or 0) / 1e6:.1f}",
                f"{one.load_seconds:.2f}",
            )
    return table


def main() -> None:
    """Print a table for each student."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("students", type=Path, nargs="+")
    given = parser.parse_args()
    for folder in given.students:
        Console(width=140).print(measure(given.data, folder))


if __name__ == "__main__":
    main()
