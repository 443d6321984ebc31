"""The OpenAPI document matches the answers of the server."""

import json
import re

import jsonschema_rs
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from starlette.routing import Route

from edgedistill_serve.server.app import create_app
from edgedistill_serve.server.limits import Limits
from edgedistill_serve.server.middleware.api_keys import create_key
from edgedistill_serve.server.service import Service

CHECKS = (not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance)
NDJSON = "application/x-ndjson"
UNDESCRIBED = {"/", "/docs", "/openapi.json"}


@schemathesis.serializer(NDJSON)
def as_a_line(context, value):
    return json.dumps(value).encode() + b"\n"


@schemathesis.deserializer(NDJSON)
def from_a_line(context, response):
    (line,) = response.content.splitlines()
    return json.loads(line)


@pytest.fixture(scope="module")
def server(start, bundle):
    with start(str(bundle.folder), "--max-items", "20") as server:
        yield server


@pytest.fixture(scope="module")
def document(server):
    return server.client.get("/openapi.json").json()


def test_every_route_is_in_the_document_with_its_method(document):
    service = Service(Limits(), threads=1)
    routes = [route for route in create_app(service).routes if isinstance(route, Route)]
    service.close()
    wanted = {
        (route.path, method.lower())
        for route in routes
        if route.path not in UNDESCRIBED and not route.path.startswith("/page/")
        for method in route.methods - {"HEAD"}
    }
    assert wanted == {(path, method) for path, methods in document["paths"].items() for method in methods}


def test_every_schema_that_is_named_is_there(document):
    named = set(re.findall(r"#/components/schemas/([\w.\[\]]+)", str(document)))
    assert named == set(document["components"]["schemas"])


def test_the_document_has_the_limit_of_items(document):
    assert document["components"]["schemas"]["ManyResponses"]["properties"]["responses"]["maxItems"] == 20


