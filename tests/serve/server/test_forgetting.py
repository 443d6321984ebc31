"""No text stays in memory after its answer, even without a garbage collection."""

import asyncio
import gc
import json

import pytest

from edgedistill_serve import Scorer
from edgedistill_serve.server.app import create_app
from edgedistill_serve.server.limits import Limits
from edgedistill_serve.server.queue.work_item import QueuedRow
from edgedistill_serve.server.service import Service

POISON = "poisonous"
MARK = "soon forgotten"


def rows_held():
    return sum(isinstance(each, QueuedRow) and MARK in str(each.inputs) for each in gc.get_objects())


async def answered(app, body, path="/v1/score"):
    """Ask an application in this process, and return its status."""
    parts = [{"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}]
    sent = []

    async def receive():
        if not parts:
            await asyncio.sleep(3600)
        return parts.pop()

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": [], "client": None}
    await app(scope, receive, send)
    return sent[0]["status"]


@pytest.mark.parametrize(
    ("body", "path", "answer_seconds", "status"),
    [
        ({"response": MARK + " {}"}, "/v1/score", 30, 200),
        ({"response": f"{POISON} {MARK} {{}}"}, "/v1/score", 30, 500),
        ({"responses": [f"{POISON} {MARK} {{}}", MARK + " {}"]}, "/v1/score", 30, 200),
        ({"response": MARK + " {}"}, "/v1/score", 1e-9, 503),
        ({"responses": [MARK + " {}", "very " + MARK + " {}"]}, "/v1/score", 1e-9, 503),
        (f"{POISON} {MARK} {{}}", "/v1/score/bulk", 30, 200),
    ],
)
def test_a_row_is_removed_from_memory_with_its_answer(bundle, body, path, answer_seconds, status):
    async def main():
        service = Service(Limits(answer_seconds=answer_seconds), threads=1)
        service.open([Scorer(bundle, threads=1, score_cache=0)])
        app = create_app(service)
        gc.collect()
        gc.disable()
        try:
            for number in range(20):
                asked = json.loads(json.dumps(body).replace("{}", str(number)))
                assert await answered(app, asked, path) == status
            await asyncio.sleep(0.2)
            return rows_held()
        finally:
            gc.enable()
            service.close()

    assert asyncio.run(main()) == 0
