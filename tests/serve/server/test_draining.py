"""SIGTERM under load: accepted requests are answered, later ones refused, and none is lost."""

import signal
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from threading import Barrier

import httpx

from edgedistill_serve import Scorer


def ask_until_refused(url: str, begun: Barrier) -> list[httpx.Response]:
    """Ask again and again; all who ask meet after their first answer."""
    answers = []
    with httpx.Client(base_url=url, timeout=60) as client:
        while not answers or answers[-1].status_code == 200:
            answers.append(
                client.post("/v1/score", json={"responses": [f"great job {len(answers)}" for _ in range(3)]})
            )
            if len(answers) == 1:
                begun.wait(60)
    return answers


def test_sigterm_under_load_loses_no_request(start, bundle):
    begun = Barrier(9)
    with start(str(bundle.folder)) as server, ThreadPoolExecutor(8) as callers:
        asking = [callers.submit(ask_until_refused, server.url, begun) for _ in range(8)]
        begun.wait(60)
        time.sleep(0.5)
        server.process.send_signal(signal.SIGTERM)
        # A request that was lost would raise here, as a connection that breaks off.
        answers = [future.result(60) for future in asking]
        assert server.process.wait(60) == 0
    expected = Scorer(bundle).score(["great job 0"])[0].probabilities
    for of_one_client in answers:
        *scored, refused = of_one_client
        assert [answer.status_code for answer in scored] == [200] * len(scored)
        assert scored[0].json()["scores"][0]["probabilities"] == expected
        assert refused.status_code == 503
        assert refused.headers["Connection"] == "close"
        assert "draining" in refused.json()["detail"]


def test_a_request_accepted_before_sigterm_is_answered(start, bundle):
    options = ("--queue", "1", "--max-items", "1", "--max-text", "1000000")
    with start(str(bundle.folder), *options) as server, ThreadPoolExecutor(1) as caller:
        slow = caller.submit(server.score_patiently, "great job " * 100_000)
        new_texts = (f"x {number}" for number in count())  # a score that is known already needs no room
        while server.client.post("/v1/score", json={"response": next(new_texts)}).status_code == 200:
            assert not slow.done()
        server.process.send_signal(signal.SIGTERM)
        answer = slow.result(60)
        assert (answer.status_code, answer.json()["reason"]) == (200, "truncated")
        assert server.process.wait(60) == 0
