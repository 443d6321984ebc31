"""Binary tensors of the Open Inference Protocol, byte by byte as tritonclient sends and reads them."""

import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedistill_serve import EdgeDistillError, Scorer, WrongShape
from edgedistill_serve.server.protocols.oip import parse_infer_request
from edgedistill_serve.server.protocols.oip_binary import decode_texts, encode_tensor, split_body

TEXTS = ["great job", "", "👍 ünï"]
SECRET = "zebraphone"


@pytest.fixture(scope="module")
def server(start, bundle, answers_bundle):
    with start(str(bundle.folder), str(answers_bundle.folder), "--max-items", "50") as server:
        yield server


@pytest.fixture(scope="module")
def expected(bundle):
    return Scorer(bundle).score(TEXTS)


def packed(texts) -> bytes:
    """Return a BYTES tensor: each text after its length."""
    return b"".join(struct.pack("<I", len(text.encode())) + text.encode() for text in texts)


def post(server, content: dict | bytes, data: bytes, *, path="/v2/models/praise/infer", length=None):
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    sent = {"Inference-Header-Content-Length": str(len(text)) if length is None else length}
    return server.client.post(path, content=text + data, headers=sent)


def binary(texts, *, shape=None, name="response", datatype="BYTES", **parameters):
    sizes = {"binary_data_size": len(packed(texts)), **parameters}
    return {"name": name, "shape": shape or [len(texts)], "datatype": datatype, "parameters": sizes}


