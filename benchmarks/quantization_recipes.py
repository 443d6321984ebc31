"""What each recipe costs and gives, with rows that choose a recipe and others that only report.

    python benchmarks/quantization_students.py DATA STUDENTS beetle 0 1 2
    python benchmarks/quantization_recipes.py measure DATA STUDENTS OUT beetle-0 beetle-1 beetle-2
    python benchmarks/quantization_recipes.py speed DATA STUDENTS OUT beetle-0
    python benchmarks/quantization_recipes.py table DATA OUT beetle-0 beetle-1 beetle-2

`measure` makes every graph and keeps its logits under OUT; what is there is not made again. `speed` lets the graphs
take turns: speeds are times fp32 within a round, of the processor's time, and the median of the rounds. `table` prints
means over the students: first on the rows that choose, then on those that chose nothing, and what scoring again in fp32
the rows with close labels would give. `quantization_sets.py` says which rows are which.
"""

import argparse
import json
import statistics
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from quantization_aware import aware_int8
from quantization_candidates import CANDIDATES
from quantization_sets import LESSONS, MAX_TOKENS, Row, split_of
from quantization_tables import choosing_table, identical, rescored_table, speed_table, test_table
from rich.console import Console

from edgedistill_export.checkpoint import Checkpoint
from edgedistill_export.convert.exporter import to_onnx
from edgedistill_export.errors import ExportFailed
from edgedistill_export.quantize.recipes import RECIPES, Recipe
from edgedistill_export.quantize.speed import Speed, measure_speeds
from edgedistill_serve.scoring.encoding import Encoded, Encoder
from edgedistill_serve.scoring.session import Session

ROUNDS = 7
"""Each times every graph once."""
STEPS = 300
CONSOLE = Console(width=200)


def texts(lesson: str, encoder: Encoder, rows: Sequence[Row]) -> list[Encoded]:
    """Encode the inputs of a lesson's rows."""
    return encoder.encode([{name: row[name] for name in LESSONS[lesson].task.inputs} for row in rows])


def measure(student: str, data: Path, students: Path, out: Path, only: Sequence[str]) -> None:
    """Make every graph of one student that is not there yet, and keep its logits."""
    lesson = student.rpartition("-")[0]
    split = split_of(lesson, data)
    checkpoint = Checkpoint.load(students / student, LESSONS[lesson].task, MAX_TOKENS)
    read = partial(texts, lesson, checkpoint.encoder)
    parts = {"choosing": read(split.choosing)} | {name: read(rows) for name, rows in split.tests.items()}
    folder = out / student
    folder.mkdir(parents=True, exist_ok=True)
    aware = {
        f"aware, {rate:g}": aware_int8(checkpoint, read(split.train), steps=STEPS, rate=rate) for rate in (2e-6, 1e-5)
    }
    fp32 = folder / "fp32.onnx"
    if not fp32.exists():
        to_onnx(checkpoint, fp32)
    recipes: dict[str, Recipe | None] = {"fp32": None} | RECIPES | CANDIDATES | aware
    for name, recipe in recipes.items():
        kept = folder / f"{name}.npz"
        if kept.exists() or (only and name not in only):
            continue
        file = folder / f"{name}.onnx"
        try:
            if recipe is not None:
                recipe(fp32, file, read(split.calibration))
        except ExportFailed as error:
            CONSOLE.print(f"{student}: {name}: {error}")
            continue
        session = Session(file)
        found = {part: np.array([session.logits(row) for row in rows]) for part, rows in parts.items()}
        some = parts["choosing"]
        strangers = [session.batch_logits(some[start : start + 32]) for start in range(0, len(some), 32)]
        np.savez(kept, **found, batches=np.concatenate(strangers))
        flips = (found["choosing"].argmax(1) != np.load(folder / "fp32.npz")["choosing"].argmax(1)).mean()
        CONSOLE.print(f"{student}: {name}: {flips:.2%} flips on choosing rows")


def time_graphs(student: str, data: Path, students: Path, out: Path, only: Sequence[str]) -> None:
    """Time the graphs of one student in turns, see whether batches keep their rows' scores, and keep the figures."""
    lesson = student.rpartition("-")[0]
    encoder = Encoder(students / student / "tokenizer.json", MAX_TOKENS)
    rows = texts(lesson, encoder, split_of(lesson, data).choosing)
    files = {file.stem: file for file in sorted((out / student).glob("*.onnx"))}
    if only:
        files = {name: file for name, file in files.items() if name in {*only, "fp32"}}
    sessions, loading = {}, {}
    for name, file in files.items():
        start = time.process_time()
        sessions[name] = Session(file)
        loading[name] = time.process_time() - start
    found: dict[str, list[Speed]] = {name: [] for name in sessions}
    for _ in range(ROUNDS):
        for name, speed in measure_speeds(sessions, rows, rounds=1).items():
            found[name].append(speed)
    kept = out / f"{student}.speed.json"
    message = json.loads(kept.read_text()) if kept.exists() else {}
    for name, session in sessions.items():
        message[name] = {
            "alone": _times_fp32(found, name, "alone"),
            "batched": _times_fp32(found, name, "batched"),
            "texts": statistics.median(speed.alone[1] for speed in found[name]),
            "load": loading[name],
            "bytes": files[name].stat().st_size,
            "identical": identical(session),
        }
        CONSOLE.print(name, message[name])
    kept.write_text(json.dumps(message, indent=1))


def _times_fp32(found: Mapping[str, Sequence[Speed]], name: str, how: str) -> list[float]:
    """Median over the rounds, for one caller and for two."""
    return [
        statistics.median(
            getattr(own, how)[callers] / getattr(fp32, how)[callers]
            for own, fp32 in zip(found[name], found["fp32"], strict=True)
        )
        for callers in (1, 2)
    ]


def main() -> None:
    """Measure, time, or print tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    steps = parser.add_subparsers(required=True)
    for name, step in (("measure", measure), ("speed", time_graphs)):
        made = steps.add_parser(name)
        made.set_defaults(step=step)
        for where in ("data", "students", "out"):
            made.add_argument(where, type=Path)
        made.add_argument("names", nargs="+")
        made.add_argument("--only", action="append", default=[])
    tables = steps.add_parser("table")
    tables.set_defaults(step=None)
    tables.add_argument("data", type=Path)
    tables.add_argument("out", type=Path)
    tables.add_argument("names", nargs="+")
    given = parser.parse_args()
    if given.step is not None:
        for name in given.names:
            given.step(name, given.data, given.students, given.out, given.only)
        return
    lesson = given.names[0].rpartition("-")[0]
    CONSOLE.print(choosing_table(given.out, given.names, lesson, given.data))
    for test in LESSONS[lesson].tests:
        CONSOLE.print(test_table(given.out, given.names, lesson, given.data, test))
        CONSOLE.print(rescored_table(given.out, given.names, test))
    for name in given.names:
        if (given.out / f"{name}.speed.json").exists():
            CONSOLE.print(speed_table(given.out, name))


if __name__ == "__main__":
    main()
