"""The run folder knows which of its files still hold."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from edgedistill.errors import RunError
from edgedistill.pipeline.folder import RunFolder, hash_json


def done(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.write_json("gate.json", {"passed": True})
    folder.record_stage("gate", {"fingerprint": "f1"}, ["gate.json"])
    return folder


def test_a_stage_holds_while_its_settings_and_outputs_are_the_same(tmp_path):
    assert done(tmp_path).is_done("gate", "f1")


def test_a_stage_does_not_hold_for_other_settings(tmp_path):
    assert not done(tmp_path).is_done("gate", "f2")


def test_a_stage_does_not_hold_once_its_output_was_changed_or_deleted(tmp_path):
    folder = done(tmp_path)
    (folder / "gate.json").write_text("{}")
    assert not folder.is_done("gate", "f1")
    (folder / "gate.json").unlink()
    assert not folder.is_done("gate", "f1")


def test_a_stage_that_never_ran_does_not_hold(tmp_path):
    assert not RunFolder(tmp_path / "none").is_done("gate", "f1")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b'{"stages": ',
        b"[]",
        b"null",
        b"{}",
        b'{"stages": []}',
        b'{"stages": {"gate": null}}',
        b'{"stages": {"gate": {}}}',
        b'{"stages": {"gate": {"fingerprint": "f1"}}}',
        b'{"stages": {"gate": {"fingerprint": "f1", "outputs": null}}}',
        b"\xff",
    ],
)
def test_a_damaged_log_is_named_with_a_hint_that_helps(content, tmp_path):
    folder = done(tmp_path)
    (folder / "run.json").write_bytes(content)
    with pytest.raises(RunError, match=r"run.json: is damaged") as refused:
        folder.is_done("gate", "f1")
    assert "Delete it" in str(refused.value)
    (folder / "run.json").unlink()
    assert not folder.is_done("gate", "f1")


def test_a_file_is_replaced_as_a_whole(tmp_path):
    folder = done(tmp_path)
    with pytest.raises(ValueError, match="JSON"):
        folder.write_json("gate.json", {"kappa": float("nan")})
    assert json.loads((folder / "gate.json").read_text()) == {"passed": True}


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "run").write_text("a file")
    with pytest.raises(RunError, match="cannot be written"):
        RunFolder(tmp_path / "run").write_text("x", "y")


def test_several_may_write_a_file_at_once_and_it_stays_whole(tmp_path):
    folder = RunFolder(tmp_path / "run")
    with ThreadPoolExecutor(4) as writers:
        list(writers.map(lambda turn: folder.write_json("gate.json", {"turn": turn}), range(200)))
    assert set(folder.read_json("gate.json")) == {"turn"}
    assert [path.name for path in folder.path.iterdir()] == ["gate.json"]


def test_a_hash_does_not_depend_on_the_order_of_keys():
    assert hash_json({"a": 1, "b": 2}) == hash_json({"b": 2, "a": 1})
    assert hash_json({"a": 1}) != hash_json({"a": "1"})
