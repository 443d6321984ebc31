"""Defaults for OpenMP, whose threads compute in torch and scikit-learn."""

import os

from edgedistill_serve.cores import available_cores


def set_openmp_defaults() -> None:
    """Let threads sleep while they wait, and start no more of them than there are cores for this process.

    OpenMP reads the environment when it is loaded, with torch or scikit-learn. By default its threads wait in a loop,
    and take the cores that the others need (docs/decisions/0077-threads-that-sleep-while-they-wait.md). Variables that
    are set already stay.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    mask = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if (cores := available_cores()) < mask:  # a container's quota, of which OpenMP knows nothing
        os.environ.setdefault("OMP_NUM_THREADS", str(cores))
