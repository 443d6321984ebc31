"""`edgedistill-serve grade` on a long file, beside the same scorer in memory and the usual pipelines.

    python benchmarks/grade_file.py BUNDLE BEETLE --out results.json [--rows 100000] [--peers 2000] [--kills 5]

BUNDLE is an int8 bundle, BEETLE the folder with Beetle's train.csv. The file has ROWS rows, 60 % of them distinct:
Beetle's answers with typing errors. Every system runs in a process of its own, one after the other, with two cores; the
peers, which are slower, read the first PEERS rows. `grade` is then killed (kill -9) at random moments and started
again, and its output is compared with the uninterrupted one. With `--steps ray`, rows per second and core are
measured on distinct texts, here with one and two threads and on Ray with one and two workers, from the end of the first
part to that of the last one. Results are written as they come, and a run that is started again goes on after the last
one.

Requires, in addition to edgedistill-serve[cpu,parquet]: torch, transformers and optimum-onnx for the peers, and
edgedistill-serve[ray] for the step of that name.
"""

import argparse
import csv
import hashlib
import json
import os
import random
import string
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

DISTINCT = 0.6
THREADS = 2
STEPS = ("grade", "peers", "kills", "ray")
GRADE = (sys.executable, "-m", "edgedistill_serve", "grade")


def write_rows(beetle: Path, target: Path, rows: int) -> None:
    """Write a table of answers with typing errors; 60 % of the rows are distinct, in random order."""
    with (beetle / "train.csv").open(newline="", encoding="utf-8") as file:
        answers = [row["response"] for row in csv.DictReader(file)]
    draw = random.Random(0)  # noqa: S311
    distinct = dict.fromkeys(answers[: int(rows * DISTINCT)])
    while len(distinct) < int(rows * DISTINCT):
        letters = list(draw.choice(answers))
        for _ in range(draw.randint(1, 3)):
            letters[draw.randrange(len(letters))] = draw.choice(string.ascii_lowercase + " ")
        distinct["".join(letters)] = None
    texts = [*distinct, *draw.choices(list(distinct), k=rows - len(distinct))]
    draw.shuffle(texts)
    with target.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "response"])
        writer.writerows(enumerate(texts))


def read_texts(source: Path, rows: int | None) -> list[str]:
    """Return the responses of a table."""
    with source.open(newline="", encoding="utf-8") as file:
        return [row["response"] for row, _ in zip(csv.DictReader(file), range(rows or 10**12), strict=False)]


def in_memory(bundle: Path, source: Path, _rows: int | None) -> tuple[int, float]:
    """Score all rows in memory, by one call of `Scorer.score`."""
    from edgedistill_serve import Bundle, Scorer

    texts = read_texts(source, None)
    scorer = Scorer(Bundle.load(bundle), threads=THREADS)
    started = time.perf_counter()
    scored = scorer.score(texts)
    return len(scored), time.perf_counter() - started


def transformers_pipeline(bundle: Path, source: Path, rows: int | None) -> tuple[int, float]:
    """Score a CSV file by the pipeline of transformers, fp32, in its default way: one row after the other."""
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer, pipeline

    torch.set_num_threads(THREADS)
    # Random weights, because the bundle has none for PyTorch; the speed does not depend on them.
    model = AutoModelForSequenceClassification.from_config(AutoConfig.from_pretrained(bundle)).eval()
    classify = pipeline(
        "text-classification",
        model=model,
        tokenizer=AutoTokenizer.from_pretrained(bundle),
        device="cpu",
        framework="pt",
    )
    texts = read_texts(source, rows)
    started = time.perf_counter()
    found = classify(texts, truncation=True, max_length=128)
    return len(found), time.perf_counter() - started