def test_a_request_of_tritonclient_is_answered_as_tritonclient_reads_it(server, bundle, expected):
    # The bytes that tritonclient 2.73 sends for `client.infer("praise", [tensor])` with one text.
    text = (
        b'{"inputs":[{"name":"response","shape":[1],"datatype":"BYTES","parameters":{"binary_data_size":13}}],'
        b'"parameters":{"binary_data_output":true}}'
    )
    answer = post(server, text, b"\x09\x00\x00\x00great job")
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/octet-stream")
    length = int(answer.headers["Inference-Header-Content-Length"])
    label = expected[0].label.encode()
    assert json.loads(answer.content[:length]) == {
        "model_name": "praise",
        "model_version": bundle.manifest.version,
        "outputs": [
            {"name": "label", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": 4 + len(label)}},
            {"name": "probabilities", "shape": [1, 3], "datatype": "FP64", "parameters": {"binary_data_size": 24}},
            {"name": "decision", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": 10}},
            {"name": "reason", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": 4}},
        ],
    }
    probabilities = struct.pack("<3d", *expected[0].probabilities.values())
    decision = b"\x06\x00\x00\x00accept"
    assert answer.content[length:] == struct.pack("<I", len(label)) + label + probabilities + decision + 4 * b"\x00"


@pytest.mark.parametrize("shape", [[3], [3, 1]])
def test_outputs_are_json_unless_they_are_asked_for_in_binary(server, expected, shape):
    answer = post(server, {"inputs": [binary(TEXTS, shape=shape)]}, packed(TEXTS))
    assert answer.headers["Content-Type"] == "application/json"
    assert "Inference-Header-Content-Length" not in answer.headers
    assert answer.json()["outputs"][0]["data"] == [score.label for score in expected]
    assert answer.json()["outputs"][3]["data"][1] == "blank"


def test_each_output_chooses_its_form_and_overrides_that_of_the_request(server, expected):
    outputs = [{"name": "reason", "parameters": {"binary_data": False}}, {"name": "label"}]
    content = {"inputs": [binary(TEXTS)], "outputs": outputs, "parameters": {"binary_data_output": True}}
    answer = post(server, content, packed(TEXTS))
    length = int(answer.headers["Inference-Header-Content-Length"])
    reason, label = json.loads(answer.content[:length])["outputs"]
    assert reason["data"][1] == "blank"
    assert "data" not in label
    assert answer.content[length:] == packed(score.label for score in expected)


def test_tensors_in_json_and_binary_ones_are_read_in_their_order(server, answers_bundle):
    row = {"question": "why", "reference_answer": "because", "response": "great job"}
    question = {"name": "question", "shape": [1], "datatype": "BYTES", "data": ["why"]}
    inputs = [binary(["great job"]), question, binary(["because"], name="reference_answer")]
    data = packed(["great job"]) + packed(["because"])
    answer = post(server, {"inputs": inputs}, data, path="/v2/models/answers/infer")
    (expected,) = Scorer(answers_bundle).score([row])
    assert answer.json()["outputs"][1]["data"] == list(expected.probabilities.values())


@pytest.mark.parametrize(
    ("tensor", "data", "length", "status", "message"),
    [
        (binary(["x"]), b"", None, 422, "the tensor has 5 bytes, and 0 follow the JSON"),
        (binary(["x"]), packed(["x"]) + b"y", None, 422, "1 bytes follow the last binary tensor"),
        (binary(["x"], shape=[2]), packed(["x"]), None, 422, "the binary data ends before text 1 of 2"),
        (binary(["x", "y"], shape=[1]), packed(["x", "y"]), None, 422, "5 bytes follow the last of 1 texts"),
        (binary(["x"]), b"\x02\x00\x00\x00x", None, 422, "text 0 is longer than the rest"),
        (binary(["x"]), b"\xff\xff\xff\xffx", None, 422, "text 0 is longer than the rest"),
        (binary(["x"]), b"\x01\x00\x00\x00\xff", None, 422, "text 0 is not valid UTF-8"),
        (binary(["x"], shape=[1, 2]), packed(["x"]), None, 422, "the shape of an input tensor must be [n] or [n, 1]"),
        (binary(["x"], datatype="FP32"), packed(["x"]), None, 422, "must have the datatype BYTES"),
        (binary(["x"], binary_data_size=-1), packed(["x"]), None, 422, "binary_data_size is not a number of bytes"),
        (binary(["x"], binary_data_size=True), packed(["x"]), None, 422, "binary_data_size is not a number of bytes"),
        (binary(["x"], binary_data_size="5"), packed(["x"]), None, 422, "binary_data_size is not a number of bytes"),
        ({**binary(["x"]), "data": ["x"]}, packed(["x"]), None, 422, "either data or the parameter binary_data_size"),
        (binary(51 * ["x"]), packed(51 * ["x"]), None, 413, "the request has 51 responses, the limit is 50"),
        (binary([], shape=[2**62]), b"", None, 413, "responses, the limit is 50"),
        (binary(["x"], shared_memory_region="r"), packed(["x"]), None, 422, "shared_memory_region is not supported"),
        (binary(["x"]), packed(["x"]), "100000", 422, "is not a number of bytes up to"),
        (binary(["x"]), packed(["x"]), "-1", 422, "is not a number of bytes up to"),
        (binary(["x"]), packed(["x"]), 5000 * "9", 422, "is not a number of bytes up to"),
        (binary(["x"]), packed(["x"]), "10", 400, "not valid JSON"),
        (binary(["poisonous"]), packed(["poisonous"]), None, 500, "response 0: the model failed"),
    ],
)
def test_what_is_wrong_with_a_binary_request_is_said(server, tensor, data, length, status, message):
    refused = post(server, {"inputs": [tensor]}, data, length=length)
    assert (refused.status_code, list(refused.json())) == (status, ["error"])
    assert message in refused.json()["error"]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"classification": 2}, "the parameter classification is not supported. The output label has the label"),
        ({"shared_memory_region": "r"}, "shared_memory_region is not supported. Send and receive tensors"),
        ({"binary_data": 1}, "binary_data is not true or false"),
    ],
)
def test_parameters_of_an_output_that_cannot_be_honoured_are_refused(server, parameters, message):
    outputs = [{"name": "label", "parameters": parameters}]
    refused = post(server, {"inputs": [binary(["x"])], "outputs": outputs}, packed(["x"]))
    assert refused.status_code == 422
    assert message in refused.json()["error"]


def test_the_extension_is_announced_and_no_error_quotes_a_text(server):
    assert server.client.get("/v2").json()["extensions"] == ["binary_tensor_data"]
    refused = post(server, {"inputs": [binary([SECRET])]}, packed([SECRET]) + b"x")
    assert refused.status_code == 422
    assert SECRET not in refused.text + server.log.read_text()


@given(st.lists(st.text()))
def test_texts_are_what_they_were_after_the_way_there_and_back(texts):
    encoded = encode_tensor("BYTES", texts)
    assert encoded == packed(texts)
    assert decode_texts(memoryview(encoded), len(texts), "inputs[0]") == texts


@given(st.binary(max_size=60), st.integers(0, 4))
def test_bytes_are_texts_or_an_error(data, count):
    try:
        texts = decode_texts(memoryview(data), count, "inputs[0]")
    except WrongShape:
        return
    assert packed(texts) == data


@given(st.binary(max_size=80), st.one_of(st.none(), st.binary(max_size=4), st.integers(0, 90).map(lambda n: b"%d" % n)))
def test_every_body_is_a_request_or_an_error_of_ours(body, length):
    try:
        parse_infer_request(body, ["response"], model="praise", max_items=5, header_length=length)
    except EdgeDistillError:
        return
    raise AssertionError(body)


def test_a_body_without_the_header_is_json_alone():
    assert split_body(b"{}", None) == (b"{}", memoryview(b""))
