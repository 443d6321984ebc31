"""The log: its formats, levels and fields, and what never stands in it."""

import json
import logging
import re
import sys

import pytest

from edgedistill_serve.server.log_lines import JsonFormatter, TextFormatter, configure_log
from edgedistill_serve.server.middleware.api_keys import create_key
from edgedistill_serve.server.middleware.request_log import logged_id

SECRET = "zebraphone"


def lines_of(server) -> list[dict]:
    return [json.loads(line) for line in server.log.read_text().splitlines()]


def requests_of(server) -> list[dict]:
    return [line for line in lines_of(server) if line["event"] == "request"]


@pytest.fixture(scope="module")
def key():
    return create_key("school")


@pytest.fixture(scope="module")
def server(start, bundle, key, tmp_path_factory):
    file = tmp_path_factory.mktemp("keys") / "keys"
    file.write_text(key.entry.line())
    with start(str(bundle.folder), "--keys", str(file), "--log-format", "json") as server:
        server.client.headers["X-API-Key"] = key.key
        yield server


def test_a_request_has_its_fields_and_its_model(server, bundle):
    server.client.post("/v1/score", json={"responses": ["great job", "why", {"response": "so smart"}]})
    line = requests_of(server)[-1]
    request_id = line.pop("request_id")
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("time"))
    assert 0 < line.pop("duration") < 60
    assert re.fullmatch("[0-9a-f]{32}", request_id)
    assert line == {
        "level": "info",
        "event": "request",
        "method": "POST",
        "route": "/v1/score",
        "status": 200,
        "model": "praise",
        "version": bundle.manifest.version,
        "rows": 3,
    }


@pytest.mark.parametrize(
    ("path", "content", "rows"),
    [
        ("/v1/score/bulk", b'"great job"\n"why"\n5\n', 3),
        ("/predict", b'{"inputs": [["great job"], ["why"]]}', 2),
        (
            "/v2/models/praise/infer",
            b'{"inputs": [{"name": "response", "shape": [1], "datatype": "BYTES", "data": ["x"]}]}',
            1,
        ),
    ],
)
def test_every_protocol_says_how_many_rows_of_which_model(server, path, content, rows):
    assert server.client.post(path, content=content).status_code == 200
    line = requests_of(server)[-1]
    assert (line["model"], line["rows"]) == ("praise", rows)
    assert line["route"] == path.replace("praise", "{model}")


@pytest.mark.parametrize("key_sent", [True, False])
def test_an_unknown_path_is_a_404_in_answer_and_log_with_or_without_a_key(server, key, key_sent):
    headers = {} if key_sent else {"X-API-Key": "no"}
    assert server.client.get(f"/{SECRET}?{SECRET}", headers=headers).status_code == 404
    line = requests_of(server)[-1]
    assert (line["status"], line["route"]) == (404, "(no such path)")


@pytest.mark.parametrize(("method", "path"), [("POST", "/v1/score"), ("GET", "/v2/models/other"), ("GET", "/predict")])
def test_a_refused_key_is_logged_with_the_route_it_was_refused_at(server, method, path):
    assert server.client.request(method, path, headers={"X-API-Key": "no"}).status_code == 401
    line = requests_of(server)[-1]
    assert (line["status"], line["route"]) == (401, path.replace("other", "{model}"))


def test_a_refused_host_is_logged_with_its_route(server):
    assert server.client.get("/v1/models", headers={"Host": "evil.example"}).status_code == 421
    line = requests_of(server)[-1]
    assert (line["status"], line["route"]) == (421, "/v1/models")


def test_probes_are_not_logged_at_info(server):
    before = len(requests_of(server))
    for path in ("/livez", "/healthz", "/readyz", "/health", "/metrics", "/v2/health/live", "/v2/health/ready"):
        assert server.client.get(path).status_code == 200
    assert server.client.get("/v2/models/praise/ready").status_code == 200
    assert len(requests_of(server)) == before
    assert server.client.get("/metrics", headers={"X-API-Key": "no"}).status_code == 401
    assert requests_of(server)[-1]["route"] == "/metrics"


