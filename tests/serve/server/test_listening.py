"""Addresses and access: this machine, other machines with keys or --open, Unix sockets, HTTPS, CORS."""

import json
import stat
import subprocess
from functools import partial

import pytest

from ... import processes

SCORE = {"response": "great job"}
run = partial(processes.run, "edgedistill-serve")


def ask(server) -> int:
    return server.client.post("/v1/score", json=SCORE).status_code


@pytest.fixture
def key_file(tmp_path):
    (tmp_path / "keys").write_text(run("key", "new", "a").stdout)
    return tmp_path / "keys"


def test_other_machines_are_let_in_with_keys_or_on_purpose_alone(bundle, key_file, start):
    ended = run("serve", str(bundle.folder), "--host", "0.0.0.0", "--port", "0")
    assert ended.returncode == 2
    assert "without an API key" in ended.stderr
    for permission in (("--open",), ("--keys", str(key_file))):
        with start(str(bundle.folder), "--host", "0.0.0.0", *permission) as server:
            assert server.client.get("/livez").status_code == 200


def test_a_page_from_elsewhere_may_ask_only_where_it_is_listed(start, bundle):
    page = {"Origin": "https://school.example"}
    asking = {**page, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "X-API-Key"}
    with start(str(bundle.folder)) as server:
        closed = server.client.post("/v1/score", json=SCORE, headers=page)
        assert "Access-Control-Allow-Origin" not in closed.headers
        assert server.client.options("/v1/score", headers=asking).status_code == 403
    with start(str(bundle.folder), "--allow-origin", page["Origin"]) as server:
        answer = server.client.post("/v1/score", json=SCORE, headers=page)
        assert answer.headers["Access-Control-Allow-Origin"] == page["Origin"]
        assert server.client.options("/v1/score", headers=asking).status_code == 200
        other = server.client.post("/v1/score", json=SCORE, headers={"Origin": "https://other.example"})
        assert "Access-Control-Allow-Origin" not in other.headers


@pytest.mark.parametrize("settings", ["none", "keys", "another origin"])
def test_a_refused_preflight_and_the_log_say_allow_origin(start, bundle, key_file, settings):
    """A preflight never has a key; the log does not have the origin, which is text of the client."""
    options = {"none": (), "keys": ("--keys", str(key_file)), "another origin": ("--allow-origin", "http://a.example")}
    asking = {"Origin": "http://localhost:5173", "Access-Control-Request-Method": "POST"}
    with start(str(bundle.folder), "--log-format", "json", *options[settings]) as server:
        for _ in range(3):
            answer = server.client.options("/v1/score", headers=asking)
        assert answer.status_code == 403
        assert answer.json()["detail"] == (
            "web pages of the origin http://localhost:5173 may not read the answers of this server. "
            "To allow it, start the server with --allow-origin http://localhost:5173."
        )
        assert "Access-Control-Allow-Origin" not in answer.headers
        if settings != "another origin":
            assert server.client.options("/nowhere", headers=asking).status_code == 404
        log = server.log.read_text()
    lines = [json.loads(line) for line in log.splitlines()]
    assert [line["level"] for line in lines if line["event"] == "origin_refused"] == ["warning"]
    assert "--allow-origin" in log
    assert "5173" not in log
    refused = [line for line in lines if line.get("status") == 403]
    assert [(line["method"], line["route"]) for line in refused] == [("OPTIONS", "/v1/score")] * 3


@pytest.mark.parametrize("allowed", [(), ("--allow-origin", "http://a.example")])
def test_a_page_that_reads_without_a_preflight_is_logged(start, bundle, allowed):
    with start(str(bundle.folder), *allowed) as server:
        server.client.get("/v1/models")
        server.client.post("/v1/score", json=SCORE, headers={"Origin": server.url})  # the server's own page
        server.client.get("/v1/models", headers={"Origin": "http://a.example"}) if allowed else None
        assert "--allow-origin" not in server.log.read_text()
        answer = server.client.get("/v1/models", headers={"Origin": "http://b.example"})
        assert "Access-Control-Allow-Origin" not in answer.headers
        assert "--allow-origin" in server.log.read_text()


@pytest.mark.parametrize(
    "origin", ["school.example", "https://school.example/", "https://School.example", "https://a/b"]
)
def test_an_origin_that_no_browser_sends_is_refused_at_the_start(bundle, origin):
    ended = run("serve", str(bundle.folder), "--port", "0", "--allow-origin", origin)
    assert ended.returncode == 2
    assert f"{origin!r} is not an origin as browsers send it" in " ".join(ended.stderr.split())


def test_a_unix_socket_serves_its_owner_and_group_and_is_removed(start, bundle, tmp_path):
    path = tmp_path / "socket"
    for _ in range(2):
        with start(str(bundle.folder), "--uds", str(path)) as server:
            assert server.url == f"http+unix://{path}"
            assert ask(server) == 200
            assert stat.S_IMODE(path.stat().st_mode) == 0o660
        assert not path.exists()


def test_the_socket_of_a_killed_server_is_reused_and_that_of_a_running_one_is_not(start, bundle, tmp_path):
    path = tmp_path / "socket"
    with start(str(bundle.folder), "--uds", str(path)) as server:
        refused = run("serve", str(bundle.folder), "--uds", str(path))
        assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
        assert "the server cannot listen on this address" in refused.stderr
        server.process.kill()
        server.process.wait(60)
        assert path.exists()
        with start(str(bundle.folder), "--uds", str(path)) as another:
            assert ask(another) == 200


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -keyout key.pem -out cert.pem"
    subprocess.run(command.split(), cwd=folder, check=True, capture_output=True)
    return folder


def test_https_is_spoken_with_a_certificate(start, bundle, certificate):
    files = ("--tls-cert", str(certificate / "cert.pem"), "--tls-key", str(certificate / "key.pem"))
    with start(str(bundle.folder), *files) as server:
        assert server.url.startswith("https://")
        assert ask(server) == 200


@pytest.mark.parametrize("names", [["cert.pem", None], [None, "key.pem"], ["key.pem", "cert.pem"], ["-", "key.pem"]])
def test_files_that_are_no_certificate_and_key_are_one_clear_line(bundle, certificate, names):
    named = zip(("--tls-cert", "--tls-key"), names, strict=True)
    options = [part for option, name in named if name for part in (option, str(certificate / name))]
    ended = run("serve", str(bundle.folder), "--port", "0", *options)
    assert ended.returncode == 2
    assert "certificate" in ended.stderr
    assert ended.stderr.count("\n") == 1
