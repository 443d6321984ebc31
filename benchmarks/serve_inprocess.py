"""Scoring speed inside one process: our scorer, simple loops and common pipelines, with the same int8 graph.

    python benchmarks/serve_inprocess.py BUNDLE BEETLE --out results.json

BUNDLE is an int8 bundle, BEETLE the folder with Beetle's train.csv, test_ua.csv and test_uq.csv. Every system runs in a
separate process with two cores. The systems take turns in several rounds with the same rows; the figures are medians of
the rounds, and ratios are computed within rounds. First the rows are distinct and our scorer has no cache. Then the
distinct rows are repeated and shuffled, and our scorer starts again with its default settings.

Requires, in addition to edgedistill-serve[cpu]: torch, transformers, optimum-onnx.
"""

import argparse
import csv
import json
import multiprocessing
import random
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

from edgedistill_serve import Bundle, Scorer
from edgedistill_serve.task.task import model_texts

Texts = tuple[str, str | None]
System = Callable[[Sequence[dict[str, str]]], int]
"""Scores rows, and returns the number of labels."""
Speed = tuple[float, float]
"""Rows per second, and rows per second of CPU time, which depends less on other load on the machine."""
OURS, ALONE, SORTED = "ours", "hand-made loop, each row alone", "hand-made loop, sorted 512-token batches"
LISTS = "ours, 64 rows at a time"
LIST = 64
"""As many rows as there are requests at once in `serve_http.py`."""
CALLERS = 2


def ours(bundle: Path) -> System:
    """Return a scorer without cache."""
    scorer = Scorer(Bundle.load(bundle), threads=CALLERS, score_cache=0)
    return lambda rows: len(scorer.score(rows))


def ours_in_lists(bundle: Path) -> System:
    """Return a scorer without cache that is called with few rows at a time, as a server with few requests at once."""
    score = ours(bundle)
    return lambda rows: sum(score(rows[first : first + LIST]) for first in range(0, len(rows), LIST))


def ours_as_shipped(bundle: Path) -> System:
    """Return a scorer with default settings."""
    scorer = Scorer(Bundle.load(bundle), threads=CALLERS)
    return lambda rows: len(scorer.score(rows))