def optimum_loop(bundle: Path, source: Path, rows: int | None) -> tuple[int, float]:
    """Score a CSV file by optimum with the int8 graph, 32 rows in file order at a time."""
    import onnxruntime
    from optimum.onnxruntime import ORTModelForSequenceClassification
    from transformers import AutoTokenizer

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    model = ORTModelForSequenceClassification.from_pretrained(
        bundle, subfolder="onnx", file_name="model_quantized.onnx", session_options=options
    )
    tokenizer = AutoTokenizer.from_pretrained(bundle)
    texts, labels = read_texts(source, rows), []
    started = time.perf_counter()
    for start in range(0, len(texts), 32):
        encoded = tokenizer(
            texts[start : start + 32], padding=True, truncation=True, max_length=128, return_tensors="pt"
        )
        labels += model(**encoded).logits.argmax(-1).tolist()
    return len(labels), time.perf_counter() - started


def engines(bundle: Path, source: Path, rows: int | None) -> dict[str, float]:
    """Return the rows per second and core of both engines, without their start."""
    import pyarrow as pa
    import pyarrow.parquet

    from edgedistill_serve import Bundle, Scorer
    from edgedistill_serve.grading.grade import grade as grade_here
    from edgedistill_serve.grading.ray_engine import Workers, grade_on_ray

    table, loaded, found = source.with_name("distinct.parquet"), Bundle.load(bundle), {}
    texts = list(dict.fromkeys(read_texts(source, None)))[:rows]
    pa.parquet.write_table(pa.table({"response": texts}), table)

    def timed(name: str, cores: int, run: Callable[..., Any]) -> None:
        moments: list[tuple[float, int]] = []
        with tempfile.TemporaryDirectory() as folder:
            run(
                source=table,
                target=f"{folder}/out/",
                part_rows=256,
                progress=lambda counts, _share: moments.append((time.perf_counter(), counts.read)),
            )
        (first, before), (last, after) = moments[0], moments[-1]
        found[name] = round((after - before) / (last - first) / cores, 1)

    for cores in (1, 2):
        timed(f"here, {cores} threads", cores, partial(grade_here, Scorer(loaded, threads=cores)))
        timed(f"Ray, {cores} workers", cores, partial(grade_on_ray, loaded, workers=Workers(cores)))
    return found


SYSTEMS: dict[str, Callable[[Path, Path, int | None], tuple[int, float]]] = {
    "the same scorer in memory": in_memory,
    "transformers pipeline, fp32": transformers_pipeline,
    "optimum loop, int8, batch 32": optimum_loop,
}


