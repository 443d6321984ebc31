"""The number of cores that this process may use."""

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath


def available_cores(root: Path = Path("/")) -> int:
    """Return the number of cores that this process may use, at least 1.

    It is the number of cores in its affinity mask, or less if a control group limits its processor time, as containers
    do: a quota of 2.5 cores counts as 2, because threads that exceed a quota are all stopped until the next period.

    Args:
        root: Root of the file system with ``/proc`` and ``/sys``. Without control groups, only the mask counts.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([allowed, *(int(quota) for quota in _quotas(root))]))


def _quotas(root: Path) -> Iterator[float]:
    """Yield the quota in cores of each control group of this process that has one; an unreadable one is skipped."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, name = rest.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        # A process of a container may see the groups outside in their names, but only its own in the file system.
        path = PurePosixPath("/", name.strip("/"))
        for group in (path, *path.parents):
            quota = _read_quota(root / "sys/fs/cgroup" / controllers / str(group)[1:], is_unified=not controllers)
            if quota is not None:
                yield quota


def _read_quota(group: Path, *, is_unified: bool) -> float | None:
    try:
        if is_unified:
            quota, _, period = (group / "cpu.max").read_text("ascii").partition(" ")
        else:
            quota = (group / "cpu.cfs_quota_us").read_text("ascii")
            period = (group / "cpu.cfs_period_us").read_text("ascii")
        cores = int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):  # no group, or no limit: "max" or "-1 100000"
        return None
    return cores if cores > 0 else None
