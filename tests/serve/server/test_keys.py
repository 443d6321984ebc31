"""API keys: creation, hashes, checks, revocation and rate limits."""

import json
import os
import re
import signal
import time
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedistill_serve import KeyFileError, KeyMissing, TooMany
from edgedistill_serve.server.middleware.api_keys import (
    KeyAccess,
    TokenBucket,
    create_key,
    find_key,
    hash_key,
    read_keys,
)

from ... import processes

SCORE = {"response": "great job"}
run = partial(processes.run, "edgedistill-serve")


def make_key(name: str) -> tuple[str, str]:
    made = json.loads(run("key", "new", name, "--json").stdout)
    return made["key"], made["line"]


@pytest.fixture(scope="module")
def keys():
    return {name: make_key(name) for name in ("classroom", "script")}


@pytest.fixture(scope="module")
def key_file(keys, tmp_path_factory):
    file = tmp_path_factory.mktemp("keys") / "keys"
    file.write_text("# who may ask\n\n" + "".join(f"{line}\n" for _, line in keys.values()))
    return file


@pytest.fixture(scope="module")
def server(start, bundle, key_file):
    with start(str(bundle.folder), "--keys", str(key_file)) as server:
        yield server


def ask(server, **headers) -> int:
    return server.client.post("/v1/score", json=SCORE, headers=headers).status_code


def get_models(server, key):
    return server.client.get("/v1/models", headers={"Authorization": f"Bearer {key}"})


def test_a_key_is_shown_once_on_stderr_and_its_line_on_stdout_does_not_hold_it():
    ended = run("key", "new", "classroom")
    (shown,) = re.findall(r"eds_\S+", ended.stderr)
    assert ended.returncode == 0
    assert ended.stdout == f"classroom:{hash_key(shown)}\n"
    assert shown not in ended.stdout
    assert len(shown) > 40


def test_what_key_new_writes_can_be_appended_to_the_key_file(tmp_path):
    file = tmp_path / "keys"
    file.write_text("# who may ask\n")
    for name in ("classroom", "script"):
        with file.open("a") as keys:
            keys.write(run("key", "new", name).stdout)
    assert [entry.name for entry in read_keys(file)] == ["classroom", "script"]


def test_a_name_that_cannot_stand_in_the_file_is_refused():
    assert "1 to 64 letters" in run("key", "new", "a b").stderr


def test_a_request_without_key_is_a_401_that_explains_how_to_send_it(server):
    response = server.client.post("/v1/score", json=SCORE)
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"] == "Bearer"
    assert "Authorization: Bearer KEY" in response.json()["detail"]
    assert ask(server, Authorization="Bearer eds_wrong") == 401
    assert ask(server, Authorization="Basic x") == 401
    assert ask(server, **{"X-API-Key": b"\xff\xfe"}) == 401


def test_each_key_is_accepted_in_both_headers(server, keys):
    for key, _ in keys.values():
        assert ask(server, Authorization=f"Bearer {key}") == 200
        assert ask(server, **{"X-API-Key": key}) == 200


@pytest.mark.parametrize("path", ["/v1/models", "/metrics", "/info", "/v2", "/v2/models/praise"])
def test_paths_with_data_need_a_key(server, path):
    assert server.client.get(path).status_code == 401


@pytest.mark.parametrize(
    "path", ["/livez", "/healthz", "/readyz", "/health", "/v2/health/live", "/", "/docs", "/openapi.json"]
)
def test_probes_and_pages_need_no_key(server, path):
    assert server.client.get(path).status_code == 200


def test_a_key_is_revoked_by_a_reload_and_no_request_is_lost(start, bundle, keys, tmp_path):
    (first, first_line), (second, second_line) = keys.values()
    file = tmp_path / "keys"
    file.write_text(f"{first_line}\n{second_line}\n")
    with start(str(bundle.folder), "--keys", str(file)) as server:
        assert ask(server, Authorization=f"Bearer {second}") == 200
        file.write_text(f"{first_line}\n")
        server.process.send_signal(signal.SIGHUP)
        until = time.monotonic() + 60
        while ask(server, Authorization=f"Bearer {second}") == 200:
            assert time.monotonic() < until
        assert ask(server, Authorization=f"Bearer {first}") == 200
        file.write_text("nonsense\n")
        server.process.send_signal(signal.SIGHUP)
        while "the API keys are unchanged" not in server.log.read_text():
            assert time.monotonic() < until
        assert ask(server, Authorization=f"Bearer {first}") == 200


def test_the_rate_limit_applies_to_each_key_separately(start, bundle, keys, key_file):
    (first, _), (second, _) = keys.values()
    with start(str(bundle.folder), "--keys", str(key_file), "--key-rate", "5") as server:
        answered = 0
        while (refused := get_models(server, first)).status_code == 200:
            answered += 1
            assert answered < 1000
        assert answered >= 5
        assert (refused.status_code, refused.headers["Retry-After"]) == (429, "1")
        assert ask(server, Authorization=f"Bearer {second}") == 200
        time.sleep(0.5)
        assert ask(server, Authorization=f"Bearer {first}") == 200


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        (b"", "the file contains no key"),
        (b"\xff", "not valid UTF-8"),
        (b"eds_a-key-by-mistake\n", "line 1: the line is not NAME:HASH"),
        (b"a:" + 64 * b"0" + b"\na:" + 64 * b"1", "line 2: another line has the same name"),
    ],
)
def test_a_key_file_that_cannot_be_used_is_one_clear_line(bundle, tmp_path, content, message):
    file = tmp_path / "keys"
    if content is not None:
        file.write_bytes(content)
    ended = run("serve", str(bundle.folder), "--port", "0", "--keys", str(file))
    assert ended.returncode == 2
    assert message in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert "mistake" not in ended.stderr


def test_an_environment_variable_sets_what_an_option_sets(start, bundle, key_file):
    with start(str(bundle.folder), env={**os.environ, "EDGEDISTILL_SERVE_KEYS": str(key_file)}) as server:
        assert ask(server) == 401


@given(st.text(), st.lists(st.sampled_from("abc"), max_size=3, unique=True))
def test_only_the_key_of_an_entry_matches_it(guess, names):
    made = [create_key(name) for name in names]
    entries = tuple(each.entry for each in made)
    assert find_key(guess, entries) is None
    assert [find_key(each.key, entries) for each in made] == list(entries)


@given(st.integers(1, 50), st.lists(st.floats(0, 3), max_size=60))
def test_no_more_than_the_rate_and_one_burst_come_in(rate, pauses):
    now, taken, allowance = 0.0, 0, TokenBucket(rate, float(rate), 0.0)
    for pause in pauses:
        now += pause
        taken += allowance.take(now) == 0
    assert taken <= rate + rate * now


def test_a_removed_key_is_refused_at_once_and_others_keep_their_rate_limit():
    stays, goes = create_key("stays"), create_key("goes")
    access = KeyAccess((stays.entry, goes.entry), rate=1, clock=lambda: 0.0)
    access.check(stays.key)
    access.replace((stays.entry,))
    with pytest.raises(KeyMissing):
        access.check(goes.key)
    with pytest.raises(TooMany):
        access.check(stays.key)


def test_a_file_of_keys_is_read_in_order(key_file, keys):
    assert [entry.line() for entry in read_keys(key_file)] == [line for _, line in keys.values()]
    with pytest.raises(KeyFileError):
        read_keys(key_file.parent)