def operations(document):
    return [
        (path, method, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


def contents(operation):
    """The described bodies of an operation: (what it is, media type, content)."""
    bodies = {"request": operation.get("requestBody", {}), **operation["responses"]}
    return [(what, media, each) for what, body in bodies.items() for media, each in body.get("content", {}).items()]


def test_operation_ids_are_names_for_generated_clients(document):
    ids = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch("[a-z]+(_[a-z]+)*", name) for name in ids)
    assert {"score", "score_bulk", "explain", "list_models", "predict", "infer_model"} <= set(ids)


def test_every_operation_has_one_described_tag_and_every_tag_is_used(document):
    used = [operation["tags"] for _, _, operation in operations(document)]
    assert {name for (name,) in used} == {tag["name"] for tag in document["tags"]}
    assert all(tag["description"] for tag in document["tags"])


def test_every_body_has_an_example_that_its_schema_allows(document):
    without = []
    for path, method, operation in operations(document):
        for what, _, content in contents(operation):
            examples = content.get("examples", {})
            if not examples:
                without.append((path, method, what))
            schema = {**content["schema"], "components": document["components"]}
            for example in examples.values():
                assert example["summary"]
                jsonschema_rs.validate(schema, example["value"])
    assert without == [("/health", "get", "200")]  # its body is empty


def test_every_error_says_when_it_comes_and_with_which_headers(document):
    for path, _, operation in operations(document):
        for status, response in operation["responses"].items():
            assert len(response["description"]) > 2, (path, status)
            assert "X-Request-ID" in response["headers"]
            assert ("Retry-After" in response["headers"]) == (status in ("429", "503"))
    score = document["paths"]["/v1/score"]["post"]["responses"]
    assert set(score) == {"200", "400", "401", "404", "408", "413", "415", "421", "422", "429", "500", "503"}


def test_every_property_of_a_score_and_a_model_has_a_description(document):
    schemas = document["components"]["schemas"]
    for name in ("Model", "Score", "ScoredResponse", "Problem", "WordEffect", "RequestLimits"):
        assert all(each.get("description") for each in schemas[name]["properties"].values()), name
        assert "Attributes" not in schemas[name]["description"]
        assert "``" not in str(schemas[name])


@pytest.fixture(scope="module")
def server_of_two(start, bundle, answers_bundle, tmp_path_factory):
    key = create_key("school")
    file = tmp_path_factory.mktemp("keys") / "keys"
    file.write_text(key.entry.line())
    arguments = ("--keys", str(file), "--max-items", "20")
    with start(str(bundle.folder), str(answers_bundle.folder), *arguments) as server:
        server.client.headers["X-API-Key"] = key.key
        yield server


def test_every_example_of_a_request_is_accepted(server_of_two, document):
    sent = 0
    for path, _, operation in operations(document):
        for what, media, content in contents(operation):
            for example in content.get("examples", {}).values() if what == "request" else ():
                value = example["value"]
                if isinstance(value, dict) and path.startswith(("/v1/score", "/v1/explain", "/predict")):
                    value = {"model": "praise", **value} if media != NDJSON else value
                query = {"model": "praise"} if media == NDJSON else {}
                url = path.replace("{model}", "praise").replace("{version}", version_of(server_of_two, "praise"))
                answer = server_of_two.client.post(
                    url, content=json.dumps(value) + "\n", params=query, headers={"Content-Type": media}
                )
                assert (answer.status_code, "error" in answer.text) == (200, False), (path, value, answer.text)
                sent += 1
    assert sent >= 10


def version_of(server, name: str) -> str:
    return next(each["version"] for each in server.client.get("/v1/models").json()["models"] if each["name"] == name)


@pytest.mark.parametrize(
    ("status", "request_"),
    [
        (400, {"content": b'{"response": "x"'}),
        (401, {"content": b"{}"}),
        (404, {"json": {"response": "x", "model": "other"}}),
        (413, {"json": {"responses": ["x"] * 40}}),
        (415, {"content": b"{}", "headers": {"Content-Encoding": "gzip"}}),
        (421, {"content": b"{}", "headers": {"Host": "evil.example"}}),
        (422, {"json": {"response": "x"}}),
    ],
)
def test_examples_of_errors_are_what_the_server_answers(server_of_two, status, request_):
    described = server_of_two.client.get("/openapi.json").json()["paths"]["/v1/score"]["post"]["responses"]
    (example,) = described[str(status)]["content"]["application/problem+json"]["examples"].values()
    with server_of_two.new_client() as without_key:
        client = without_key if status == 401 else server_of_two.client
        answer = client.post("/v1/score", **request_)
    assert answer.status_code == status
    assert {**answer.json(), "request_id": ""} == {**example["value"], "request_id": ""}
    headers = {name.lower() for name in described[str(status)]["headers"]}
    assert headers - {name.lower() for name in answer.headers} == set()


def test_every_documented_request_gets_a_documented_answer(server, document):
    schema = schemathesis.openapi.from_dict(document)
    schema.config.update(base_url=server.url)
    asked = 0
    for result in schema.get_all_operations():
        operation = result.ok()

        @settings(
            max_examples=12, deadline=None, derandomize=True, database=None, phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(case=operation.as_strategy())
        def ask(case):
            nonlocal asked
            asked += 1
            response = case.call()
            case.validate_response(response, checks=CHECKS)

        ask()
    assert asked > 100


def test_docs_is_a_page_of_this_server_alone(server):
    page = server.client.get("/docs")
    assert page.headers["Content-Type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    linked = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert "page/docs.js" in linked
    assert all(server.client.get(f"/{link}").status_code == 200 for link in linked)


@pytest.mark.parametrize("page", ["/", "/docs"])
def test_pages_work_under_a_path_of_a_proxy(server, page):
    """All that a page loads is relative to its own address, also in its scripts."""
    html = server.client.get(page).text
    scripts = re.findall(r'src="([^"]+[.]js)"', html)
    assert scripts
    absolute = re.compile(r"""(?:src=|href=|fetch\(|from |import\()["'`](?:/|https?:)""")
    for text in (html, *(server.client.get(f"/{script}").text for script in scripts)):
        assert not absolute.findall(text)
