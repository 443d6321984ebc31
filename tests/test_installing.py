"""One line installs the three packages from a clone, for pip and for uv, and the commands then start.

The environment has everything that the three packages need, by links to what is installed here, and none of the three.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OURS = {"edgedistill", "edgedistill-export", "edgedistill-serve"}
OFFLINE = ("--no-index", "--no-build-isolation", "--disable-pip-version-check")


def call(*command: object, code: int = 0, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, cwd=cwd, env=environ)
    assert done.returncode == code, done.stdout + done.stderr
    return done


def make_environment(folder: Path) -> Path:
    """Create a virtual environment with what is installed here, without our packages; return its `bin` folder."""
    venv.create(folder, with_pip=False, symlinks=True)
    (target,) = (folder / "lib").glob("python*/site-packages")
    for each in Path(sysconfig.get_path("purelib")).iterdir():
        if re.match(r"_?_?(editable_impl_)?edgedistill", each.name):
            continue
        if each.suffix == ".dist-info":  # uv passes over links to folders
            shutil.copytree(each, target / each.name, copy_function=os.symlink)
        else:
            (target / each.name).symlink_to(each)
    return folder / "bin"


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    scripts = make_environment(tmp_path_factory.mktemp("environment"))
    call(scripts / "python", "-m", "pip", "install", *OFFLINE, "./serve", "./export", ".")
    return scripts


def test_one_line_installs_all_three_packages(installed):
    listed = json.loads(call(installed / "python", "-m", "pip", "list", "--format", "json").stdout)
    assert {each["name"].replace("_", "-") for each in listed} >= OURS
    call(installed / "python", "-m", "pip", "check")


@pytest.mark.parametrize("command", sorted(OURS - {"edgedistill-export"}))
def test_the_commands_start_outside_the_clone(installed, command, tmp_path):
    assert "Usage" in call(installed / command, "--help", cwd=tmp_path).stdout


def test_pip_alone_does_not_find_the_other_two_packages(tmp_path):
    """Why the line names three folders; once this passes, the line can be shorter."""
    scripts = make_environment(tmp_path / "environment")
    refused = call(scripts / "python", "-m", "pip", "install", *OFFLINE, ".", code=1)
    assert "No matching distribution found for edgedistill-export==0.1.0" in refused.stderr


def test_uv_finds_the_other_two_packages_in_the_workspace(tmp_path):
    scripts = make_environment(tmp_path / "environment")
    options = ("--offline", "--no-build-isolation", "--dry-run", "--python", scripts / "python")
    planned = call(sys.executable, "-m", "uv", "pip", "install", *options, ".").stderr
    assert set(re.findall(r"^ \+ (edgedistill\S*) @", planned, re.MULTILINE)) == OURS


def test_the_three_packages_have_one_version_and_require_each_other_by_it():
    files = [tomllib.loads((ROOT / each / "pyproject.toml").read_text("utf-8")) for each in (".", "export", "serve")]
    versions = {each["project"]["version"] for each in files}
    required = {
        line.partition("==")[2]
        for each in files
        for line in [
            *each["project"]["dependencies"],
            *(line for lines in each["project"]["optional-dependencies"].values() for line in lines),
        ]
        if line.startswith("edgedistill-")
    }
    assert required == versions
    assert len(versions) == 1
