"""The OpenAPI document matches the answers of the server."""

import json
import re

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