def test_a_client_id_is_logged_only_if_a_machine_made_it(server):
    made = "3f2b8c1e-9a47-4d0e-8b15-6c7d2e9f0a34"
    for sent in (made, SECRET, f"{SECRET}@school.example", "12345678"):
        assert server.client.get("/v1/models", headers={"X-Request-ID": sent}).headers["X-Request-ID"] == sent
    ids = [line.get("request_id") for line in requests_of(server)[-4:]]
    assert ids == [made, None, None, None]


@pytest.mark.parametrize(
    "sent", ["0123456789abcdef", "01ARZ3NDEKTSV4RRFFQ69G5FAV", "3f2b8c1e-9a47-4d0e-8b15-6c7d2e9f0a34", 64 * "a"]
)
def test_ids_of_proxies_are_logged(sent):
    assert logged_id(sent) == sent


@pytest.mark.parametrize(
    "sent", ["", "anna", "20391817", 65 * "a", "3f2b8c1e-9a47-4d0e-8b15-6c7d2e9f0a34 anna", "o'neill-0123456789abcdef"]
)
def test_ids_that_a_person_may_have_typed_are_not(sent):
    assert logged_id(sent) is None


def test_an_id_that_begins_like_one_of_the_server_is_not_logged(server):
    ours = server.client.get("/v1/models").headers["X-Request-ID"]
    assert logged_id(ours) == ours
    server.client.get("/v1/models", headers={"X-Request-ID": f"{ours[:16]}{SECRET}"})
    assert SECRET not in server.log.read_text()


def test_the_log_has_no_text_no_id_and_no_query(server):
    server.client.post(f"/v1/score?{SECRET}", json={"response": SECRET, "model": SECRET})
    server.client.post(f"/v1/score/bulk?model={SECRET}", content=f'"{SECRET}"')
    server.client.get(f"/v2/models/{SECRET}/versions/{SECRET}")
    server.client.request(SECRET.upper(), "/v1/score", headers={"X-Request-ID": SECRET, "Referer": SECRET})
    assert SECRET not in server.log.read_text().lower()


def test_debug_adds_the_probes_and_text_has_the_model_and_its_rows(start, bundle):
    with start(str(bundle.folder), "--log-level", "debug", "--log-format", "text") as server:
        server.client.post("/v1/score", json={"response": "x"})
        server.client.get("/livez")
        log = server.log.read_text()
    assert re.search(
        rf"INFO POST /v1/score 200 \d+\.\d ms praise@{bundle.manifest.version} 1 row [0-9a-f]{{32}}\n", log
    )
    assert re.search(r"DEBUG GET /livez 200 ", log)


def test_at_level_warning_requests_are_not_logged(start, bundle):
    with start(str(bundle.folder), "--log-level", "warning") as server:
        server.client.post("/v1/score", json={"response": "x"})
        assert server.log.read_text() == ""


def test_a_format_that_does_not_exist_is_refused_at_the_start(bundle):
    from ... import processes

    ended = processes.run("edgedistill-serve", "serve", str(bundle.folder), "--log-format", "xml")
    assert ended.returncode == 2
    assert "'xml' is not one of 'text', 'json'" in ended.stderr


@pytest.mark.parametrize("formatter", [JsonFormatter(), TextFormatter()])
def test_an_exception_of_a_library_is_logged_without_its_message(formatter):
    try:
        int(SECRET)  # its message quotes the text
    except ValueError:
        record = logging.LogRecord("asyncio", logging.ERROR, "x.py", 1, "a\nb \x1b[2J", (), sys.exc_info())
    line = formatter.format(record)
    assert SECRET not in line
    assert "ValueError" in line
    assert "test_an_exception_of_a_library" in line
    assert "\x1b" not in line
    if isinstance(formatter, JsonFormatter):
        content = json.loads(line)
        assert (content["event"], content["logger"], content["level"]) == ("log", "asyncio", "error")


def test_levels_of_other_libraries_start_at_warning(monkeypatch, capsys):
    root, ours = logging.getLogger(), logging.getLogger("edgedistill_serve")
    monkeypatch.setattr(root, "handlers", [])
    level = ours.level
    try:
        configure_log("text", "debug")
        logging.getLogger("asyncio").info("a library")
        ours.debug("ours")
    finally:
        ours.setLevel(level)
    assert "ours" in capsys.readouterr().err
