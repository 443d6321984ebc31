"""Packing, signing and verifying a bundle at the command line."""

import json
import os
import shutil
import signal
import subprocess

import pytest

from edgedistill_serve import Bundle

from ... import processes


def run(*arguments: object, expect: int = 0) -> str:
    ended = processes.run("edgedistill-serve", *arguments)
    assert ended.returncode == expect, ended.stderr
    assert "Traceback" not in ended.stderr
    return ended.stdout if expect == 0 else ended.stderr


@pytest.fixture(scope="module")
def signed(make_bundle, tmp_path_factory):
    """A signed bundle, and the folder that the keys lie in."""
    place = tmp_path_factory.mktemp("maker")
    folder = make_bundle(place / "bundle").folder
    assert "private key (keep it secret)" in run("key-pair", place / "maker")
    assert run("bundle", "sign", folder, "--key", place / "maker").startswith("signed: ")
    return folder, place


@pytest.mark.parametrize("command", ["verify", "info"])
def test_a_signed_bundle_is_read_with_its_makers_key(signed, command):
    folder, place = signed
    message = run(command, folder, "--public-key", place / "maker.pub")
    assert command == "info" or "valid with the given public key" in message


@pytest.mark.parametrize(
    "rest", [["verify"], ["info"], ["score", "good job"], ["grade", "in.csv", "out.csv"], ["serve", "--port", "0"]]
)
def test_no_command_reads_an_unsigned_bundle_with_a_public_key(signed, bundle, tmp_path, rest):
    _, place = signed
    command, *others = rest
    (tmp_path / "in.csv").write_text("response\nok\n")
    others = [tmp_path / other if other.endswith(".csv") else other for other in others]
    message = run(command, bundle.folder, *others, "--public-key", place / "maker.pub", expect=2)
    assert "the bundle is not signed" in message


def test_verify_reports_a_signature_that_was_not_checked(signed):
    folder, _ = signed
    assert "present; verify it with --public-key" in run("verify", folder)
    assert json.loads(run("verify", folder, "--json"))["signature"] == "not checked"


def test_verify_names_files_that_are_not_listed(bundle, tmp_path):
    copy = shutil.copytree(bundle.folder, tmp_path / "copy")
    (copy / "notes.txt").touch()
    assert "ignored: notes.txt" in run("verify", copy)


def test_a_bundle_travels_as_one_file(signed, tmp_path):
    folder, place = signed
    message = json.loads(run("bundle", "pack", folder, tmp_path / "praise.zip", "--json"))
    assert message["bytes"] == (tmp_path / "praise.zip").stat().st_size
    run("bundle", "unpack", tmp_path / "praise.zip", tmp_path / "there", "--public-key", place / "maker.pub")
    assert Bundle.load(tmp_path / "there").manifest == Bundle.load(folder).manifest
    assert "exists already" in run("bundle", "pack", folder, tmp_path / "praise.zip", expect=2)


def test_a_server_with_a_key_keeps_serving_when_an_unsigned_bundle_takes_the_place(signed, make_bundle, tmp_path):
    folder, place = signed
    served = shutil.copytree(folder, tmp_path / "served")
    with subprocess.Popen(
        [processes.PROGRAMS / "edgedistill-serve", "serve", served, "--port", "0", "--public-key", place / "maker.pub"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as server:
        try:
            _wait(server, "ready: ")
            make_bundle(served, files={"README.md": b"from somebody else"})
            os.kill(server.pid, signal.SIGHUP)
            message = _wait(server, "new bundle cannot be served")
            assert "the bundle is not signed" in message
        finally:
            server.send_signal(signal.SIGTERM)
            server.communicate(timeout=30)


def _wait(server, words: str) -> str:
    for line in server.stderr:
        if words in line:
            return line
    raise AssertionError(f"the server ended without saying {words!r}")


@pytest.mark.parametrize("command", [("bundle", "pack"), ("bundle", "unpack"), ("bundle", "sign"), ("key-pair",)])
def test_every_command_has_help_with_an_example_and_json(command):
    message = run(*command, "--help")
    assert f"Example: edgedistill-serve {' '.join(command)}" in message
    assert "--json" in message
