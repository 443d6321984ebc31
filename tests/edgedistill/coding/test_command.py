"""`edgedistill code` as a process: what it prints, whom it answers, and how it ends."""

import json
import signal
import socket

import httpx

from ...e2e.lessons import command
from ...processes import PROGRAMS, Process
from .projects import read_csv, write_project


def test_nothing_is_answered_without_the_secret_of_the_link(serve, tmp_path):
    page = serve(write_project(tmp_path, 1), "--coders", "anna")
    for token in ("x", page.token[:-1], page.token + "x"):
        answer = page.post("work", token=token, coder="anna")
        assert (answer.status_code, "tried" in answer.text) == (401, False)
    assert httpx.post(f"{page.url}/api/work", json={"coder": "anna"}, trust_env=False).status_code == 401
    assert page.post("work", coder="anna").status_code == 200
    assert len(page.token) >= 32


def test_other_sites_cannot_use_it(serve, tmp_path):
    page = serve(write_project(tmp_path, 1), "--coders", "anna")
    # A site whose name resolves to this machine (DNS rebinding) has another Host.
    rebound = page.post("work", headers={"Host": f"evil.example:{page.port}"}, coder="anna")
    assert rebound.status_code == 421
    # Another origin needs the server's permission to send the header (CORS), and to show the page in a frame.
    headers = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    asked = httpx.options(f"{page.url}/api/work", headers=headers, trust_env=False)
    assert (asked.status_code, "access-control-allow-origin" in asked.headers) == (405, False)
    shown = httpx.get(page.url, trust_env=False)
    assert shown.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'")
    assert "frame-ancestors 'none'" in shown.headers["content-security-policy"]
    assert page.token not in shown.text


def test_it_listens_on_this_machine_only(serve, tmp_path):
    page = serve(write_project(tmp_path, 1))
    assert page.url.startswith("http://127.0.0.1:")
    with socket.socket() as other:
        other.settimeout(5)
        assert other.connect_ex(("127.0.0.2", int(page.port))) != 0


def test_requests_that_are_none_are_refused_with_a_reason(serve, tmp_path):
    page = serve(write_project(tmp_path, 1), "--coders", "anna")
    sent = {"Authorization": f"Bearer {page.token}"}
    cases = {
        b"{": (400, "not valid JSON"),
        b'{"coder": 1}': (422, "wrong shape"),
        b'{"coder": "anna", "id": "r9", "code": "process"}': (422, "there is no row 'r9' to code"),
        b'{"coder": "anna", "id": "r0", "code": "sung"}': (422, "no label 'sung'"),
        b'{"coder": "ben", "id": "r0", "code": "process"}': (422, "this project has no coder 'ben'"),
        b'"' + b"x" * 100_000 + b'"': (413, "longer than"),
    }
    for body, (status, reason) in cases.items():
        answer = httpx.post(f"{page.url}/api/code", content=body, headers=sent, trust_env=False)
        assert (answer.status_code, reason in answer.json()["detail"]) == (status, True), answer.text
    assert page.post("nothing").status_code == 404
    assert page.post("note", coder="anna", id="r0", text="x" * 5001).status_code == 422


def test_with_json_it_prints_one_object_at_its_end_and_the_link_on_standard_error(tmp_path):
    file = write_project(tmp_path, 2)
    with (tmp_path / "errors").open("w+b") as errors:
        names = ("--coders", "anna", "--coders", "ben, cem")
        process = Process(PROGRAMS / "edgedistill", "code", file, *names, "--json", complaints=errors)
        while b"Ctrl+C" not in (tmp_path / "errors").read_bytes():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        printed, _ = process.communicate()
    assert (tmp_path / "errors").read_text().startswith("Coding page: http://127.0.0.1:")
    summary = json.loads(printed)
    assert (summary["coders"], summary["rows"]) == ({"anna": 0, "ben": 0, "cem": 0}, 2)


def test_a_terminated_page_writes_the_table_too(serve, tmp_path):
    page = serve(write_project(tmp_path, 1), "--coders", "anna")
    assert page.post("code", coder="anna", id="r0", code="process").json()["row"]["code"] == "process"
    page.process.send_signal(signal.SIGTERM)
    printed, _ = page.process.communicate()
    assert page.process.wait() == 0
    assert "1 of 1 rows have a label" in printed
    assert "add anna to evaluation.coders in project.yaml" in printed
    assert read_csv(tmp_path / "human.csv")[0]["label"] == "process"


def test_codes_of_a_killed_page_are_in_the_table_when_it_starts_again(serve, tmp_path):
    file = write_project(tmp_path, 1)
    page = serve(file, "--coders", "anna")
    page.post("code", coder="anna", id="r0", code="process")
    page.process.kill()
    page.process.wait()
    assert read_csv(tmp_path / "human.csv")[0]["label"] == ""
    serve(file)
    assert read_csv(tmp_path / "human.csv")[0]["label"] == "process"


def test_a_second_page_for_the_same_project_is_refused(serve, tmp_path):
    file = write_project(tmp_path, 1)
    serve(file)
    refused = command("edgedistill", "code", file, expect=2)
    assert "another process codes this project" in refused.stderr


def test_bad_options_are_refused(serve, tmp_path):
    file = write_project(tmp_path, 1)
    for options, message in {
        ("--double-share", "1.5"): "must be from 0 to 1, not 1.5",
        ("--kappa-after", "0"): "from at least 1 row on, not 0",
        ("--coders", "label"): "there is already a coder or a column 'label'",
        ("--sheet", tmp_path / "none.csv"): "the file does not exist",
        ("--port", serve(write_project(tmp_path / "other", 1)).port): "cannot listen",
    }.items():
        refused = command("edgedistill", "code", file, *options, expect=2)
        assert message in refused.stderr, refused.stderr


def test_responses_and_the_secret_are_in_no_log(serve, tmp_path):
    page = serve(write_project(tmp_path, 1), "--coders", "anna")
    page.post("work", coder="anna")
    page.post("code", coder="anna", id="r0", code="x" * 3000)
    printed, errors = page.end()
    assert "tried" not in printed + errors
    assert page.token not in errors
    assert json.loads((tmp_path / "coding/human.csv/journal.jsonl").read_text().splitlines()[0])["event"] == "opened"
    assert "tried" not in (tmp_path / "coding/human.csv/journal.jsonl").read_text()
