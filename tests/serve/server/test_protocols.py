"""The protocols of other servers: text-embeddings-inference and the Open Inference Protocol."""

import math

import pytest

from edgedistill_serve import Scorer


@pytest.fixture(scope="module")
def server(start, bundle):
    with start(str(bundle.folder), "--max-items", "50") as server:
        yield server


@pytest.fixture(scope="module")
def both(start, bundle, answers_bundle):
    with start(str(bundle.folder), str(answers_bundle.folder), "--default-model", "answers") as server:
        yield server


@pytest.fixture(scope="module")
def expected(bundle):
    (score,) = Scorer(bundle).score(["great job"])
    return score


def predict(server, **content):
    return server.client.post("/predict", json=content)


def test_predict_gives_every_label_with_its_probability_the_largest_first(server, expected):
    found = predict(server, inputs="great job").json()
    assert {row["label"]: row["score"] for row in found} == expected.probabilities
    assert [row["score"] for row in found] == sorted(expected.probabilities.values(), reverse=True)
    assert found[0]["label"] == expected.label


def test_predict_takes_a_list_of_one_text_as_that_text(server):
    assert predict(server, inputs=["great job"]).json() == predict(server, inputs="great job").json()


def test_predict_takes_a_batch_of_lists_and_gives_lists(server):
    one, other = predict(server, inputs=[["great job"], ["why"]]).json()
    assert one == predict(server, inputs="great job").json()
    assert other == predict(server, inputs="why").json()


def test_predict_takes_the_inputs_of_a_task_in_its_order(both, answers_bundle):
    row = {"question": "why", "reference_answer": "because", "response": "great job"}
    found = predict(both, inputs=list(row.values())).json()
    assert {each["label"]: each["score"] for each in found} == Scorer(answers_bundle).score([row])[0].probabilities


def test_raw_scores_are_logits_up_to_a_constant(server, expected):
    found = predict(server, inputs="great job", raw_scores=True).json()
    powers = {row["label"]: math.exp(row["score"]) for row in found}
    assert powers == pytest.approx(expected.probabilities)


def test_a_text_that_is_too_long_is_refused_unless_it_may_be_cut(server):
    refused = predict(server, inputs="great job " * 40)
    assert (refused.status_code, refused.json()["error_type"]) == (413, "Validation")
    assert predict(server, inputs="great job " * 40, truncate=True).status_code == 200


@pytest.mark.parametrize(
    ("content", "status", "kind"),
    [
        ({"inputs": ["a", "b"]}, 422, "Tokenizer"),
        ({"inputs": []}, 422, "Tokenizer"),
        ({"inputs": ["a", ["b"]]}, 422, "Tokenizer"),
        ({"inputs": [["a", "b", "c"]]}, 422, "Tokenizer"),
        ({"inputs": 5}, 422, "Tokenizer"),
        ({"text": "x"}, 422, "Tokenizer"),
        ({"inputs": 51 * [["x"]]}, 413, "Validation"),
        ({"inputs": 300_000 * "x"}, 413, "Validation"),
        ({"inputs": "poisonous"}, 424, "Backend"),
        ({"inputs": "x", "model": "other"}, 404, "Validation"),
    ],
)
def test_errors_of_predict_have_the_format_of_text_embeddings_inference(server, content, status, kind):
    refused = server.client.post("/predict", json=content)
    assert (refused.status_code, refused.json()["error_type"]) == (status, kind)
    assert refused.json()["error"]


def test_a_score_has_the_headers_of_text_embeddings_inference(server):
    texts = ["great job", "why why why", "a text of many more words than the model can read at once " * 3]
    headers = predict(server, inputs=[[text] for text in texts], truncate=True).headers
    times = {name: int(headers[name]) for name in ("x-tokenization-time", "x-queue-time", "x-inference-time")}
    assert headers["x-compute-type"] == "cpu"
    assert int(headers["x-compute-characters"]) == sum(map(len, texts))
    assert int(headers["x-compute-tokens"]) == 2 + 3 + 24  # the model reads 24 tokens
    assert headers["x-compute-time"] == headers["x-total-time"]
    assert all(0 <= milliseconds <= int(headers["x-total-time"]) for milliseconds in times.values())


def test_characters_and_tokens_are_those_of_all_inputs(both):
    headers = predict(both, inputs=["why", "because", "great job"]).headers
    assert (headers["x-compute-characters"], headers["x-compute-tokens"]) == ("19", "4")


def test_other_protocols_do_not_have_these_headers(server):
    answer = server.client.post("/v1/score", json={"response": "great job"})
    assert not [name for name in answer.headers if name.startswith("x-compute")]


def test_info_names_model_and_labels(server, bundle):
    info = server.client.get("/info").json()
    assert (info["model_id"], info["model_sha"], info["model_dtype"]) == ("praise", bundle.manifest.version, "int8")
    labels = {"0": "process", "1": "outcome", "2": "person"}
    assert info["model_type"]["classifier"]["id2label"] == labels
    assert (info["max_client_batch_size"], info["auto_truncate"]) == (50, False)


