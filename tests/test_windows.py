"""Nothing that Windows lacks is needed: not to import a module, to code, to cut a vocabulary, or to grade.

mypy knows from its stubs of the standard library what each system has. The tests run on other systems, without
the names that Windows lacks.
"""

import fcntl
import os
import re
import signal
import subprocess
import sys
import types
from pathlib import Path

import httpx
import pytest

from edgedistill.student.cut_backbone import cut_backbone
from edgedistill_export.quantize import vocabulary as vocabulary_module
from edgedistill_serve.errors import DataError
from edgedistill_serve.grading import storage
from edgedistill_serve.task.task import Label, Task

from .edgedistill.coding.projects import read_csv, write_project
from .edgedistill.student.test_cut_backbone import write_word_pieces
from .processes import Process, run
from .without_posix import REMOVED

ROOT = Path(__file__).parents[1]
SOURCES = [ROOT / "src", ROOT / "export" / "src", ROOT / "serve" / "src"]
CHECKED_WHEN_IT_RUNS = {
    ("sockets_and_tls.py", "resource"): "its import fails on Windows, and is caught",
    ("isolated_check.py", "resource"): "its import fails on Windows, and is caught",
    ("storage.py", "fcntl"): "its import fails on Windows, and is caught",
    ("ray_engine.py", "fcntl"): "its import fails on Windows, and is caught",
    ("sockets_and_tls.py", "AF_UNIX"): "is looked for first",
    ("worker.py", "SIGHUP"): "on Windows there are no workers, whatever --workers says",
}
"""File, and the module or name that Windows lacks."""
OF_THE_SYSTEM = re.compile(
    r"^ *import (asyncio|errno|fcntl|grp|mmap|multiprocessing|os|pwd|resource|signal|socket|stat|subprocess|time)\b",
    re.MULTILINE,
)
"""Modules of the standard library that differ from system to system."""
IMPORT_ALL = """
import importlib, pkgutil, sys

PACKAGES = ("edgedistill", "edgedistill_export", "edgedistill_serve")

def import_all():
    for name in PACKAGES:
        package = importlib.import_module(name)
        for each in pkgutil.walk_packages(package.__path__, f"{name}."):
            if not each.name.endswith(("__main__", "by_optimum")):
                importlib.import_module(each.name)

import_all()  # what others need of the system is imported by now
for name in [name for name in sys.modules if name.partition(".")[0] in PACKAGES]:
    del sys.modules[name]
"""


def test_what_windows_lacks_is_used_only_behind_a_check():
    files = [file for folder in SOURCES for file in folder.rglob("*.py") if OF_THE_SYSTEM.search(file.read_text())]
    command = [sys.executable, "-m", "mypy", "--platform", "win32", "--config-file", "", "--follow-imports", "skip"]
    options = ["--ignore-missing-imports", "--explicit-package-bases", "--no-error-summary"]
    options += ["--cache-dir", str(ROOT / ".mypy_cache" / "windows")]
    paths = {"MYPYPATH": ":".join(map(str, SOURCES))}
    done = subprocess.run([*command, *options, *files], capture_output=True, text=True, env=paths)
    found = set()
    for line in done.stdout.splitlines():
        if missing := re.match(r'(.*?):(\d+): error: Module has no attribute "(\w+)"', line):
            file, number, name = Path(missing[1]), int(missing[2]), missing[3]
            code = (ROOT / file).read_text("utf-8").splitlines()[number - 1]
            module = re.search(rf"(\w+)\.{name}\b", code)[1]
            found.add((file.name, module if module in ("resource", "fcntl") else name))
    assert found == set(CHECKED_WHEN_IT_RUNS), done.stderr


def test_every_module_can_be_imported_without_the_names_of_posix():
    done = run("-c", f"{IMPORT_ALL}\n{REMOVED}\nimport_all()")
    assert done.returncode == 0, done.stderr
    assert "REMOVED" in done.stderr


def test_people_code_and_the_table_is_written_without_the_names_of_posix(tmp_path):
    file = write_project(tmp_path, 3)
    code = f"{REMOVED}\nsys.argv = ['edgedistill', 'code', {str(file)!r}, '--coders', 'anna']\n"
    process = Process("-c", f"{code}from edgedistill.cli import main\nmain()")
    link = process.stdout.readline().split()[-1]
    url, _, token = link.partition("/#")
    coded = {"coder": "anna", "id": "r0", "code": "process"}
    headers = {"Authorization": f"Bearer {token}"}
    answer = httpx.post(f"{url}/api/code", json=coded, headers=headers, trust_env=False)
    process.send_signal(signal.SIGINT)  # Ctrl-C
    printed, complaints = process.communicate()
    assert (answer.status_code, process.wait(), "REMOVED" in complaints) == (200, 0, True), printed + complaints
    assert "Traceback" not in complaints
    assert read_csv(tmp_path / "human.csv")[0]["label"] == "process"


def test_a_vocabulary_is_cut_where_links_are_not_allowed(monkeypatch, tmp_path):
    monkeypatch.setattr(vocabulary_module, "COMMON", 0)
    backbone = write_word_pieces(tmp_path / "backbone")
    task = Task("nominal", labels=(Label("process"), Label("outcome")), inputs=("response",))
    texts = [{"response": "you tried"}]
    linked = cut_backbone(backbone, tmp_path / "linked", texts, task)
    monkeypatch.setattr(os, "symlink", refuse_links)
    copied = cut_backbone(backbone, tmp_path / "copied", texts, task)
    assert copied == linked
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("linked", "copied")]
    assert weights[0] == weights[1]


def refuse_links(*_, **__):
    raise OSError(1314, "A required privilege is not held by the client")


def test_two_processes_do_not_grade_into_one_folder_where_there_is_no_fcntl(monkeypatch, tmp_path):
    """Windows locks by `msvcrt`, which is played by `fcntl` here."""
    locked = []

    def locking(descriptor, mode, count):
        locked.append((mode, count))
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    monkeypatch.setattr(storage, "fcntl", None)
    monkeypatch.setitem(sys.modules, "msvcrt", types.SimpleNamespace(locking=locking, LK_NBLCK=2))
    folder = storage.LocalFolder(tmp_path / "out")
    folder.make()
    with folder.lock(), pytest.raises(DataError, match="another process is grading"), folder.lock():
        pass
    assert locked == [(2, 1), (2, 1)]
    assert not (tmp_path / "out").exists()
