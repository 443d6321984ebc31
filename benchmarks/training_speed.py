"""Training speed of EdgeDistill compared with a plain Trainer loop, with the same rows and steps.

    OMP_NUM_THREADS=1 python benchmarks/training_speed.py BEETLE --rows 800 --epochs 3 --seeds 0 1 2

BEETLE contains train.csv. The plain loop follows transformers' documentation: fp32, AdamW over all parameters, random
batches, each padded to its longest row. Learning rate, schedule, weight decay and backbone (MiniLM) are the same in
both. The loops alternate, seed by seed. Speed is training rows per second between the first and the last step of each
epoch, so it excludes validation and loading. Processor time is reported in addition to wall time, which depends on
other processes on a shared machine. Macro-F1 is that of the last epoch on 800 other rows of train.csv.
"""

import argparse
import csv
import math
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from sklearn.metrics import f1_score
from transformers import Trainer, TrainerCallback, TrainingArguments, set_seed

from edgedistill.student import backbone_folder
from edgedistill.student.data import Padding, TrainingRow
from edgedistill.student.model import load_model, load_tokenizer_and_padding, quiet_transformers
from edgedistill.student.trial import WARM_UP, WEIGHT_DECAY, Setting, default_speed_settings, run_trial
from edgedistill_serve.scoring.encoding import Encoder
from edgedistill_serve.task.task import Label, Task, task_inputs

LABELS = ("correct", "contradictory", "incorrect")
TASK = Task("nominal", tuple(map(Label, LABELS)), ("question", "reference_answer", "response"))
MAX_TOKENS = 128
VALIDATION_ROWS = 800
CONSOLE = Console(width=120)


class Clock:
    """Wall and processor time between the steps of an epoch.

    Args:
        steps: Steps of an epoch; the time before its first step is not counted.
    """

    def __init__(self, steps: int) -> None:
        self._steps, self._done = steps, 0
        self._last = (0.0, 0.0)
        self.wall, self.processor, self.counted = 0.0, 0.0, 0

    def tick(self) -> None:
        """Count a step."""
        now = (time.perf_counter(), time.process_time())
        if self._done % self._steps:
            self.wall += now[0] - self._last[0]
            self.processor += now[1] - self._last[1]
            self.counted += 1
        self._last, self._done = now, self._done + 1


class StepTimer(TrainerCallback):  # type: ignore[misc]  # transformers is untyped here
    """Calls a clock after every step."""

    def __init__(self, tick: Callable[[], None]) -> None:
        self._tick = tick

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Count a step."""
        self._tick()


def read(data: Path, rows: int) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Fixed training and validation rows, with the first reference answer only."""
    with (data / "train.csv").open(encoding="utf-8", newline="") as stream:
        found = [row | {"reference_answer": row["reference_answer"].split(" || ")[0]} for row in csv.DictReader(stream)]
    random.Random(0).shuffle(found)  # noqa: S311 - a draw of rows, not a secret
    return found[VALIDATION_ROWS : VALIDATION_ROWS + rows], found[:VALIDATION_ROWS]


def encoded(rows: list[dict[str, str]], encoder: Encoder) -> list[TrainingRow]:
    """Tokenized rows."""
    texts = encoder.encode([task_inputs(row, TASK) for row in rows])
    return [TrainingRow(text, LABELS.index(row["label"])) for text, row in zip(texts, rows, strict=True)]


def plain(model: Any, padding: Padding, rows: list[TrainingRow], setting: Setting, clock: Clock) -> None:
    """Fine-tune as in transformers' documentation."""
    with TemporaryDirectory() as scratch:
        arguments = TrainingArguments(
            output_dir=scratch,
            learning_rate=setting.learning_rate,
            per_device_train_batch_size=setting.batch_size,
            num_train_epochs=setting.epochs,
            seed=setting.seed,
            optim="adamw_torch",
            weight_decay=WEIGHT_DECAY,
            warmup_steps=math.ceil(WARM_UP * setting.steps(len(rows))),
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
            remove_unused_columns=False,
            dataloader_pin_memory=False,
        )
        trainer = Trainer(model, arguments, padding.batch, rows, callbacks=[StepTimer(clock.tick)])
        trainer.train()


def ours(
    model: Any, padding: Padding, rows: list[TrainingRow], validation: list[TrainingRow], setting: Setting, clock: Clock
) -> None:
    """Fine-tune as `edgedistill train` does."""
    run_trial(
        model,
        padding,
        rows,
        validation[:1],
        setting,
        default_speed_settings(),
        on_step=clock.tick,
        on_epoch=lambda *_: None,
    )


def score(model: Any, padding: Padding, rows: list[TrainingRow]) -> float:
    """Macro-F1."""
    model.eval()
    found: list[int] = []
    with torch.inference_mode():
        for start in range(0, len(rows), 50):
            batch = padding.batch(rows[start : start + 50])
            batch.pop("labels")
            found += model(**batch).logits.argmax(dim=1).tolist()
    return float(f1_score([row.target for row in rows], found, average="macro"))


def main() -> None:
    """Run both loops with every seed, alternating, and print speeds and macro-F1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("beetle", type=Path)
    parser.add_argument("--rows", type=int, default=800)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    backbone = backbone_folder("minilm", Path())
    table = Table("seed", "loop", "rows/s of processor time", "rows/s of wall time", "macro-F1")
    ratios: list[tuple[float, float]] = []
    scores: dict[str, list[float]] = {"plain": [], "ours": []}
    with quiet_transformers(), TemporaryDirectory() as folder:
        padding = load_tokenizer_and_padding(backbone, load_model(backbone, TASK), Path(folder))
        training, validation = read(arguments.beetle, arguments.rows)
        encoder = Encoder(Path(folder) / "tokenizer.json", MAX_TOKENS)
        rows, checks = encoded(training, encoder), encoded(validation, encoder)
        CONSOLE.print(f"{np.mean([len(row) for row in rows]):.0f} tokens on average; {default_speed_settings()}")
        for seed in arguments.seeds:
            setting = Setting(5e-5, 16, arguments.epochs, seed)
            speeds = []
            for name in ("plain", "ours"):
                set_seed(seed)
                model, clock = load_model(backbone, TASK), Clock(math.ceil(len(rows) / 16))
                if name == "plain":
                    plain(model, padding, rows, setting, clock)
                else:
                    ours(model, padding, rows, checks, setting, clock)
                speeds.append((clock.counted * 16 / clock.processor, clock.counted * 16 / clock.wall))
                scores[name].append(score(model, padding, checks))
                table.add_row(str(seed), name, *(f"{speed:.1f}" for speed in speeds[-1]), f"{scores[name][-1]:.3f}")
            ratios.append((speeds[1][0] / speeds[0][0], speeds[1][1] / speeds[0][1]))
            CONSOLE.print(f"seed {seed}: {ratios[-1][0]:.2f} times as fast")
    CONSOLE.print(table)
    processor, wall = (statistics.median(ratio[place] for ratio in ratios) for place in (0, 1))
    CONSOLE.print(f"ours is {processor:.2f} times as fast by processor time, {wall:.2f} times by wall time (medians)")
    for name, found in scores.items():
        CONSOLE.print(f"{name}: macro-F1 {statistics.mean(found):.3f} (sd of seeds {statistics.stdev(found):.3f})")


if __name__ == "__main__":
    main()
