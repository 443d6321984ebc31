"""Interrupted training runs, in separate processes: killed, or on a full disk."""

import csv
import json
import os
import subprocess
import time
from pathlib import Path

import pytest

from edgedistill.student.checkpoints import beside

from ...processes import ONE_THREAD, PROGRAMS, Process
from .conftest import toy

HOLD = """
import sys, time
from pathlib import Path
from edgedistill.student.checkpoints import beside
with beside(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""
FULL = """
import resource
from edgedistill.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (90_000, 90_000))  # bytes that a file may have: fewer than the weights
main()
"""


@pytest.fixture
def project(bert, tmp_path):
    """A project whose training takes seconds; returns its file."""

    def write(name):
        folder = tmp_path / name
        folder.mkdir()
        with (folder / "human.csv").open("w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(["id", "response", "label", "split"])
            parts = ["train"] * 8 + ["validation", "test"]
            for number, (label, text) in enumerate(toy(200, 5)):
                writer.writerow([f"r{number}", f"{text} {'very ' * (number % 7)}{number}", label, parts[number % 10]])
        settings = {
            "name": "toy",
            "task": {"labels": [{"name": label} for label in ("process", "outcome", "other")]},
            "data": {"human": "human.csv"},
            "student": {
                "backbone": str(bert),
                "max_tokens": 32,
                "search": {"learning_rate": [3e-3], "batch_size": [8], "epochs": [3]},
                "seeds": [0, 1],
            },
        }
        (folder / "project.yaml").write_text(json.dumps(settings))
        return folder / "project.yaml"

    return write


def training(file):
    """Begin the training of a project."""
    return Process(PROGRAMS / "edgedistill", "run", file, "--until", "train")


def untimed_lines(project):
    with (project.parent / "runs" / "toy" / "trials.csv").open() as stream:
        return [{**line, "seconds": ""} for line in csv.DictReader(stream)]


def kill_when(process, folder, pattern):
    """Kill a process that cannot defend itself as soon as there is a file of that name."""
    deadline = time.monotonic() + 120
    while not any(folder.glob(pattern)):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.communicate()


def test_a_killed_run_resumes_to_the_same_student_byte_for_byte(project):
    whole, killed = project("whole"), project("killed")
    command = [PROGRAMS / "edgedistill", "run", whole, "--until", "train"]
    # Not a fork, so that hashes and addresses differ from those of the run that goes on.
    subprocess.run(command, env=os.environ | ONE_THREAD, check=True, capture_output=True, timeout=240)
    folder = killed.parent / "runs" / "toy"
    kill_when(training(killed), folder, "search/*/trial-0-1/epochs/epoch-0001/state.json")
    assert any(folder.glob(".student-*"))
    assert not (folder / "student").exists()
    with training(killed) as process:
        assert process.wait() == 0
    names = ("student/model.safetensors", "student/config.json", "student/tokenizer.json")
    for name in names:
        assert (folder / name).read_bytes() == (whole.parent / "runs" / "toy" / name).read_bytes(), name
    assert untimed_lines(killed) == untimed_lines(whole)
    assert not any(folder.glob(".student-*"))
    assert not any(folder.glob("search/*/trial-*/epochs"))


def test_a_full_disk_is_reported_and_existing_files_remain_valid(project):
    file = project("full")
    student = file.parent / "runs" / "toy" / "student"
    student.mkdir(parents=True)
    (student / "config.json").write_text("{}")
    (student / "model.safetensors").write_bytes(b"an older student")
    full = Process("-c", FULL, "run", file, "--until", "train")
    output = "".join(full.communicate())
    assert full.wait() == 2, output
    assert "Free disk space" in output
    assert "Traceback" not in output
    assert (student / "model.safetensors").read_bytes() == b"an older student"
    assert not any(student.parent.glob(".student-*"))


def test_temporary_folders_of_a_killed_process_are_removed(tmp_path):
    process = Process("-c", HOLD, tmp_path / "student")
    assert process.stdout.readline() == "held\n"
    (left,) = tmp_path.iterdir()
    with beside(tmp_path / "student") as mine:
        assert left.exists()  # the process is alive
    process.kill()
    process.communicate()
    with beside(tmp_path / "student") as mine:
        assert not left.exists()
        assert mine.is_dir()
    assert list(tmp_path.iterdir()) == []


def test_a_temporary_folder_of_an_older_version_is_removed_after_an_hour(tmp_path):
    old, new = (Path(tmp_path / f".student-{name}") for name in ("old", "new"))
    for folder in (old, new):
        folder.mkdir()
    hours_ago = time.time() - 2 * 3600
    os.utime(old, (hours_ago, hours_ago))
    with beside(tmp_path / "student"):
        pass
    assert not old.exists()
    assert new.exists()
