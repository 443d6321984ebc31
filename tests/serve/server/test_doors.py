"""What a request may look like before its text is read: its host, its address, its encoding and its JSON."""

import gzip
import http.client
import json

import pytest

from edgedistill_serve import Bundle, BundleError
from edgedistill_serve.bundle.validation import printable
from edgedistill_serve.server.middleware.host_check import host_without_port

BODY = b'{"response": "you worked hard"}'
MARK = b"\xef\xbb\xbf"
POSTS = ("/v1/score", "/v1/score/bulk", "/v1/explain", "/predict", "/v2/models/praise/infer")
RIGHT = {
    "/v1/score": BODY,
    "/v1/score/bulk": BODY + b"\n" + BODY,
    "/v1/explain": BODY,
    "/predict": b'{"inputs": "you worked hard"}',
    "/v2/models/praise/infer": (
        b'{"inputs": [{"name": "response", "shape": [1], "datatype": "BYTES", "data": ["you worked hard"]}]}'
    ),
}


@pytest.fixture(scope="module")
def server(start, bundle):
    with start(str(bundle.folder)) as server:
        yield server


def status(server, host, path="/v1/models", **headers) -> int:
    return server.client.get(path, headers={"Host": host, **headers}).status_code


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST:1", "localhost.", "localhost.:80", "127.0.0.1", "127.0.0.1:9", "[::1]", "[::1]:8000"],
)
def test_a_server_of_this_machine_answers_to_its_names(server, host):
    assert status(server, host) == 200


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost.evil.example", "evil.localhost"),
        *("0.0.0.0", "127.0.0.2", "127.1", "[::]", "[::ffff:127.0.0.1]", "[::1].evil.example"),
        *("xlocalhost", "localhost..", "localhost:x", "[::1", "::1", ""),
    ],
)
@pytest.mark.parametrize("path", ["/", "/v1/models", "/livez", "/metrics", "/page/page.js", "/no"])
def test_and_to_no_other_name_on_any_path(server, host, path):
    """A page whose name leads to this machine (DNS rebinding) reads nothing."""
    answer = server.client.get(path, headers={"Host": host, "Origin": f"http://{host}"})
    assert answer.status_code == 421
    assert "the Host header does not name this server" in answer.text
    assert "praise" not in answer.text


