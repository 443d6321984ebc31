"""`POST /v1/explain` over a real socket."""

import pytest

from edgedistill_serve import Scorer
from edgedistill_serve.server.protocols.v1_routes import MAX_CHARACTERS, MAX_WORDS

POISON = "poisonous"


@pytest.fixture(scope="module")
def server(start, bundle):
    with start(str(bundle.folder), "--max-items", "5") as server:
        yield server


def explain(server, content):
    return server.client.post("/v1/explain", json=content)


def test_a_word_is_explained_by_the_score_without_it(server, bundle):
    whole, without_great, without_job = Scorer(bundle).score(["great job", "job", "great"])
    found = explain(server, {"response": "great job"}).json()
    assert (found["model"], found["version"]) == ("praise", bundle.manifest.version)
    assert (found["label"], found["probabilities"]) == (whole.label, whole.probabilities)
    for word, part in zip(found["words"], (without_great, without_job), strict=True):
        assert word["label"] == part.label
        assert word["changes"] == {
            label: share - part.probabilities[label] for label, share in whole.probabilities.items()
        }


def test_only_the_words_of_the_response_are_left_out(start, answers_bundle):
    with start(str(answers_bundle.folder)) as server:
        row = {"question": "why is this", "reference_answer": "because", "response": "great job"}
        found = explain(server, row).json()
        assert [word["word"] for word in found["words"]] == ["great", "job"]
        refused = explain(server, {"response": "great job"})
        assert refused.status_code == 422
        assert refused.json()["detail"].startswith("the input 'question' is missing")


def test_a_response_without_words_is_scored_and_has_none(server):
    found = explain(server, {"response": " ?"}).json()
    assert (found["words"], found["decision"]) == ([], "accept")


def test_the_maximum_number_of_words_is_explained_and_one_more_is_refused(server):
    assert len(explain(server, {"response": "why " * MAX_WORDS}).json()["words"]) == MAX_WORDS
    refused = explain(server, {"response": "why " * (MAX_WORDS + 1)})
    assert refused.status_code == 413
    assert refused.json()["detail"] == (
        "the response has 101 words, the limit for explanations is 100. Send a shorter response."
    )


def test_the_queue_limits_the_number_of_explained_words(start, bundle):
    with start(str(bundle.folder), "--queue", "20", "--max-items", "20") as server:
        assert len(explain(server, {"response": "why " * 19}).json()["words"]) == 19
        refused = explain(server, {"response": "why " * 20})
        assert refused.status_code == 413
        assert refused.json()["detail"].startswith("the response has 20 words, the limit for explanations is 19")


@pytest.mark.parametrize("name", ["response", "question", "reference_answer"])
def test_inputs_with_too_many_characters_are_refused(server, name):
    row = {"response": "", "question": "", "reference_answer": "", name: "x" * MAX_CHARACTERS}
    assert explain(server, row).status_code == 200
    refused = explain(server, {**row, name: "x" * (MAX_CHARACTERS + 1)})
    assert refused.status_code == 413
    assert f"the limit for explanations is {MAX_CHARACTERS}" in refused.json()["detail"]


@pytest.mark.parametrize("content", [{"responses": ["x"]}, {"response": 5}, {}, []])
def test_another_shape_is_a_422(server, content):
    assert explain(server, content).status_code == 422


def test_a_response_that_the_model_fails_on_is_a_500_without_its_text(server):
    refused = explain(server, {"response": f"you {POISON}"})
    assert refused.status_code == 500
    assert POISON not in refused.text
