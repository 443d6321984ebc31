"""The server over a real socket: requests, statuses and logs."""

import json
import random
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import httpx
import msgspec
import pytest

from edgedistill_serve import Scorer
from edgedistill_serve.grading.table_reader import read_rows

TEXTS = ("you worked hard", "great job", "so smart", "x", "", "why is this the answer", "42 " * 40, "é ü")
SECRET = "zebraphone"
POISON = "poisonous"


@pytest.fixture(scope="module")
def server(start, bundle):
    with start(str(bundle.folder), "--max-body-bytes", "20000", "--max-items", "50", "--queue", "400") as server:
        yield server


@pytest.fixture(scope="module")
def expected(bundle):
    scores = Scorer(bundle).score(TEXTS)
    return {text: msgspec.to_builtins(score) for text, score in zip(TEXTS, scores, strict=True)}


def score(server, content) -> httpx.Response:
    return server.client.post("/v1/score", json=content)


def problem(response: httpx.Response, status: int) -> str:
    assert response.status_code == status
    assert response.headers["Content-Type"] == "application/problem+json"
    content = response.json()
    assert content["status"] == status
    assert content["title"]
    assert content["type"] == "about:blank"
    assert content["request_id"] == response.headers["X-Request-ID"]
    return content["detail"]


def test_one_response_is_scored(server, bundle, expected):
    response = score(server, {"response": "great job"})
    assert response.status_code == 200
    model = {"model": "praise", "version": bundle.manifest.version}
    assert response.json() == {**model, **expected["great job"]}


def test_a_list_of_texts_and_objects_is_scored_in_order(server, expected):
    content = [text if number % 2 else {"response": text} for number, text in enumerate(TEXTS)]
    assert score(server, {"responses": content}).json()["scores"] == [expected[text] for text in TEXTS]
    assert score(server, {"responses": []}).json()["scores"] == []


def test_scores_are_bit_identical_under_load_and_in_every_batch(server, expected):
    draw = random.Random(3)
    requests = [draw.choices(TEXTS, k=draw.randint(1, 9)) for _ in range(120)]
    with ThreadPoolExecutor(8) as callers:
        answers = list(callers.map(lambda texts: score(server, {"responses": texts}).json()["scores"], requests))
    assert answers == [[expected[text] for text in texts] for texts in requests]


def test_grade_and_the_server_agree_to_the_last_bit(bundle, tmp_path, expected):
    from edgedistill_serve.grading.grade import grade

    (tmp_path / "in.tsv").write_text("response\n" + "\n".join(text for text in TEXTS if text))
    grade(Scorer(bundle), tmp_path / "in.tsv", tmp_path / "out.csv")
    graded = {row.values["response"]: float(row.values["probability"]) for row in read_rows(tmp_path / "out.csv")}
    assert graded == {text: expected[text]["probability"] for text in TEXTS if text}


def test_a_response_that_the_model_fails_on_fails_alone(server, expected):
    first, failed, last = score(server, {"responses": ["great job", POISON, "x"]}).json()["scores"]
    assert (first, last) == (expected["great job"], expected["x"])
    assert failed == {"error": "the model failed on this response (InvalidArgument)"}
    assert "the model failed" in problem(score(server, {"response": POISON}), 500)


def test_the_models_are_listed(server, bundle):
    (model,) = server.client.get("/v1/models").json()["models"]
    assert (model["name"], model["version"], model["precision"]) == ("praise", bundle.manifest.version, "int8")
    assert (model["labels"], model["inputs"]) == (["process", "outcome", "person"], ["response"])


def test_several_models_are_distinguished_by_name(start, bundle, answers_bundle):
    row = {"question": "why", "reference_answer": "because", "response": "great job"}
    with start(str(bundle.folder), str(answers_bundle.folder)) as server:
        found = score(server, {"model": "answers", **row}).json()
        assert found["probabilities"] == Scorer(answers_bundle).score([row])[0].probabilities
        assert "Name one of praise, answers" in problem(score(server, row), 422)
        assert "'question' is missing" in problem(score(server, {"model": "answers", "response": "x"}), 422)
        problem(score(server, {"model": "other", "response": "x"}), 404)


def test_a_request_id_is_echoed_on_scores_and_errors(server):
    for path in ("/livez", "/nowhere", "/v1/score"):
        assert server.client.get(path, headers={"X-Request-ID": "lesson-7/9"}).headers["X-Request-ID"] == "lesson-7/9"


