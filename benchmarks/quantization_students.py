"""Fine-tune a student for the comparison of recipes.

    python benchmarks/quantization_students.py DATA FOLDER beetle 0 1 2

DATA holds `beetle/`, `babe/`, `hyperbole/`; the students become `FOLDER/beetle-0` and so on.
"""

import argparse
import time
from pathlib import Path

import torch
from quantization_sets import LESSONS, MAX_TOKENS, Split, split_of
from rich.console import Console

from edgedistill.data.types import CodedResponse, MixtureRow, Response, ValidationRows
from edgedistill.project.student import SearchSection, StudentSection
from edgedistill.student import TrainingProgress, backbone_folder, train_student

CONSOLE = Console()


def train(lesson: str, seed: int, split: Split, folder: Path, search: SearchSection) -> None:
    """Fine-tune MiniLM on a lesson's training rows with one seed."""
    task = LESSONS[lesson].task

    def inputs(row: dict[str, str]) -> dict[str, str]:
        return {name: row[name] for name in task.inputs}

    judged = [CodedResponse(Response(row["id"], inputs(row), "train.csv", 0), row["label"]) for row in split.validation]
    taught = [
        MixtureRow(
            id=row["id"], inputs=inputs(row), label=row["label"], source="human", shares={row["label"]: 1.0}, lineage={}
        )
        for row in split.train
    ]
    start = time.perf_counter()

    def progress(now: TrainingProgress) -> None:
        if now.done % 40 == 0:
            CONSOLE.print(f"{lesson} {seed}: {now.done} of {now.total} steps, {time.perf_counter() - start:.0f} s")

    student = train_student(
        taught,
        ValidationRows(tuple(judged)),
        task,
        StudentSection(max_tokens=MAX_TOKENS, search=search, seeds=(seed,)),
        backbone_folder("minilm", Path()),
        folder,
        progress=progress,
    )
    CONSOLE.print(student.best.best)


def main() -> None:
    """Fine-tune one student for each seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("lesson", choices=LESSONS)
    parser.add_argument("seeds", type=int, nargs="+")
    given = parser.parse_args()
    torch.set_num_threads(1)
    split = split_of(given.lesson, given.data)
    search = SearchSection(learning_rate=(5e-5,), batch_size=(16,), epochs=(LESSONS[given.lesson].epochs,))
    for seed in given.seeds:
        train(given.lesson, seed, split, given.folder / f"{given.lesson}-{seed}", search)


if __name__ == "__main__":
    main()
