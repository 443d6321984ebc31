"""`edgedistill doctor` says what is wrong with a machine, an installation and a project, and how to fix it."""

import json
import socket
import sqlite3
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from edgedistill import doctor
from edgedistill.doctor import examine
from edgedistill_serve.errors import RuntimeMissing

from ...e2e.lessons import command, write_lesson

KEY = "sk-the-secret-of-this-test"


@contextmanager
def endpoint(status=200, body=b"", headers=None):
    """An endpoint that answers every GET like this; its address, and the headers of the requests."""
    received = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            received.append((self.path, self.headers["authorization"]))
            self.send_response(status)
            for name, value in {"content-length": str(len(body)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1", received
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def models(*names):
    return json.dumps({"object": "list", "data": [{"id": name, "object": "model"} for name in names]}).encode()


@pytest.fixture
def project(tmp_path):
    """Writes a project whose teacher has an address, and a key in the variable SCHOOL_KEY."""

    def write(address="http://127.0.0.1:9/v1", **replaced):
        file = write_lesson(tmp_path, address)
        text = file.read_text("utf-8").replace("api_key_env: null", "api_key_env: SCHOOL_KEY")
        for old, new in replaced.items():
            assert old in text
            text = text.replace(old, new)
        file.write_text(text, "utf-8")
        return file

    return write


def found(file=None, environ=None, **options):
    """The checks by name."""
    return {check.name: check for check in examine(file, environ={"SCHOOL_KEY": KEY, **(environ or {})}, **options)}


def test_without_a_project_nothing_is_sent_and_this_installation_is_in_order(monkeypatch, tmp_path):
    def refuse(*_):
        raise AssertionError("a connection")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    checks = found()
    assert [(check.name, check.found) for check in checks.values() if check.status == "problem"] == []
    assert {"Python", "EdgeDistill", "packages", "torch", "ONNX Runtime", "processor", "proxy", "key"} <= set(checks)
    assert "CPU" in checks["ONNX Runtime"].found
    assert checks["key"].found == "OPENAI_API_KEY is not set; only a teacher at api.openai.com needs it"


def test_the_command_shows_every_fix_ends_with_2_at_a_problem_and_never_shows_a_key(monkeypatch, project):
    monkeypatch.setenv("SCHOOL_KEY", KEY)
    with endpoint(body=models("stand-in")) as (address, received):
        file = project(address)
        done = command("edgedistill", "doctor", file)
        assert received == [("/v1/models", f"Bearer {KEY}")]
        monkeypatch.setenv("SCHOOL_KEY", "")
        failed = command("edgedistill", "doctor", file, "--json", expect=2)
    assert KEY not in done.stdout + done.stderr + failed.stdout
    assert "ok       key of stand-in: SCHOOL_KEY is set\n" in done.stdout
    assert f"ok       endpoint of stand-in: {address} answers in" in done.stdout
    result = json.loads(failed.stdout)
    assert result["status"] == "problem"
    assert {
        "name": "key of stand-in",
        "status": "problem",
        "found": "teacher.api_key_env: the environment variable SCHOOL_KEY is not set or empty",
        "fix": "Set it (export SCHOOL_KEY=…), or write `api_key_env: null` if the endpoint needs no key.",
    } in result["checks"]
    assert len(received) == 1  # without a key nothing is asked


@pytest.mark.parametrize(
    ("reply", "status", "message", "fix"),
    [
        ({"body": models("stand-in", "other")}, "ok", "and has stand-in", ""),
        ({"body": models("a", "b")}, "warning", "does not list stand-in; it lists a, b", "Correct teacher.model"),
        ({"body": b"<html>Welcome"}, "warning", "not as an OpenAI-compatible endpoint", "usually ends in /v1"),
        ({"body": b"[" * 100_000}, "warning", "not as an OpenAI-compatible endpoint", "usually ends in /v1"),
        ({"status": 401}, "problem", "refuses the key in SCHOOL_KEY (HTTP 401)", "Check the key"),
        ({"status": 404}, "ok", "the name stand-in is not checked", ""),
        ({"status": 503}, "warning", "with HTTP 503", "Try again later"),
        ({"status": 302, "headers": {"location": "http://127.0.0.1:1/"}}, "problem", "redirects", "base_url"),
    ],
)
def test_what_an_endpoint_replies_is_explained(project, reply, status, message, fix):
    with endpoint(**reply) as (address, _):
        check = found(project(address))["endpoint of stand-in"]
    assert (check.status, message in check.found, fix in check.fix) == (status, True, True), check
    assert bool(check.fix) == (status != "ok")


def test_where_nothing_listens_is_said_and_with_offline_nothing_is_asked(project):
    file = project()
    check = found(file)["endpoint of stand-in"]
    assert (check.status, check.found) == ("problem", "http://127.0.0.1:9/v1: nothing listens there")
    assert check.fix == "Check teacher.base_url and that the server runs."
    assert "endpoint of stand-in" not in found(file, network=False)


def test_a_proxy_is_named_by_its_variable_and_a_wrong_one_is_a_problem(project):
    file = project("https://llm.example/v1")
    proxy = {"HTTPS_PROXY": "http://user:password@proxy.example:8080"}
    check = found(file, proxy, network=False)["proxy"]
    assert (check.status, check.found) == ("ok", "https://llm.example/v1 through HTTPS_PROXY")
    wrong = found(file, {"HTTPS_PROXY": "ftp://user:password@proxy"}, network=False)["proxy and certificate variables"]
    assert wrong.status == "problem"
    assert "password" not in wrong.found + wrong.fix
    other = found(file, {"REQUESTS_CA_BUNDLE": "/etc/school.pem"}, network=False)["certificates"]
    assert (other.status, "set SSL_CERT_FILE" in other.fix) == ("warning", True)


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
def test_a_variable_that_names_no_certificates_is_a_problem(project, tmp_path, variable):
    check = found(project(), {variable: str(tmp_path / "missing")}, network=False)["certificates"]
    assert (check.status, check.fix) == ("problem", f"Correct or unset {variable}.")


def test_a_project_that_cannot_be_read_is_a_problem_and_the_other_checks_go_on(project):
    checks = found(project(**{"name: lesson": "nme: lesson"}), network=False)
    assert checks["project file"].status == "problem"
    assert "unknown key nme; did you mean name?" in checks["project file"].found
    assert "disk: this folder" in checks


def test_rows_that_cannot_be_read_are_a_problem(project):
    file = project()
    (file.parent / "human.csv").write_text("id,response\nr1,Good.\n", "utf-8")
    check = found(file, network=False)["rows"]
    assert (check.status, "label" in check.found) == ("problem", True)


def test_a_backbone_that_is_not_there_comes_with_the_command_that_gets_it(monkeypatch, project, tmp_path):
    monkeypatch.setenv("EDGEDISTILL_CACHE", str(tmp_path / "cache"))
    for name, status, fix in (
        ("mpnet", "problem", "edgedistill backbones get mpnet"),
        ("school/model", "warning", "edgedistill backbones list"),
        ("../none/of/these", "problem", "edgedistill backbones list"),
    ):
        check = found(project(**{"student:\n": f"student:\n  backbone: {name}\n"}), network=False)["backbone"]
        assert (check.status, fix in check.fix) == (status, True), check


def test_damaged_answers_are_counted(project):
    from edgedistill.teacher import AnswerCache
    from edgedistill.teacher.cache import TeacherRequest

    file = project()
    folder = file.parent / "teacher-cache"
    assert found(file, network=False)["answers of stand-in"].found == f"none yet in {folder}"
    with AnswerCache(folder) as cache:
        for vote in range(3):
            request = TeacherRequest("http://x", "m", ({"role": "user", "content": "Hi"},), None, {}, 10, vote)
            cache.put(request, {"choices": []})
    assert found(file, network=False)["answers of stand-in"].status == "ok"
    with sqlite3.connect(folder / "cache.db") as database:
        database.execute("UPDATE Cache SET value = x'7b' WHERE rowid = 1")
    database.close()
    check = found(file, network=False)["answers of stand-in"]
    assert (check.status, check.found) == ("problem", f"1 of 3 answers in {folder} are damaged")
    assert check.fix == f"edgedistill cache verify {folder} --repair; they are requested again."


def test_a_full_disk_and_a_folder_without_permission_are_problems(monkeypatch, tmp_path):
    usage = doctor.shutil.disk_usage(tmp_path)
    monkeypatch.chdir(tmp_path)
    for free, status in ((10**8, "problem"), (10**9, "warning"), (10**10, "ok")):
        monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _, free=free: usage._replace(free=free))
        assert found()["disk: this folder"].status == status

    def refuse(**_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(doctor.tempfile, "TemporaryFile", refuse)
    check = found()["disk: this folder"]
    assert (check.status, check.found) == ("problem", f"{tmp_path} cannot be written to (Permission denied)")


def test_a_cache_on_a_drive_that_does_not_exist_is_a_problem(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGEDISTILL_CACHE", "/drive/cache")
    is_dir = Path.is_dir
    # On Windows, a drive such as Z: may have no folder at all.
    monkeypatch.setattr(Path, "is_dir", lambda self, **given: self != Path("/") and is_dir(self, **given))
    check = found()["disk: cache"]
    assert check.status == "problem"
    assert "cannot be written to (No such file or directory)" in check.found


def test_missing_and_old_packages_are_named_with_the_command_that_installs_them(monkeypatch):
    installed = doctor.version

    def version(name):
        if name == "scipy":
            raise doctor.PackageNotFoundError(name)
        return "4.0" if name == "transformers" else installed(name)

    monkeypatch.setattr(doctor, "version", version)
    check = found()["packages"]
    assert check.status == "problem"
    assert "scipy is not installed" in check.found
    assert "transformers is 4.0, and >=4.55 is required" in check.found
    assert '"scipy>=1.15"' in check.fix


def test_two_builds_of_onnxruntime_are_a_problem(monkeypatch):
    def refuse():
        raise RuntimeMissing("both are installed", hint="Remove both.")

    monkeypatch.setattr(doctor, "import_onnxruntime", refuse)
    check = found()["ONNX Runtime"]
    assert (check.status, check.found, check.fix) == ("problem", "both are installed", "Remove both.")


def test_packages_of_different_versions_are_a_problem(monkeypatch):
    installed = doctor.version
    monkeypatch.setattr(doctor, "version", lambda name: "0.0.9" if name == "edgedistill-serve" else installed(name))
    assert found()["EdgeDistill"].status == "problem"


def test_the_hint_that_sets_a_variable_is_for_the_shell_of_the_system(monkeypatch, project):
    monkeypatch.setattr("sys.platform", "win32")
    check = found(project(), {"SCHOOL_KEY": ""}, network=False)["key of stand-in"]
    assert '$env:SCHOOL_KEY = "…"' in check.fix