def test_a_request_id_is_made_when_there_is_none_or_a_strange_one(server):
    made = {server.client.get("/livez", headers=h).headers["X-Request-ID"] for h in ({}, {"X-Request-ID": "a b"}, {})}
    assert len(made) == 3
    assert all(len(request_id) == 32 for request_id in made)


@pytest.mark.parametrize(
    "body", [b"", b"hello", b"NaN", b'{"response": "\xff"}', b'{"response": "\\ud800"}', b"[" * 20_000, b'{"a":' * 4000]
)
def test_invalid_json_is_a_400(server, body):
    problem(server.client.post("/v1/score", content=body), 400)


@pytest.mark.parametrize(
    "content", [[], {}, {"response": 5}, {"response": None}, {"responses": "x"}, {"responses": ["x", 5]}, {"text": "x"}]
)
def test_another_shape_is_a_422(server, content):
    problem(score(server, content), 422)


def test_a_422_names_the_response(server):
    detail = problem(score(server, {"responses": ["x", {"question": "y"}]}), 422)
    assert detail.startswith("responses[1]: the input 'response' is missing")


def test_an_unknown_path_is_a_404_and_a_wrong_method_a_405(server):
    problem(server.client.get("/nowhere"), 404)
    response = server.client.get("/v1/score")
    problem(response, 405)
    assert response.headers["Allow"] == "POST"


@pytest.mark.parametrize("times", [2, 100])
def test_a_body_that_is_too_long_is_a_413(server, times):
    detail = problem(server.client.post("/v1/score", content=times * 20_000 * b"x"), 413)
    assert "longer than 20000 bytes" in detail


def test_a_body_without_a_length_is_limited_too(server):
    problem(server.client.post("/v1/score", content=(b"x" * 1000 for _ in range(30))), 413)


def test_a_connection_with_a_long_rest_of_a_body_gets_no_further_request(server):
    for _ in range(20):  # without "Connection: close", about every second one was reset
        response = server.client.post("/v1/score", content=100 * 20_000 * b"x")
        assert response.headers["Connection"] == "close"
        assert server.client.get("/livez").status_code == 200
    assert "Connection" not in server.client.post("/v1/score", content=2 * 20_000 * b"x").headers


def test_too_many_responses_are_a_413(server):
    assert "the limit is 50" in problem(score(server, {"responses": 51 * ["x"]}), 413)


def test_a_full_queue_is_a_429_and_the_server_stays_responsive(start, bundle):
    options = ("--queue", "1", "--max-items", "1", "--max-text", "1000000")
    with start(str(bundle.folder), *options) as server, ThreadPoolExecutor(1) as caller:
        busy = caller.submit(server.score_patiently, "great job " * 100_000)
        new_texts = (f"x {number}" for number in count())  # a score that is known already needs no room
        while (refused := score(server, {"response": next(new_texts)})).status_code == 200:
            assert not busy.done()
        assert "the limit is 1" in problem(refused, 429)
        assert refused.headers["Retry-After"] == "1"
        assert server.client.get("/livez").status_code == 200
        assert not busy.done()
        assert busy.result().json()["reason"] == "truncated"
        assert score(server, {"response": "x"}).status_code == 200


def test_no_log_and_no_error_contains_a_text(server):
    answers = [
        score(server, {"response": SECRET}),
        score(server, {"response": f"{SECRET} {POISON}"}),
        score(server, {"responses": [SECRET, {SECRET: SECRET}]}),
        score(server, {SECRET: SECRET}),
        score(server, {"response": "x", "model": SECRET}),
        server.client.post("/v1/score", content=f'{{"response": "{SECRET}'.encode()),
        server.client.get(f"/{SECRET}?response={SECRET}"),
        server.client.post(f"/v1/score?{SECRET}", json={"response": [SECRET]}),
    ]
    assert [answer.status_code for answer in answers] == [200, 500, 422, 422, 404, 400, 404, 422]
    log = server.log.read_text()
    assert "POST /v1/score 422" in log
    assert SECRET not in log
    assert all(SECRET not in answer.text for answer in answers)


def test_the_json_log_is_an_object_a_line(start, bundle):
    with start("--json", str(bundle.folder)) as server:
        score(server, {"response": "x"})
        server.client.get("/livez")
        lines = [json.loads(line) for line in server.log.read_text().splitlines()]
    assert [line["event"] for line in lines] == ["ready", "request"]
    assert lines[0]["message"].startswith("ready: praise")
    assert all(line["level"] == "info" for line in lines)
