"""Faults of endpoints, networks and disks: each gives a one-line error, and no paid answer is lost."""

import datetime as dt
import ipaddress
import json
import re
import ssl
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from edgedistill.errors import TeacherError, TeacherUnreachable
from edgedistill.teacher import AnswerCache, Labelling, label_responses

from ...processes import run
from .codings import CODEBOOK, NO_WAIT, responses, section
from .stand_in import Reply, StandIn, coded, error, text_of

HTML = b"<html><head><title>504 Gateway Time-out</title></head><body>proxy</body></html>"


def labelled(folder: Path, base_url: str, *texts: str, **fields: Any) -> Labelling:
    with AnswerCache(folder) as cache:
        return label_responses(responses(*texts), CODEBOOK, section(base_url, **fields), cache, retry_policy=NO_WAIT)


def only_line(folder: Path, base_url: str, **fields: Any) -> str:
    """Return the one-line error that ends a run."""
    with pytest.raises(TeacherError) as stopped:
        labelled(folder, base_url, "secret text", "b", **fields)
    line = str(stopped.value)
    assert "\n" not in line
    assert "secret text" not in line
    return line


def certificate(folder: Path) -> ssl.SSLContext:
    """Return a TLS context with a self-signed certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + dt.timedelta(1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    pem, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (folder / "key.pem").write_bytes(key.private_bytes(serialization.Encoding.PEM, pem, plain))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return context


def test_a_self_signed_certificate_is_named(tmp_path: Path) -> None:
    with StandIn(coded("process"), tls=certificate(tmp_path)) as teacher:
        line = only_line(tmp_path, teacher.base_url)
    assert "certificate is not trusted (self-signed certificate)" in line
    assert "SSL_CERT_FILE" in line


def test_https_instead_of_http_is_named(tmp_path: Path) -> None:
    with StandIn(coded("process")) as teacher:
        line = only_line(tmp_path, teacher.base_url.replace("http://", "https://"))
    assert "the encrypted connection failed" in line


def test_an_endpoint_that_streams_without_being_asked_is_named(tmp_path: Path) -> None:
    chunks = b'data: {"choices": [{"delta": {"content": "pro"}}]}\n\ndata: [DONE]\n\n'
    with StandIn(Reply(body=chunks, headers={"content-type": "text/event-stream"})) as teacher:
        line = only_line(tmp_path, teacher.base_url, concurrency=1)
        assert len(teacher.bodies) == 1
    assert "streams its answers although streaming was not requested" in line


def test_a_web_page_instead_of_an_answer_is_named(tmp_path: Path) -> None:
    with StandIn(Reply(body=b"<!doctype html><p>Sign in to the guest network")) as teacher:
        line = only_line(tmp_path, teacher.base_url, tries=2)
    assert "it only answers with HTTP 200, a web page" in line


def test_occasional_timeouts_of_a_proxy_lose_no_answer(tmp_path: Path) -> None:
    page = Reply(504, HTML, {"content-type": "text/html"})
    with StandIn(lambda _body, before: coded("process") if before else page) as teacher:
        done = labelled(tmp_path, teacher.base_url, *"abc")
    assert len(done.labels) == 3
    assert dict(done.usage.retries) == {"the endpoint failed": 3}


def test_a_proxy_that_always_times_out_ends_the_run_with_one_line(tmp_path: Path) -> None:
    with StandIn(Reply(504, HTML)) as teacher, pytest.raises(TeacherUnreachable, match="only answers with HTTP 504"):
        labelled(tmp_path, teacher.base_url, *map(str, range(40)), tries=1)


def test_an_error_in_a_reply_with_status_200_is_retried(tmp_path: Path) -> None:
    overloaded = Reply(body=b'{"error": {"message": "overloaded", "code": 503}}')
    with StandIn(lambda _body, before: coded("process") if before else overloaded) as teacher:
        done = labelled(tmp_path, teacher.base_url, "a")
    assert [label.label for label in done.labels] == ["process"]


def test_an_error_in_place_of_a_choice_is_no_answer(tmp_path: Path) -> None:
    """OpenRouter: a provider failed while it answered."""

    def failed(code: int, message: str) -> Reply:
        choice = {"index": 0, "finish_reason": "error", "error": {"code": code, "message": message}}
        content = {"message": {"role": "assistant", "content": '{"label": "outc'}}
        return Reply(body=json.dumps({"id": "x", "choices": [choice | content]}).encode())

    def script(body: dict[str, Any], before: int) -> Reply:
        if text_of(body) == "flagged":
            return failed(403, "Your input was flagged")
        return coded("process") if before or text_of(body) == "first" else failed(502, "Provider returned error")

    with StandIn(script) as teacher:
        done = labelled(tmp_path, teacher.base_url, "first", "a", "flagged", tries=3)
    assert [label.label for label in done.labels] == ["process", "process"]
    assert [row.reason for row in done.set_aside] == ["the endpoint's content filter refused the response"]
    assert [text_of(body) for body in teacher.bodies].count("flagged") == 1
    with AnswerCache(tmp_path) as cache:
        assert cache.stats().entries == 2


@pytest.mark.parametrize(
    ("message", "name", "hint"),
    [
        ("Unsupported parameter: 'seed' is not supported with this model.", "seed", "teacher.seed to false"),
        ("Unrecognized request argument supplied: seed", "seed", "teacher.seed to false"),
        ("body -> seed: Extra inputs are not permitted", "seed", "teacher.seed to false"),
        (
            "Unsupported value: 'temperature' does not support 0.7 with this model. Only the default (1) is supported.",
            "temperature",
            "teacher.temperature (or generate.temperature for synthetic responses) to a value that the model accepts",
        ),
    ],
)
def test_a_refused_parameter_is_named_with_a_hint(tmp_path: Path, message: str, name: str, hint: str) -> None:
    with StandIn(error(400, message)) as teacher:
        line = only_line(tmp_path, teacher.base_url, concurrency=1)
        assert len(teacher.bodies) == 1
    assert f"the endpoint refuses '{name}' (HTTP 400" in line
    assert hint in line


def test_a_parameter_that_the_project_leaves_out_is_not_sent_and_not_in_the_key(tmp_path: Path) -> None:
    with StandIn(coded("process")) as teacher:
        labelled(tmp_path, teacher.base_url, "a", seed=False, temperature=None)
    assert {"seed", "temperature"}.isdisjoint(teacher.bodies[0])
    with AnswerCache(tmp_path) as cache:
        (entry,) = cache.entries()
    assert entry.request["sampling"] == {}


def test_one_failing_response_does_not_stop_the_others(tmp_path: Path) -> None:
    def script(body: dict[str, Any], _before: int) -> Reply:
        return error(500) if text_of(body) == "7" else coded("process")

    with StandIn(script) as teacher:
        done = labelled(tmp_path, teacher.base_url, *map(str, range(20)), tries=2, concurrency=4)
    assert len(done.labels) == 19
    assert [row.reason for row in done.set_aside] == ["the endpoint failed"]


def test_fewer_requests_are_in_flight_after_refusals(tmp_path: Path) -> None:
    at_once: list[int] = []

    def script(_body: dict[str, Any], before: int) -> Reply:
        at_once.append(teacher._at_once)
        full = teacher._at_once > 3
        return error(429, headers={"retry-after-ms": "20"}) if full else coded("process", delay=0.01)

    with StandIn(script) as teacher:
        done = labelled(tmp_path, teacher.base_url, *map(str, range(150)), concurrency=24, tries=10)
    assert len(done.labels) == 150
    refused = [number > 3 for number in at_once]
    assert sum(refused[:40]) > sum(refused[-40:])


FULL = """
import resource, sys
from pathlib import Path
from edgedistill.errors import EdgeDistillError
from edgedistill.project.teacher import TeacherSection
from edgedistill.data.types import Response
from edgedistill.teacher import AnswerCache, Budget, Codebook, SpendingLog, label_responses
from edgedistill_serve.task.task import Label
labels = (Label("process", "praises effort"), Label("outcome", "praises the result"), Label("none"))
book = Codebook("Code the praise.", labels, ("response",))
rows = [Response(f"r{row}", {"response": f"text {row}"}, "responses.csv", row) for row in range(300)]
given = TeacherSection(base_url=sys.argv[2], model="m", api_key_env=None, votes=1, concurrency=4)
folder = Path(sys.argv[1])
with AnswerCache(folder) as cache:
    if len(sys.argv) > 3:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]),) * 2)
    try:
        budget = Budget.from_section(given, SpendingLog(folder, "p"), "label")
        done = label_responses(rows, book, given, cache, budget=budget)
        print(len(done.labels), done.usage.cached, done.usage.asked)
    except EdgeDistillError as error:
        sys.exit(str(error))
"""


@pytest.mark.parametrize("free_bytes", [20_000, 150_000])
def test_on_a_full_disk_the_run_ends_with_one_line_and_counted_answers_are_saved(
    tmp_path: Path, free_bytes: int
) -> None:
    with StandIn(coded("process")) as teacher:
        command = ("-c", FULL, tmp_path, teacher.base_url)
        full = run(*command, free_bytes)
        assert full.returncode == 1
        assert re.fullmatch(r"[^\n]+(cache\.db|claims\.db|spending\.jsonl): [^\n]+\n", full.stderr)
        with AnswerCache(tmp_path) as cache:
            kept = cache.verify()
        assert kept.damaged == ()
        given = len(teacher.bodies)
        assert given - kept.entries <= 8  # in flight, or waiting for the write that failed
        again = run(*command)
    assert (again.returncode, again.stderr) == (0, "")
    assert again.stdout.split() == ["300", str(kept.entries), str(300 - kept.entries)]