def test_the_host_of_an_absolute_target_is_checked(server):
    with server.connect() as connection:
        connection.sendall(
            b"GET http://evil.example/v1/models HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        )
        assert connection.recv(100).startswith(b"HTTP/1.1 421")


def test_a_client_of_http_1_0_needs_no_host(server):
    with server.connect() as connection:
        connection.sendall(b"GET /livez HTTP/1.0\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 200")


def test_allowed_hosts_replace_the_list(start, bundle):
    with start(str(bundle.folder), "--allow-host", "Scores.School.example", "--allow-host", "127.0.0.1") as server:
        assert status(server, "scores.school.example:443") == 200
        assert status(server, "localhost") == 421


def test_a_star_and_an_open_address_accept_every_host(start, bundle):
    with start(str(bundle.folder), "--allow-host", "*") as server:
        assert status(server, "any.example") == 200
    with start(str(bundle.folder), "--host", "0.0.0.0", "--open") as server:
        assert status(server, "any.example") == 200


def test_hosts_are_compared_without_port_and_final_dot():
    assert host_without_port("A.example.:80") == "a.example"
    assert host_without_port("[::1]:80") == "[::1]"
    assert host_without_port("[::1]x:80") != "[::1]"


@pytest.mark.parametrize("path", ["/v1/score/", "/v1/models/", "/docs/", "/v2/", "//v1/score", "/livez/"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_no_answer_sends_the_client_to_another_address(server, method, path):
    """A redirect would name another scheme and host behind a proxy, and the text and the key would go there."""
    headers = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "scores.school.example"}
    answer = server.client.request(method, path, content=BODY, headers=headers, follow_redirects=False)
    assert answer.status_code in (404, 405)
    assert "location" not in answer.headers


@pytest.mark.parametrize("coding", ["gzip", "GZIP", "deflate", "br", "zstd", "gzip, identity", "x"])
@pytest.mark.parametrize("path", POSTS)
def test_a_body_with_a_content_encoding_is_a_415_that_names_it(server, path, coding):
    answer = server.client.post(path, content=gzip.compress(RIGHT[path]), headers={"Content-Encoding": coding})
    assert answer.status_code == 415
    assert answer.headers["Accept-Encoding"] == "identity"
    assert "Content-Encoding" in answer.text


@pytest.mark.parametrize("path", POSTS)
def test_a_byte_order_mark_and_the_encoding_identity_change_nothing(server, path):
    right = server.client.post(path, content=RIGHT[path])
    assert right.status_code == 200
    assert server.client.post(path, content=MARK + RIGHT[path]).text == right.text
    assert server.client.post(path, content=RIGHT[path], headers={"Content-Encoding": "Identity"}).text == right.text


@pytest.mark.parametrize(
    "inner",
    [
        *(b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-1e999", b"9" * 5000, b"0x1", b"01", b"+1", b"1.", b".5"),
        *(b"'x'", b'"\\ud800"', b'"\\udfff x"', b'"\xed\xa0\x80"', b'"\xff"', b'"\x00"', b'"\t"', b'"\\x41"', b'"x'),
        *(b"[1,]", b'{"a":1,}', b"/**/1", b"[" * 50_000, b'{"a":' * 50_000, b'{"a":1,"a":1}', b'{"a":1,"\\u0061":2}'),
    ],
)
@pytest.mark.parametrize("path", POSTS)
def test_json_that_is_not_strict_is_a_400_with_a_sentence(server, path, inner):
    body = b'{"response": "x", "inputs": "x", "other": %b}' % inner
    answer = server.client.post(path, content=body)
    if path.endswith("bulk"):
        assert (
            "is not valid JSON" in answer.text
            or "twice" in answer.text
            or "deeply" in answer.text
            or "UTF-8" in answer.text
        )
    else:
        assert answer.status_code == 400
        assert "body" in answer.text


def test_repeated_keys_are_found_at_every_depth_and_texts_with_colons_are_none(server):
    fine = {"response": 'a: "b": {"b": 1}, \\ "response": 1', "other": [{"a": 1}, {"a": {"a": ":"}}, ":"]}
    assert server.client.post("/v1/score", json=fine).status_code == 200
    twice = json.dumps(fine).replace('{"a": ":"}', '{"a": ":", "a": ":"}')
    assert "twice" in server.client.post("/v1/score", content=twice).json()["detail"]


@pytest.mark.parametrize("path", [path for path in POSTS if not path.endswith("bulk")])
def test_a_body_that_is_declared_too_long_is_refused_before_it_is_sent(server, path):
    host, port = server.url.rpartition("/")[2].split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=30)
    connection.putrequest("POST", path)
    connection.putheader("Content-Length", "5000000")
    connection.putheader("Expect", "100-continue")
    connection.endheaders()
    answer = connection.getresponse()
    assert answer.status == 413
    assert answer.getheader("Connection") == "close"
    answer.read()
    connection.close()


def set_label(content: dict, name: str) -> None:
    content["task"]["labels"][0]["name"] = name


@pytest.mark.parametrize("character", ["\x00", "\t", "\n", "\r", "\x1b", "\x7f", "\x9b", "\u2028", "\u202e", "\u2066"])
@pytest.mark.parametrize(
    "change",
    [
        lambda content, text: content.update(name=text),
        lambda content, text: content.update(version=text),
        set_label,
    ],
    ids=["name", "version", "label"],
)
def test_a_bundle_whose_names_have_control_characters_is_refused(tampered, change, character):
    """They could change what a terminal shows, begin another line of a log, or end a header."""
    with pytest.raises(BundleError, match="control character") as caught:
        Bundle.load(tampered(lambda content: change(content, f"pr{character}aise")))
    assert character not in str(caught.value)


def test_control_characters_are_written_as_escapes():
    assert printable("a\x1b[31m\r\nb \u202ec é 漢") == r"a\x1b[31m\r\nb \u202ec é 漢"
