"""What goes over the wire: one address, bounded replies, and environment variables only where they belong."""

import gzip
import json
import os
import tracemalloc
import zlib
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from edgedistill.errors import ArgumentError, ProjectFileError, TeacherRefusedKey, TeacherUnreachable
from edgedistill.project import read_project
from edgedistill.project.reading import checked_section
from edgedistill.project.teacher import TeacherSection
from edgedistill.teacher import AnswerCache, CacheEntry, export_jsonl
from edgedistill.teacher.cache import compute_key
from edgedistill.teacher.endpoint import build_headers, read_api_key
from edgedistill.teacher.http_client import MAX_REPLY_BYTES, check_environment, find_proxy

from .codings import ANSWER, labelled, request, section
from .stand_in import Reply, StandIn, coded

ANSWERED = coded("process").body


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("when", ["first", "later"])
def test_a_redirect_is_not_followed_and_nothing_of_it_is_cached(tmp_path: Path, status: int, when: str) -> None:
    def script(_body: dict[str, Any], _before: int) -> Reply:
        first = len(teacher.bodies) == 1 and when == "later"
        return (
            coded("process") if first else Reply(status, ANSWERED, {"location": other.base_url + "/chat/completions"})
        )

    with StandIn(coded("outcome")) as other, StandIn(script) as teacher:
        with pytest.raises(TeacherUnreachable, match=rf"redirects to another address \(HTTP {status}\)"):
            labelled(tmp_path, teacher, *"abcd", concurrency=1)
        assert other.bodies == []
        assert len(teacher.bodies) == 1 + (when == "later")
    with AnswerCache(tmp_path) as cache:
        assert cache.stats().entries == (when == "later")


class Pieces(StandIn):
    """Sends a body piece by piece for as long as the client reads it."""

    def __init__(self, pieces: Iterator[bytes], headers: Mapping[str, str]) -> None:
        super().__init__(coded("process"))
        self.pieces, self.headers_sent = pieces, headers

    def serve(self, request: BaseHTTPRequestHandler) -> None:
        """Send the pieces."""
        self.bodies.append(json.loads(request.rfile.read(int(request.headers["content-length"]))))
        request.send_response(200)
        for name, value in self.headers_sent.items():
            request.send_header(name, value)
        request.end_headers()
        request.close_connection = True
        for piece in self.pieces:
            request.wfile.write(piece)


def endless() -> Iterator[bytes]:
    yield b'{"choices": ["'
    while True:
        yield b" " * 65536


def inflating(window: int) -> Iterator[bytes]:
    """A few megabytes that decompress to gigabytes."""
    packer = zlib.compressobj(9, wbits=window)
    yield packer.compress(b'{"choices": ["')
    for _ in range(3000):
        yield packer.compress(b" " * 2**20)


@pytest.mark.parametrize(
    ("pieces", "encoding"),
    [
        (endless, "identity"),
        (lambda: inflating(zlib.MAX_WBITS | 16), "gzip"),
        (lambda: inflating(zlib.MAX_WBITS), "deflate"),
    ],
    ids=["endless", "gzip", "deflate"],
)
def test_a_reply_without_end_is_read_up_to_a_stated_size(tmp_path: Path, pieces: Any, encoding: str) -> None:
    with Pieces(pieces(), {"content-encoding": encoding}) as teacher:
        tracemalloc.start()
        try:
            with pytest.raises(TeacherUnreachable, match="larger than 16 MiB"):
                labelled(tmp_path, teacher, "a", tries=1)
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert most < 6 * MAX_REPLY_BYTES


def test_a_reply_that_never_completes_ends_after_the_time_of_a_request_although_bytes_keep_arriving(
    tmp_path: Path,
) -> None:
    def dripping() -> Iterator[bytes]:
        while True:
            yield b" "

    with Pieces(dripping(), {}) as teacher:
        done = labelled(tmp_path, teacher, "a", tries=1, timeout_seconds=0.3)
    assert [row.reason for row in done.set_aside] == ["the endpoint took too long"]


@pytest.mark.parametrize(
    ("encoding", "body"),
    [("gzip", gzip.compress(ANSWERED)), ("deflate", zlib.compress(ANSWERED)), ("identity", ANSWERED)],
)
def test_a_compressed_answer_is_read(tmp_path: Path, encoding: str, body: bytes) -> None:
    with StandIn(Reply(body=body, headers={"content-encoding": encoding})) as teacher:
        assert len(labelled(tmp_path, teacher, "a").labels) == 1