def hand_made(bundle: Path, *, alone: bool) -> System:
    """Return a simple implementation: one session with one internal thread, and two callers."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(bundle / "onnx" / "model_quantized.onnx", options)
    tokenizer = Tokenizer.from_file(str(bundle / "tokenizer.json"))
    tokenizer.enable_truncation(128)
    tokenizer.no_padding()
    names = [node.name for node in session.get_inputs()]

    def run(rows: Sequence[Any]) -> list[int]:
        shape = len(rows), max(len(row.ids) for row in rows)
        given = {name: np.zeros(shape, dtype=np.int64) for name in ("input_ids", "token_type_ids", "attention_mask")}
        for place, row in enumerate(rows):
            length = len(row.ids)
            given["input_ids"][place, :length] = row.ids
            given["token_type_ids"][place, :length] = row.type_ids
            given["attention_mask"][place, :length] = 1
        logits = session.run(["logits"], {name: given[name] for name in names})[0]
        weights = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares = weights / weights.sum(axis=1, keepdims=True)
        return [int(label) for label in shares.argmax(axis=1)]

    def score(rows: Sequence[dict[str, str]]) -> int:
        pairs = [model_texts(row) for row in rows]
        encodings = tokenizer.encode_batch([first if second is None else (first, second) for first, second in pairs])
        lengths = [len(row.ids) for row in encodings]
        batches = [[place] for place in range(len(rows))] if alone else sorted_batches(lengths)
        return len(by_callers(batches, lambda batch: run([encodings[place] for place in batch])))

    return score


def sorted_batches(lengths: Sequence[int], budget: int = 512) -> list[list[int]]:
    """Divide rows, shortest first, into batches within a token budget, including padding."""
    batches: list[list[int]] = []
    for place in sorted(range(len(lengths)), key=lengths.__getitem__):
        if not batches or (len(batches[-1]) + 1) * lengths[place] > budget:
            batches.append([])
        batches[-1].append(place)
    return batches


def by_callers(batches: Sequence[list[int]], run: Callable[[list[int]], list[int]]) -> dict[int, int]:
    """Process batches on several threads, and return the label of every row."""
    labels: dict[int, int] = {}
    work, lock = iter(batches), threading.Lock()

    def call() -> None:
        while True:
            with lock:
                batch = next(work, None)
            if batch is None:
                return
            labels.update(zip(batch, run(batch), strict=True))

    callers = [threading.Thread(target=call) for _ in range(CALLERS)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    return labels


def pipeline(bundle: Path, *, batch: int, int8: bool) -> System:
    """Return the pipeline of transformers, with fp32 weights in PyTorch or, with optimum, with the int8 graph."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer
    from transformers import pipeline as make

    tokenizer = AutoTokenizer.from_pretrained(bundle)
    if int8:
        from optimum.onnxruntime import ORTModelForSequenceClassification

        model = ORTModelForSequenceClassification.from_pretrained(
            bundle, subfolder="onnx", file_name="model_quantized.onnx"
        )
    else:
        # Random weights, because the bundle has none for PyTorch; the speed does not depend on them.
        from transformers import AutoConfig

        model = AutoModelForSequenceClassification.from_config(AutoConfig.from_pretrained(bundle)).eval()
    classify = make("text-classification", model=model, tokenizer=tokenizer, device="cpu", framework="pt")

    def inputs(rows: Sequence[dict[str, str]]) -> Iterator[dict[str, str]]:
        for first, second in map(model_texts, rows):
            yield {"text": first} if second is None else {"text": first, "text_pair": second}

    return lambda rows: len(classify(list(inputs(rows)), batch_size=batch, truncation=True, max_length=128))


SYSTEMS: dict[str, Callable[[Path], System]] = {
    OURS: ours,
    LISTS: ours_in_lists,
    ALONE: lambda bundle: hand_made(bundle, alone=True),
    SORTED: lambda bundle: hand_made(bundle, alone=False),
    "optimum pipeline, int8, batch 1": lambda bundle: pipeline(bundle, batch=1, int8=True),
    "optimum pipeline, int8, batch 32": lambda bundle: pipeline(bundle, batch=32, int8=True),
    "transformers pipeline, fp32, batch 32": lambda bundle: pipeline(bundle, batch=32, int8=False),
}
SHIPPED = "ours, as shipped"


def work(name: str, bundle: Path, line: Connection) -> None:
    """Run one system in this process: score rows from the pipe, and send back the time."""
    score = ours_as_shipped(bundle) if name == SHIPPED else SYSTEMS[name](bundle)
    line.send("ready")
    while rows := line.recv():
        started, used = time.perf_counter(), time.process_time()
        scored = score(rows)
        line.send((scored, time.perf_counter() - started, time.process_time() - used))


class Process:
    """A system in a separate process."""

    def __init__(self, name: str, bundle: Path) -> None:
        self.name = name
        self._line, theirs = multiprocessing.Pipe()
        self._process = multiprocessing.get_context("spawn").Process(target=work, args=(name, bundle, theirs))
        self._process.start()
        theirs.close()
        self._answer()

    def speed(self, rows: Sequence[dict[str, str]]) -> Speed:
        """Return rows per second, and rows per second of CPU time."""
        self._line.send(rows)
        scored, seconds, of_a_core = self._answer()
        if scored != len(rows):
            sys.exit(f"{self.name} scored {scored} of {len(rows)} rows")
        return len(rows) / float(seconds), len(rows) / float(of_a_core)

    def _answer(self) -> Any:
        try:
            return self._line.recv()
        except EOFError:
            sys.exit(f"{self.name} ended with an error")

    def end(self) -> None:
        """End the process."""
        self._line.send([])
        self._process.join()


