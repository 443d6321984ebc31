"""Answers of a server before its bundles are loaded, while it drains, and after a bug."""

import asyncio
import logging

import httpx
import pytest

from edgedistill_serve import Scorer
from edgedistill_serve.server.app import create_app
from edgedistill_serve.server.limits import Limits
from edgedistill_serve.server.middleware.request_log import RequestLog
from edgedistill_serve.server.service import Service

SECRET = "a secret that a learner typed"


def ask(app, method: str, path: str, **given) -> httpx.Response:
    async def send() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here") as client:
            return await client.request(method, path, **given)

    return asyncio.run(send())


@pytest.fixture
def service():
    service = Service(Limits(), threads=1)
    yield service
    service.close()


@pytest.mark.parametrize(("method", "path"), [("GET", "/readyz"), ("GET", "/v1/models"), ("POST", "/v1/score")])
def test_a_server_reports_that_it_is_loading(service, method, path):
    response = ask(create_app(service), method, path, json={"response": "x"} if method == "POST" else None)
    assert response.status_code == 503
    assert response.headers["Content-Type"] == "application/problem+json"
    assert response.headers["Retry-After"] == "1"
    assert "the server is starting" in response.json()["detail"]


def test_a_server_that_is_loading_is_alive(service):
    assert ask(create_app(service), "GET", "/livez").status_code == 200


def test_a_server_is_ready_once_it_has_its_scorers(service, bundle):
    service.open([Scorer(bundle, threads=1)])
    assert ask(create_app(service), "GET", "/readyz").status_code == 200


def test_a_draining_server_refuses_and_closes_its_connections(service, bundle):
    service.open([Scorer(bundle, threads=1)])
    service.drain()
    for method, path in (("GET", "/readyz"), ("POST", "/v1/score")):
        response = ask(create_app(service), method, path, json={"response": "x"})
        assert response.status_code == 503
        assert response.headers["Connection"] == "close"
        assert "the server is draining" in response.json()["detail"]


def test_a_server_that_drains_during_the_load_stays_in_that_state(service, bundle):
    service.drain()
    service.open([Scorer(bundle, threads=1)])
    assert service.state == "draining"


def test_a_bug_is_a_500_that_keeps_the_text_out_of_answer_and_log(caplog):
    async def broken(scope, receive, send):
        raise ValueError(SECRET)

    with caplog.at_level(logging.INFO):
        response = ask(RequestLog(broken, lambda: False), "POST", "/v1/score", json={"x": SECRET})
    assert response.status_code == 500
    assert response.headers["Content-Type"] == "application/problem+json"
    assert "ValueError at broken" in caplog.text
    assert SECRET not in caplog.text + response.text
