"""MiniLM on all human rows of Beetle, compared with the best systems of the shared task.

    python benchmarks/beetle_all.py DATA OUT --seeds 0 1 2

DATA contains `beetle/` (train.csv, test_ua.csv, test_uq.csv). The epoch is selected on 400 fixed rows of train.csv;
the others are training rows. Inputs are the question, the first reference answer and the learner's answer. The best
systems of SemEval-2013 task 7 (three-way, macro-F1) reached .715 on test_ua and .585 on test_uq. Students are written
to OUT; existing ones are not trained again.
"""

import argparse
import statistics
from pathlib import Path

import torch
from quantization_sets import LESSONS, MAX_TOKENS, split_of
from quantization_students import train
from rich.console import Console

from edgedistill.agreement import agreement
from edgedistill.project.student import SearchSection
from edgedistill_export.checkpoint import Checkpoint
from edgedistill_serve.task.task import task_inputs

TASK = LESSONS["beetle"].task
BEST_SYSTEMS = {"test_ua": 0.715, "test_uq": 0.585}
CONSOLE = Console(width=140)


def main() -> None:
    """Train and evaluate one student for each seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--epochs", type=int, default=8)
    arguments = parser.parse_args()
    split = split_of("beetle", arguments.data, all_rows=True)
    search = SearchSection(learning_rate=(arguments.learning_rate,), batch_size=(16,), epochs=(arguments.epochs,))
    torch.set_num_threads(1)
    found: dict[str, list[float]] = {name: [] for name in BEST_SYSTEMS}
    for seed in arguments.seeds:
        folder = arguments.out / f"beetle-all-{seed}"
        if not (folder / "config.json").is_file():
            train("beetle", seed, split, folder, search)
        student = Checkpoint.load(folder, TASK, MAX_TOKENS)
        for name, rows in split.tests.items():
            predicted = [
                TASK.names[best] for best in student.logits([task_inputs(row, TASK) for row in rows]).argmax(axis=1)
            ]
            result = agreement([row["label"] for row in rows], predicted, TASK)
            found[name].append(result.macro_f1.value)
            CONSOLE.print(f"seed {seed}, {name}, {len(rows)} rows: macro-F1 {result.macro_f1}, kappa {result.kappa}")
    for name, values in found.items():
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        CONSOLE.print(
            f"{name}: macro-F1 {statistics.mean(values):.3f}, sd {spread:.3f}; best system {BEST_SYSTEMS[name]}"
        )


if __name__ == "__main__":
    main()