def beetle(folder: Path, inputs: Sequence[str]) -> list[dict[str, str]]:
    """Return the distinct Beetle rows, in file order."""
    rows: dict[tuple[str, ...], dict[str, str]] = {}
    for name in ("train.csv", "test_ua.csv", "test_uq.csv"):
        with (folder / name).open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                given = {key: row[key] for key in inputs}
                rows.setdefault(tuple(given.values()), given)
    return list(rows.values())


def compare(systems: Sequence[Process], rounds: Sequence[Sequence[dict[str, str]]]) -> dict[str, dict[str, float]]:
    """Measure the systems in turns; return the speeds, and the speed of the first relative to each."""
    speeds: dict[str, list[Speed]] = {system.name: [] for system in systems}
    for turn, rows in enumerate(rounds):
        # The order alternates between rounds.
        for system in [*systems[turn % len(systems) :], *systems[: turn % len(systems)]]:
            speeds[system.name].append(system.speed(rows))
            wall, core = speeds[system.name][-1]
            print(f"  {system.name}: {wall:.0f}/s, {core:.0f} per second of a core", file=sys.stderr, flush=True)
    first = speeds[systems[0].name]
    return {name: figures(first, found) for name, found in speeds.items()}


def figures(first: Sequence[Speed], found: Sequence[Speed]) -> dict[str, float]:
    """Return the median speeds of a system, and the median ratios to the first one within rounds."""
    return {
        "texts_per_second": round(statistics.median(wall for wall, _ in found), 1),
        "ours_is_times": round(statistics.median(a[0] / b[0] for a, b in zip(first, found, strict=True)), 3),
        "texts_per_second_of_a_core": round(statistics.median(core for _, core in found), 1),
        "ours_is_times_by_core": round(statistics.median(a[1] / b[1] for a, b in zip(first, found, strict=True)), 3),
    }


def show(title: str, found: dict[str, dict[str, float]]) -> None:
    """Print a table."""
    print(f"\n{title}\n")
    print("| system | texts/s | ours is so many times | texts per second of a core | ours is so many times |")
    print("|---|---|---|---|---|")
    for name, (wall, times, core, core_times) in ((name, row.values()) for name, row in found.items()):
        print(f"| {name} | {wall:.0f} | {times:.2f} | {core:.0f} | {core_times:.2f} |", flush=True)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("beetle", type=Path)
    parser.add_argument("--out", type=Path, help="write the figures here as JSON")
    parser.add_argument("--rows", type=int, default=800, help="distinct rows per round")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--repeated", type=int, default=20_000, help="rows with duplicates; 0 leaves that part out")
    parser.add_argument("--only", nargs="*", help="beginnings of the systems' names; ours is always there")
    given = parser.parse_args()
    rows = beetle(given.beetle, Bundle.load(given.bundle).task.inputs)
    draw = random.Random(5)  # noqa: S311  # not used for security
    names = [name for name in SYSTEMS if name == OURS or not given.only or name.startswith(tuple(given.only))]
    systems = [Process(name, given.bundle) for name in names]
    for system in systems:
        system.speed(rows[:100])
    result: dict[str, Any] = {"distinct_rows": len(rows), "rows_of_a_round": given.rows, "rounds": given.rounds}
    rounds = [draw.sample(rows, min(given.rows, len(rows))) for _ in range(given.rounds)]
    result["distinct"] = compare(systems, rounds)
    show(f"{given.rows} distinct rows a round, {given.rounds} rounds", result["distinct"])
    if given.repeated:
        repeated = [rows[place % len(rows)] for place in range(given.repeated)]
        draw.shuffle(repeated)
        systems[0].end()
        systems[0] = Process(SHIPPED, given.bundle)
        result["repeated"] = compare(systems, [repeated])
        show(f"{given.repeated} rows, {len(rows)} of them distinct, once", result["repeated"])
    for system in systems:
        system.end()
    if given.out:
        given.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
