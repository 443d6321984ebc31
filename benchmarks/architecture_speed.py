"""What it costs to read reference answers apart: texts per second of served students of two architectures.

    python benchmarks/architecture_speed.py DATA --summary docs/results/architecture_speed.json

DATA has folders beetle and networks. Both students have MiniLM's six layers and read the same rows, up to the same
number of tokens; they are trained for one epoch on 32 rows, which does not change their speed, and served as int8. On
beetle a question has several reference answers, on networks one. Figures are texts per second of processor time from
text to score, on one thread: both students score the same 200 test rows in turns, and the ratio is that of each round.
"""

import argparse
import json
import statistics
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from ladder import speeds_in_turns
from rich.console import Console
from students import TASKS, Run, parts

from edgedistill.project.student import SearchSection, StudentSection
from edgedistill.student import backbone_folder, train_student
from edgedistill.student.model import choose_max_tokens
from edgedistill_export import ExportPlan, export_bundle
from edgedistill_serve import Scorer
from edgedistill_serve.task.task import task_inputs

CONSOLE = Console(width=150)
ARCHITECTURES = ("cross-encoder", "bi-encoder")
ROUNDS, TRAINED_ROWS, VALIDATION_ROWS, TIMED_ROWS = 15, 32, 100, 200


def measure(name: str, data: Path, folder: Path) -> dict[str, Any]:
    """Train, export and time both students of a set."""
    training, validation, tests, _ = parts(Run("all-rows", name, "human", 600, "standard", 0), data)
    task, backbone = TASKS[name], backbone_folder("minilm", Path())
    max_tokens = choose_max_tokens(backbone, task, (row.inputs for row in training))
    validating = [dict(row.response.inputs) for row in validation][:VALIDATION_ROWS]
    rows = [task_inputs(row, task) for row in next(iter(tests.values()))][:TIMED_ROWS]
    scorers = {}
    for architecture in ARCHITECTURES:
        section = StudentSection(
            max_tokens=max_tokens,
            architecture=architecture,
            search=SearchSection(learning_rate=(1e-4,), epochs=(1,)),
        )
        place = folder / f"{name}-{architecture}"
        train_student(training[:TRAINED_ROWS], validation, task, section, backbone, place / "student")
        plan = ExportPlan(name, task, max_tokens, "int8", 1.0, fp32_beside=False)
        exported = export_bundle(place / "student", place / "bundle", plan, validating)
        scorers[architecture] = Scorer(exported.bundle, threads=1, score_cache=0)
    rounds = speeds_in_turns(scorers, rows, ROUNDS)
    return {
        "max_tokens": max_tokens,
        "texts_per_second": {
            architecture: round(statistics.median(each[architecture] for each in rounds), 1)
            for architecture in ARCHITECTURES
        },
        "ratio": round(statistics.median(each["bi-encoder"] / each["cross-encoder"] for each in rounds), 3),
    }


def main() -> None:
    """Measure both sets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--summary", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    with TemporaryDirectory() as folder:
        figures = {name: measure(name, given.data, Path(folder)) for name in ("beetle", "networks")}
    CONSOLE.print(figures)
    if given.summary:
        given.summary.write_text(json.dumps(figures, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
