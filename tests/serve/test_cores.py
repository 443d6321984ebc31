"""The cores that a process may use: its affinity mask, and the quota of its control groups."""

import os

import pytest

from edgedistill_serve.cores import available_cores

ALLOWED = 8


@pytest.fixture(autouse=True)
def _eight_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(ALLOWED)), raising=False)


def root(folder, groups, **files):
    (folder / "proc/self").mkdir(parents=True)
    (folder / "proc/self/cgroup").write_text(groups)
    for name, text in files.items():
        path = (
            folder / "sys/fs/cgroup" / name.replace("__", "/").replace("cpu_max", "cpu.max").replace("cfs", "cpu.cfs")
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


@pytest.mark.parametrize(
    ("limit", "cores"),
    [
        ("max 100000\n", ALLOWED),
        ("200000 100000\n", 2),
        ("250000 100000\n", 2),
        ("50000 100000\n", 1),
        ("1600000 100000\n", ALLOWED),
        ("nonsense\n", ALLOWED),
        ("100000 0\n", ALLOWED),
        ("", ALLOWED),
    ],
)
def test_a_quota_counts_in_whole_cores_and_at_least_one(tmp_path, limit, cores):
    assert available_cores(root(tmp_path, "0::/\n", cpu_max=limit)) == cores


def test_the_smallest_quota_of_nested_groups_counts(tmp_path):
    folder = root(tmp_path, "0::/pods/one\n", pods__cpu_max="300000 100000", pods__one__cpu_max="max 100000")
    assert available_cores(folder) == 3


def test_groups_of_version_1_count(tmp_path):
    files = {"cpu,cpuacct__pod__cfs_quota_us": "400000\n", "cpu,cpuacct__pod__cfs_period_us": "100000\n"}
    assert available_cores(root(tmp_path, "3:memory:/pod\n4:cpu,cpuacct:/pod\n0::/\n", **files)) == 4


def test_a_group_of_version_1_without_a_limit_counts_for_nothing(tmp_path):
    files = {"cpu__cfs_quota_us": "-1\n", "cpu__cfs_period_us": "100000\n"}
    assert available_cores(root(tmp_path, "1:cpu:/\n", **files)) == ALLOWED


def test_a_container_finds_its_own_group_under_a_name_from_outside(tmp_path):
    assert available_cores(root(tmp_path, "0::/kubepods/pod1/c2\n", cpu_max="200000 100000")) == 2


def test_without_control_groups_the_affinity_mask_counts(tmp_path):
    assert available_cores(tmp_path) == ALLOWED