@pytest.mark.parametrize(
    ("encoding", "body"),
    [("br", ANSWERED), ("zstd", ANSWERED), ("gzip", ANSWERED), ("gzip", gzip.compress(ANSWERED)[:-30])],
)
def test_an_answer_that_cannot_be_decompressed_is_an_error_of_one_line(
    tmp_path: Path, encoding: str, body: bytes
) -> None:
    sent = Reply(body=body, headers={"content-encoding": encoding})
    with StandIn(sent) as teacher, pytest.raises(TeacherUnreachable) as stopped:
        labelled(tmp_path, teacher, "a", tries=1)
    assert "\n" not in str(stopped.value)


@pytest.mark.parametrize(
    "environ",
    [
        {"ALL_PROXY": "socks5://127.0.0.1:9"},
        {"all_proxy": "socks5h://user:PASSW0RD@127.0.0.1:9"},
        {"HTTPS_PROXY": "foo://127.0.0.1:9"},
        {"HTTP_PROXY": "http://[bad"},
        {"http_proxy": "http://127.0.0.1:99999"},
        {"HTTPS_PROXY": "http://"},
        {"SSL_CERT_FILE": "/no/such.pem"},
        {"SSL_CERT_FILE": os.devnull},
        {"SSL_CERT_FILE": __file__},
        {"SSL_CERT_FILE": os.curdir},
        {"SSL_CERT_DIR": "/no/such/folder"},
        {"SSLKEYLOGFILE": "/no/such/folder/keys"},
        {"SSLKEYLOGFILE": os.curdir},
    ],
    ids=str,
)
def test_an_environment_variable_that_prevents_connections_is_named(environ: dict[str, str]) -> None:
    (name,) = environ
    with pytest.raises(TeacherUnreachable, match=name) as stopped:
        check_environment(environ)
    assert "\n" not in str(stopped.value)
    assert "PASSW0RD" not in str(stopped.value)


@pytest.mark.parametrize(
    "environ",
    [{}, {"HTTP_PROXY": "127.0.0.1:9"}, {"HTTPS_PROXY": "http://u:p@127.0.0.1:9"}, {"SSL_CERT_DIR": os.curdir}],
)
def test_usable_variables_are_accepted(environ: dict[str, str]) -> None:
    check_environment(environ)


@pytest.mark.parametrize(
    ("environ", "name"),
    [
        ({"HTTP_PROXY": "http://p:1"}, "HTTP_PROXY"),
        ({"ALL_PROXY": "http://p:1"}, "ALL_PROXY"),
        ({"HTTPS_PROXY": "http://p:1"}, None),
        ({"HTTP_PROXY": "http://p:1", "NO_PROXY": "api.example"}, None),
        ({"HTTP_PROXY": "http://p:1", "no_proxy": "*"}, None),
    ],
)
def test_the_proxy_of_an_address_is_found_by_its_variable(environ: dict[str, str], name: str | None) -> None:
    assert find_proxy("http://api.example/v1", environ) == name