def measured(command: Sequence[str]) -> tuple[float, int, str]:
    """Run a command; return its seconds, its peak memory in MB, and its output."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    output = process.stdout.read() if process.stdout else ""
    _, status, used = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{command[:4]} ended with status {status}")
    return time.perf_counter() - started, used.ru_maxrss // 1024, output


def grade(bundle: Path, source: Path, target: Path) -> dict[str, Any]:
    """Grade a file; its rows per second do not count the start of the process and the self-check."""
    command = (*GRADE, str(bundle), str(source), str(target), "--threads", str(THREADS), "--json")
    seconds, memory, output = measured(command)
    found = json.loads(output)
    return {
        "rows": found["read"],
        "scored": found["scored"],
        "rows_per_second": round(found["read"] / found["seconds"], 1),
        "seconds_with_start": round(seconds, 1),
        "peak_mb": memory,
    }


def peer(name: str, bundle: Path, source: Path, rows: int) -> dict[str, Any]:
    """Run one of the other systems in a process of its own."""
    _, memory, output = measured(
        (sys.executable, __file__, str(bundle), str(source), "--system", name, "--peers", str(rows))
    )
    scored, seconds = json.loads(output.splitlines()[-1])
    return {"rows": scored, "rows_per_second": round(scored / seconds, 1), "peak_mb": memory}


def whole_parts(target: Path) -> int:
    """Return the number of whole parts of a grading."""
    return len(list(target.parent.glob(f"{target.name}.parts/part-*.json")))


def kill_and_resume(
    bundle: Path, source: Path, whole: Path, *, kills: int, seconds: float, part_rows: int
) -> dict[str, Any]:
    """Kill a grading at random moments and start it again; compare its output with the uninterrupted one."""
    target = whole.with_name("killed" + whole.suffix)
    draw, moments = random.Random(1), []  # noqa: S311
    command = (*GRADE, str(bundle), str(source), str(target), "--threads", str(THREADS), "--part-rows", str(part_rows))
    before = 0
    for _ in range(kills):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and whole_parts(target) <= before:  # it starts, and makes one part more
            time.sleep(0.01)
        moment = draw.uniform(0, 0.8) * seconds / kills
        try:
            process.wait(moment)
            break
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            before = whole_parts(target)
            moments.append({"seconds_after_a_new_part": round(moment, 1), "whole_parts": before})
    if not target.exists():
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (whole, target)]
    return {"kills": moments, "identical": digests[0] == digests[1]}


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("beetle", type=Path)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--peers", type=int, default=2_000, help="rows that the peers score")
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--work", type=Path, help="folder of the tables, to go on after an interruption")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=STEPS[:3])
    parser.add_argument("--system", choices=[*SYSTEMS, "engines"], help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.system:
        run = engines if given.system == "engines" else SYSTEMS[given.system]
        sys.stdout.write(json.dumps(run(given.bundle, given.beetle, given.peers)) + "\n")
        return
    folder = given.work or Path(tempfile.mkdtemp())
    folder.mkdir(exist_ok=True)
    for rows in (given.rows, given.rows // 10):
        if not (folder / f"rows-{rows}.csv").exists():
            write_rows(given.beetle, folder / f"rows-{rows}.csv", rows)
    results: dict[str, Any] = json.loads(given.out.read_text()) if given.out and given.out.exists() else {}

    def once(name: str, run: Callable[[], dict[str, Any]]) -> None:
        if name not in results:
            results[name] = run()
            print(name, results[name], file=sys.stderr, flush=True)
            if given.out:
                given.out.write_text(json.dumps(results, indent=2) + "\n")

    for name, run in plan(given, folder, results):
        once(name, run)


def plan(given: argparse.Namespace, folder: Path, results: Mapping[str, Any]) -> Iterator[tuple[str, Callable]]:
    """Yield what is measured in the chosen steps."""
    bundle, source, whole = given.bundle, folder / f"rows-{given.rows}.csv", folder / "graded.csv"
    if set(given.steps) - {"ray"}:
        whole.unlink(missing_ok=True) if "grade" not in results else None
        yield "grade", lambda: grade(bundle, source, whole)
    if "grade" in given.steps:
        small = folder / f"rows-{given.rows // 10}.csv"
        yield "grade, a tenth of the rows", lambda: grade(bundle, small, folder / "small-graded.csv")
        yield "grade to parquet", lambda: grade(bundle, source, folder / "graded.parquet")
    for name in SYSTEMS if "peers" in given.steps else ():
        yield name, lambda name=name: peer(name, bundle, source, given.peers)
        yield f"grade / {name}", lambda name=name: {"ratio": ratio(results, "grade", name)}
    if "kills" in given.steps:
        part_rows = max(1, given.rows // 50)  # so that there are whole parts at most of the moments
        seconds = results["grade"]["seconds_with_start"]
        yield (
            "killed",
            lambda: kill_and_resume(bundle, source, whole, kills=given.kills, seconds=seconds, part_rows=part_rows),
        )
    if "ray" in given.steps:
        yield "rows per second and core", lambda: per_core(bundle, source, given.peers)


def ratio(results: Mapping[str, Any], name: str, other: str) -> float:
    """Return the ratio of two systems' rows per second."""
    return round(results[name]["rows_per_second"] / results[other]["rows_per_second"], 3)


def per_core(bundle: Path, source: Path, rows: int) -> dict[str, Any]:
    """Run `engines` in a process of its own; add the ratios."""
    _, _, output = measured(
        (sys.executable, __file__, str(bundle), str(source), "--system", "engines", "--peers", str(rows))
    )
    found = json.loads(output.splitlines()[-1])
    ratios = {f"Ray / here, {n}": round(found[f"Ray, {n} workers"] / found[f"here, {n} threads"], 3) for n in (1, 2)}
    return {**found, **ratios}


if __name__ == "__main__":
    main()
