"""`edgedistill-serve[cpu]`, installed alone into a fresh virtual environment, scores a bundle."""

import json
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from edgedistill_serve import Scorer

REPOSITORY = Path(__file__).parents[2]
WHEELHOUSE = REPOSITORY / ".wheelhouse"
CLOSURE = {
    "anyio", "certifi", "charset-normalizer", "click", "edgedistill-serve", "filelock", "flatbuffers", "fsspec",
    "hf-xet", "httptools", "huggingface-hub", "idna", "msgspec", "numpy", "onnxruntime", "packaging",
    "prometheus-client", "protobuf", "pyyaml", "requests", "starlette", "tokenizers", "tqdm", "typing-extensions",
    "urllib3",
}  # fmt: skip
"""Everything that `edgedistill-serve[cpu]` brings. huggingface-hub and what it needs come with tokenizers and are never
imported."""
OF_PIP = {"pip", "setuptools", "wheel"}
TOOLKIT = {"torch", "transformers", "openai", "optimum", "diskcache", "pandas", "scikit-learn", "edgedistill"}


def run(*command: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    ended = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=240)
    assert ended.returncode == code, ended.stdout + ended.stderr
    return ended


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    assert WHEELHOUSE.is_dir(), (
        f"{WHEELHOUSE} is absent. Fill it once, with a network: pip download -d .wheelhouse -c constraints.txt "
        "click httptools msgspec numpy onnxruntime prometheus-client starlette tokenizers"
    )
    folder = tmp_path_factory.mktemp("wheel")
    build = (sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", folder)
    run(*build, REPOSITORY / "serve")
    (built,) = folder.glob("*.whl")
    return built


@dataclass(frozen=True)
class Alone:
    """A virtual environment with the wheel and its dependencies.

    Attributes:
        scripts: Its `bin` folder.
        before: Result of `edgedistill-serve score` before onnxruntime was installed.
    """

    scripts: Path
    before: subprocess.CompletedProcess[str]

    def serve(self, *arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
        """Run `edgedistill-serve` there."""
        return run(self.scripts / "edgedistill-serve", *arguments, code=code)


@pytest.fixture(scope="module")
def alone(wheel, bundle, tmp_path_factory) -> Alone:
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=True)
    scripts = folder / "bin"
    install(scripts, wheel)
    before = run(scripts / "edgedistill-serve", "score", bundle.folder, "great job", code=2)
    install(scripts, f"{wheel}[cpu]")
    return Alone(scripts, before)


def install(scripts: Path, *wanted: object) -> None:
    offline = ("--no-index", "--find-links", WHEELHOUSE, "-c", REPOSITORY / "constraints.txt")
    run(scripts / "python", "-m", "pip", "install", "-q", "--disable-pip-version-check", *offline, *wanted)


def test_without_onnxruntime_the_error_names_the_install_command(alone):
    assert 'onnxruntime is not installed. Install it: pip install "edgedistill-serve[cpu]"' in alone.before.stderr
    assert alone.before.stderr.count("\n") == 1


def test_a_bundle_gets_the_same_score_there_as_here(alone, bundle):
    there = json.loads(alone.serve("score", bundle.folder, "great job", "--json").stdout)
    (here,) = Scorer(bundle).score(["great job"])
    assert there == {"model": "praise", "version": bundle.manifest.version, **msgspec.to_builtins(here)}


def test_packages_for_training_export_and_llms_are_not_installed(alone):
    listed = run(alone.scripts / "python", "-m", "pip", "list", "--format", "json", "--disable-pip-version-check")
    installed = {package["name"].lower().replace("_", "-") for package in json.loads(listed.stdout)}
    assert installed - OF_PIP == CLOSURE
    assert installed & TOOLKIT == set()


def test_a_table_is_graded_there(alone, bundle, tmp_path):
    (tmp_path / "in.csv").write_text("response\ngreat job\n")
    alone.serve("grade", bundle.folder, tmp_path / "in.csv", tmp_path / "out.jsonl")
    assert json.loads((tmp_path / "out.jsonl").read_text())["error"] is None


def test_parquet_names_its_requirement(alone, bundle, tmp_path):
    (tmp_path / "in.csv").write_text("response\ngreat job\n")
    refused = alone.serve("grade", bundle.folder, tmp_path / "in.csv", tmp_path / "out.parquet", code=2)
    assert 'pip install "edgedistill-serve[parquet]"' in refused.stderr
