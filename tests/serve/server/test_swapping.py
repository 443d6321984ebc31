"""A new bundle is served without interruption, an invalid one changes nothing, and a killed server restarts cleanly."""

import signal
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from threading import Event

import httpx
import pytest

from edgedistill_serve import Bundle, Scorer

ROW = {"response": "great job"}


@pytest.fixture
def folder(make_bundle, tmp_path):
    return make_bundle(tmp_path / "served").folder


def replaced(make_bundle, folder):
    """Put another version of the bundle into a folder."""
    return make_bundle(folder, files={"README.md": b"# Another version"}, temperature=2.0)


def until(true, server):
    patience = time.monotonic() + 60
    while not true():
        assert time.monotonic() < patience, server.log.read_text()
        time.sleep(0.02)


def version(server) -> str:
    return server.client.post("/v1/score", json=ROW).json()["version"]


Answers = list[tuple[list[str], httpx.Response]]


def ask(url: str, stop: Event, who: int, answers: Answers) -> None:
    """Ask without a pause, and note the texts and the answers."""
    with httpx.Client(base_url=url, timeout=60) as client:
        for turn in count():
            if stop.is_set():
                return
            texts = [f"great job {who} {turn} {number}" for number in range(5)]
            answers.append((texts, client.post("/v1/score", json={"responses": texts})))


@pytest.mark.parametrize("how", ["a signal", "a watched folder"])
def test_a_new_bundle_is_served_under_load_without_failed_requests(start, folder, make_bundle, how):
    stop = Event()
    options = ["--watch"] if how == "a watched folder" else []
    before = Scorer(Bundle.load(folder), score_cache=0)
    with start(str(folder), "--recent", "0", *options) as server, ThreadPoolExecutor(4) as callers:
        answers: Answers = []
        asking = [callers.submit(ask, server.url, stop, who, answers) for who in range(4)]
        try:
            old = version(server)
            until(lambda: answers, server)
            new = replaced(make_bundle, folder)
            if how == "a signal":
                server.process.send_signal(signal.SIGHUP)
            until(lambda: answers and answers[-1][1].json()["version"] == new.manifest.version, server)
        finally:
            stop.set()
        for future in asking:
            future.result(60)
    assert {answer.status_code for _, answer in answers} == {200}
    assert {answer.json()["version"] for _, answer in answers} == {old, new.manifest.version}
    # Each answer is that of one model: nobody got scores of both.
    models = {old: before, new.manifest.version: Scorer(new, score_cache=0)}
    for texts, answer in answers[:: max(1, len(answers) // 40)]:
        found = [score["probabilities"] for score in answer.json()["scores"]]
        assert found == [score.probabilities for score in models[answer.json()["version"]].score(texts)]


def test_a_bad_bundle_changes_nothing_and_shows(start, folder):
    with start(str(folder)) as server:
        before = version(server)
        (folder / "tokenizer.json").write_text("{}")
        server.process.send_signal(signal.SIGHUP)
        until(lambda: "new bundle cannot be served" in server.log.read_text(), server)
        assert version(server) == before
        ready = server.client.get("/readyz")
        assert ready.status_code == 200
        assert "tokenizer.json" in ready.text
        assert server.metric("edgedistill_model_swap_failures") == 1


def test_a_model_is_requested_by_name_and_version(start, folder, make_bundle, tmp_path):
    other = replaced(make_bundle, tmp_path / "other")
    with start(str(folder), str(other.folder)) as server:
        name = f"praise@{other.manifest.version}"
        found = server.client.post("/v1/score", json={**ROW, "model": name}).json()
        assert found["version"] == other.manifest.version
        assert found["probabilities"] == Scorer(other).score(["great job"])[0].probabilities
        assert version(server) != other.manifest.version


def test_the_default_model_answers_who_names_none(start, bundle, answers_bundle):
    with start(str(answers_bundle.folder), str(bundle.folder), "--default-model", "praise") as server:
        assert server.client.post("/v1/score", json=ROW).json()["model"] == "praise"


def test_a_killed_server_starts_again_and_scores_the_same(start, folder):
    with start(str(folder)) as server:
        before = server.client.post("/v1/score", json=ROW).json()
        server.process.kill()
        server.process.wait(30)
    with start(str(folder)) as server:
        assert server.client.post("/v1/score", json=ROW).json() == before


def test_a_deleted_bundle_stays_in_service(start, folder, make_bundle, tmp_path):
    with start(str(folder), "--recent", "0") as server:
        before = server.client.post("/v1/score", json=ROW).json()
        folder.rename(tmp_path / "elsewhere")
        assert server.client.post("/v1/score", json=ROW).json() == before
