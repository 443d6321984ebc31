"""The npm package `clients/js` under Node: against servers that misbehave, against a real one, and its types."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from edgedistill_serve.server.middleware.api_keys import create_key

PACKAGE = Path(__file__).parents[3] / "clients/js"
TSC = PACKAGE / "node_modules/.bin/tsc"


def node(*arguments: object, **environment: str) -> str:
    program = shutil.which("node") or pytest.skip("node is not installed")
    ended = subprocess.run(
        [program, *map(str, arguments)], cwd=PACKAGE, env={**os.environ, **environment},
        capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def counts(said: str) -> dict[str, int]:
    return {name: int(count) for name, count in re.findall(r"^# (tests|pass|fail|skipped) (\d+)$", said, re.MULTILINE)}


def run_tests(name: str, **environment: str) -> dict[str, int]:
    return counts(node("--test", "--test-reporter=tap", PACKAGE / "test" / name, **environment))


def test_it_retries_waits_and_gives_up_as_it_says():
    found = run_tests("retries.test.js")
    assert found["tests"] >= 16
    assert found == {"tests": found["tests"], "pass": found["tests"], "fail": 0, "skipped": 0}


def test_it_scores_with_a_real_server(start, bundle, answers_bundle, moves_bundle, tmp_path):
    key = create_key("school")
    (tmp_path / "keys").write_text(key.entry.line())
    folders = [str(each.folder) for each in (bundle, answers_bundle, moves_bundle)]
    with start(*folders, "--keys", str(tmp_path / "keys")) as server:
        found = run_tests("server.test.js", EDGEDISTILL_URL=server.url, EDGEDISTILL_KEY=key.key)
    assert found["tests"] >= 8
    assert found == {"tests": found["tests"], "pass": found["tests"], "fail": 0, "skipped": 0}


def test_its_types_allow_what_it_does_and_refuse_what_it_cannot():
    if not TSC.exists():
        pytest.skip("TypeScript is not installed: make generators")
    assert node(TSC, "-p", PACKAGE) == ""


def test_the_package_has_its_sources_and_types_and_no_dependency():
    if (npm := shutil.which("npm")) is None:
        pytest.skip("npm is not installed")
    packed = subprocess.run(
        [npm, "pack", "--dry-run", "--json", "--ignore-scripts"],
        cwd=PACKAGE,
        capture_output=True,
        text=True,
        check=True,
    )
    files = {each["path"] for each in json.loads(packed.stdout)[0]["files"]}
    assert {"LICENSE", "README.md", "package.json", "src/client.js", "src/client.d.ts", "src/element.js"} <= files
    assert not any("test" in file or "node_modules" in file for file in files)
    described = json.loads((PACKAGE / "package.json").read_text())
    assert "dependencies" not in described
    for entry in described["exports"].values():
        assert all((PACKAGE / file).exists() for file in entry.values())


def test_types_and_sources_export_the_same_names():
    said = node("--input-type=module", "-e", 'console.log(Object.keys(await import("edgedistill-client")).join(" "))')
    types = (PACKAGE / "src/client.d.ts").read_text()
    assert set(said.split()) == set(re.findall(r"^export (?:class|function) (\w+)", types, re.MULTILINE))


def test_its_licence_is_that_of_the_project_and_its_version_that_of_the_server():
    from importlib.metadata import version

    assert (PACKAGE / "LICENSE").read_text() == (PACKAGE.parents[1] / "LICENSE").read_text()
    assert json.loads((PACKAGE / "package.json").read_text())["version"] == version("edgedistill-serve")
