"""A process that shares a search.

    python searching.py BACKBONE KEPT STUDENT HOLD_AT GO

It prints a line when a trial begins, and in trial number HOLD_AT, before the second step, it waits for the file GO.
"""

import sys
import time
from pathlib import Path

from conftest import KEYWORDS, make_mixture, make_section, make_validation

from edgedistill.student import train_student
from edgedistill_serve.task.task import Label, Task

RATES = (1e-3, 2e-3, 5e-3)


def main(backbone, kept, student, hold_at, go):
    begun = []

    def message(progress):
        if progress.epoch is None and (not begun or begun[-1] != progress.trial):
            begun.append(progress.trial)
            sys.stdout.write(f"begins {len(begun)}\n")
            sys.stdout.flush()
        if len(begun) == hold_at:
            while not go.exists():
                time.sleep(0.02)

    task = Task(kind="nominal", labels=tuple(Label(name) for name in KEYWORDS), inputs=("response",))
    section = make_section(learning_rate=RATES, seeds=(0, 1), epochs=(1,))
    trained = train_student(
        make_mixture(), make_validation(), task, section, backbone, student, kept=kept, progress=message
    )
    sys.stdout.write(f"best {trained.best.learning_rate} {trained.best.seed}\n")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]), int(sys.argv[4]), Path(sys.argv[5]))