def test_health_is_empty_and_well(server):
    response = server.client.get("/health")
    assert (response.status_code, response.content) == (200, b"")


def infer(server, *inputs, path="/v2/models/praise/infer", **content):
    return server.client.post(path, json={"inputs": inputs, **content})


def tensor(*data, shape=None, name="response", datatype="BYTES"):
    return {"name": name, "shape": shape or [len(data)], "datatype": datatype, "data": list(data)}


def test_infer_gives_label_probabilities_decision_and_reason_as_tensors(server, bundle, expected):
    answer = infer(server, tensor("great job", " ", "👍"), id="7").json()
    assert (answer["model_name"], answer["model_version"], answer["id"]) == ("praise", bundle.manifest.version, "7")
    label, probabilities, decision, reason = answer["outputs"]
    assert (label["name"], label["datatype"], label["shape"]) == ("label", "BYTES", [3])
    assert label["data"][0] == expected.label
    assert (probabilities["datatype"], probabilities["shape"]) == ("FP64", [3, 3])
    assert probabilities["data"][:3] == list(expected.probabilities.values())
    assert decision["data"] == ["accept", "review", "review"]
    assert reason["data"] == ["", "blank", "unreadable"]


def test_infer_returns_the_requested_outputs(server):
    (only,) = infer(server, tensor("x"), outputs=[{"name": "decision"}]).json()["outputs"]
    assert only["name"] == "decision"


@pytest.mark.parametrize("names", [("label", "label"), ("label", "decision", "reason", "label"), ("reason",) * 20_000])
def test_infer_gives_no_output_twice(server, names):
    answer = infer(server, tensor("x"), outputs=[{"name": name} for name in names])
    assert (answer.status_code, len(answer.content) < 1000) == (422, True)


@pytest.mark.parametrize("given", [tensor("x", "y", shape=[2, 1]), tensor(["x"], ["y"], shape=[2, 1])])
def test_infer_takes_a_column_flat_or_nested(server, given):
    assert infer(server, given).json()["outputs"] == infer(server, tensor("x", "y")).json()["outputs"]


def test_infer_takes_a_tensor_for_every_input(both, answers_bundle):
    row = {"question": "why", "reference_answer": "because", "response": "great job"}
    tensors = [tensor(text, name=name) for name, text in row.items()]
    answer = infer(both, *reversed(tensors), path="/v2/models/answers/infer").json()
    (expected,) = Scorer(answers_bundle).score([row])
    assert answer["outputs"][1]["data"] == list(expected.probabilities.values())


@pytest.mark.parametrize(
    ("inputs", "status"),
    [
        ([], 422),
        ([tensor("x", name="text")], 422),
        ([tensor("x"), tensor("x")], 422),
        ([tensor("x", shape=[2])], 422),
        ([tensor("x", shape=[1, 1, 1])], 422),
        ([tensor("x", datatype="FP32")], 422),
        ([{"name": "response", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": 1}}], 422),
        ([tensor(5)], 422),
        ([tensor(*(51 * ["x"]))], 413),
        ([tensor("poisonous")], 500),
    ],
)
def test_what_infer_refuses_is_an_error_object(server, inputs, status):
    refused = infer(server, *inputs)
    assert refused.status_code == status
    assert list(refused.json()) == ["error"]


def test_a_model_is_described_under_its_name_and_its_version(server, bundle):
    described = server.client.get("/v2/models/praise").json()
    assert (described["name"], described["versions"]) == ("praise", [bundle.manifest.version])
    assert described["inputs"] == [{"name": "response", "datatype": "BYTES", "shape": [-1]}]
    assert [output["shape"] for output in described["outputs"]] == [[-1], [-1, 3], [-1], [-1]]
    versioned = f"/v2/models/praise/versions/{bundle.manifest.version}"
    assert server.client.get(versioned).json() == described
    assert server.client.get(f"{versioned}/ready").json() == {"name": "praise", "ready": True}
    assert infer(server, tensor("x"), path=f"{versioned}/infer").status_code == 200


@pytest.mark.parametrize("path", ["", "/ready", "/versions/1", "/versions/1/ready"])
def test_an_unknown_model_or_version_is_a_404(server, path):
    name = "praise" if "versions" in path else "other"
    refused = server.client.get(f"/v2/models/{name}{path}")
    assert (refused.status_code, list(refused.json())) == (404, ["error"])


def test_the_server_reports_its_metadata_and_health(server):
    assert server.client.get("/v2").json()["name"] == "edgedistill-serve"
    assert server.client.get("/v2/health/live").json() == {"live": True}
    assert server.client.get("/v2/health/ready").json() == {"ready": True, "live": True}