def test_a_proxy_that_does_not_answer_is_named_without_its_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with StandIn(coded("process")) as gone:
        proxy = gone.base_url.removesuffix("/v1")
    monkeypatch.setenv("HTTP_PROXY", proxy.replace("http://", "http://user:PASSW0RD@"))
    for name in ("NO_PROXY", "no_proxy", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    with StandIn(coded("process")) as teacher, pytest.raises(TeacherUnreachable, match="Check HTTP_PROXY") as stopped:
        labelled(tmp_path, teacher, "a", tries=1)
    assert "PASSW0RD" not in str(stopped.value)


VARIABLES = {
    "OPENAI_API_KEY": "sk-SECRET-KEY",
    "OPENAI_ORG_ID": "org-SECRET",
    "OPENAI_PROJECT_ID": "proj_SECRET",
    "OPENAI_BASE_URL": "http://127.0.0.1:9/SECRET",
    "OPENAI_CUSTOM_HEADERS": "X-Custom: SECRET",
    "OPENAI_ADMIN_KEY": "SECRET",
    "OPENAI_WEBHOOK_SECRET": "SECRET",
}


def test_variables_of_another_provider_are_not_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MY_KEY", "k-of-mine")
    with StandIn(coded("process")) as teacher:
        labelled(tmp_path, teacher, "a", "b", api_key_env="MY_KEY")
    assert {headers["authorization"] for headers in teacher.headers} == {"Bearer k-of-mine"}
    assert "SECRET" not in json.dumps(teacher.headers)


def test_the_key_of_openai_is_not_the_default_of_another_address(tmp_path: Path) -> None:
    given = TeacherSection(base_url="https://api.example/v1", model="m")
    with pytest.raises(TeacherRefusedKey, match=r"belongs to api\.openai\.com.*api_key_env: OPENAI_API_KEY"):
        read_api_key(given, VARIABLES)
    assert read_api_key(TeacherSection(model="m"), VARIABLES) == "sk-SECRET-KEY"
    named = TeacherSection(base_url="https://api.example/v1", model="m", api_key_env="OPENAI_API_KEY")
    assert read_api_key(named, VARIABLES) == "sk-SECRET-KEY"


def test_openai_itself_gets_its_organization_and_project() -> None:
    headers = build_headers(TeacherSection(model="m"), "sk-k", VARIABLES)
    assert headers == {
        "authorization": "Bearer sk-k",
        "openai-organization": "org-SECRET",
        "openai-project": "proj_SECRET",
    }
    with pytest.raises(TeacherRefusedKey, match="OPENAI_ORG_ID contains characters"):
        build_headers(TeacherSection(model="m"), "sk-k", {"OPENAI_ORG_ID": "Zürich"})


def test_no_key_is_sent_where_none_is_needed(tmp_path: Path) -> None:
    with StandIn(coded("process")) as teacher:
        labelled(tmp_path, teacher, "a", api_key_env=None)
    assert "authorization" not in teacher.headers[0]


class Paths(StandIn):
    """Records the paths of its requests."""

    paths: list[str]

    def serve(self, request: BaseHTTPRequestHandler) -> None:
        """Record the path and answer."""
        self.paths = [*getattr(self, "paths", []), request.path]
        super().serve(request)


def test_the_version_in_an_azure_address_stays_its_query(tmp_path: Path) -> None:
    with Paths(coded("process")) as teacher:
        address = teacher.base_url.removesuffix("/v1") + "/openai/deployments/gpt4?api-version=2024-10-21"
        given = section(address)
        assert given.base_url == address
        teacher_at = type("At", (), {"base_url": address})
        labelled(tmp_path, teacher_at, "a", api_key="an-azure-key", api_key_env="K")  # type: ignore[arg-type]
    assert teacher.paths == ["/openai/deployments/gpt4/chat/completions?api-version=2024-10-21"]
    assert teacher.headers[0]["api-key"] == "an-azure-key"


SECRET_ADDRESSES = [
    "https://user:PASSW0RD@api.example/v1",
    "https://PASSW0RD@api.example/v1",
    "https://api.example/v1?key=PASSW0RD",
    "https://api.example/v1?api-version=1&key=PASSW0RD",
    "https://api.example/v1#PASSW0RD",
    "user:PASSW0RD@api.example",
    "ftp://user:PASSW0RD@api.example",
    "https://api.example/v1 ?PASSW0RD",
    "https://user:PASSW0RD@api.example/v1\n",
]


@pytest.mark.parametrize("address", SECRET_ADDRESSES)
def test_an_address_with_a_secret_is_refused_without_repeating_it(tmp_path: Path, address: str) -> None:
    with pytest.raises(ArgumentError, match="base_url") as refused:
        checked_section(TeacherSection, {"model": "m", "base_url": address}, "Teacher")
    assert "PASSW0RD" not in str(refused.value)
    file = tmp_path / "project.yaml"
    file.write_text(
        "name: p\ntask: {labels: [{name: a}, {name: b}]}\ndata: {human: human.csv}\n"
        f"teacher: {{model: m, base_url: {json.dumps(address)}}}\n"
    )
    with pytest.raises(ProjectFileError) as stopped:
        read_project(file)
    assert "PASSW0RD" not in str(stopped.value)


@pytest.mark.parametrize(
    ("address", "clean"),
    [
        ("https://user:PASSW0RD@api.example/v1", "https://api.example/v1"),
        ("https://api.example/v1?key=PASSW0RD", "https://api.example/v1"),
        ("https://api.example/v1?api-version=2", "https://api.example/v1?api-version=2"),
    ],
)
def test_secrets_in_addresses_of_an_old_cache_are_in_no_export_and_in_no_list(
    tmp_path: Path, address: str, clean: str
) -> None:
    with AnswerCache(tmp_path / "old") as cache:
        cache.put(request(base_url=address), ANSWER)
        assert list(cache.stats().addresses) == [clean]
        export_jsonl(cache, tmp_path / "answers.jsonl")
    assert "PASSW0RD" not in (tmp_path / "answers.jsonl").read_text()
    line = json.loads((tmp_path / "answers.jsonl").read_text())
    assert line["request"]["base_url"] == clean
    assert line["key"] == compute_key(line["request"])
    with AnswerCache(tmp_path / "new") as cache:
        cache.add_entries([CacheEntry(line["key"], line["request"], line["answer"])])
        assert cache.get(request(base_url=clean)) == ANSWER
