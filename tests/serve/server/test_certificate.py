"""The TLS certificate is read again at SIGHUP; one that cannot be used changes nothing and is shown."""

import shutil
import signal
import socket
import ssl
import time
from pathlib import Path

import pytest

from edgedistill_serve import CannotListen
from edgedistill_serve.server.transport.certificate import Certificate

from .certificates import make_certificate

DAY = 24 * 60 * 60


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    return {
        "old": make_certificate(folder / "old", "old.example"),
        "new": make_certificate(folder / "new", "new.example"),
        "expired": make_certificate(folder / "expired", "expired.example", days=-1),
    }


def install(files: tuple[Path, Path], folder: Path) -> tuple[Path, Path]:
    for file in files:
        shutil.copy(file, folder / file.name)
    return folder / "cert.pem", folder / "key.pem"


def served_name(server) -> bytes:
    """Return the name in the certificate of a new connection."""
    host, _, port = server.url.rpartition("/")[2].partition(":")
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection((host, int(port)), timeout=30) as plain, context.wrap_socket(plain) as secure:
        found = secure.getpeercert(binary_form=True)
    return next(name for name in (b"old.example", b"new.example", b"expired.example") if name in found)


def wait_for(server, condition) -> None:
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until, server.log.read_text()
        time.sleep(0.02)


def faults(server) -> dict[str, str]:
    return server.client.get("/readyz").json().get("faults", {})


PART = "reload of the TLS certificate"


def test_a_new_certificate_is_served_after_sighup_and_open_connections_go_on(start, bundle, certificates, tmp_path):
    cert, key = install(certificates["old"], tmp_path)
    with start(str(bundle.folder), "--tls-cert", str(cert), "--tls-key", str(key)) as server:
        assert served_name(server) == b"old.example"
        expiry = server.metric("edgedistill_tls_certificate_expiry_seconds")
        assert abs(expiry - time.time() - 10 * DAY) < DAY

        # A certificate of another key: the old pair stays, also where the key alone was replaced.
        shutil.copy(certificates["new"][0], cert)
        server.process.send_signal(signal.SIGHUP)
        wait_for(server, lambda: PART in faults(server))
        assert "the certificate and its key cannot be used (KEY_VALUES_MISMATCH)" in faults(server)[PART]
        assert served_name(server) == b"old.example"
        assert server.metric(f'edgedistill_fault{{part="{PART}"}}') == 1
        assert "the TLS certificate is unchanged" in server.log.read_text()

        install(certificates["expired"], tmp_path)
        server.process.send_signal(signal.SIGHUP)
        wait_for(server, lambda: "it expired on " in faults(server).get(PART, ""))
        assert served_name(server) == b"old.example"

        install(certificates["new"], tmp_path)
        server.process.send_signal(signal.SIGHUP)
        wait_for(server, lambda: not faults(server))
        assert served_name(server) == b"new.example"
        assert server.metric(f'edgedistill_failures{{part="{PART}"}}') == 2
        assert "the TLS certificate was reloaded" in server.log.read_text()
        assert server.client.post("/v1/score", json={"response": "x"}).status_code == 200


def test_all_workers_serve_the_new_certificate_and_say_which_of_them_could_not(start, bundle, certificates, tmp_path):
    cert, key = install(certificates["old"], tmp_path)
    with start(str(bundle.folder), "--workers", "2", "--tls-cert", str(cert), "--tls-key", str(key)) as server:
        wait_for(server, lambda: server.client.get("/readyz").json()["workers"]["ready"] == 2)
        expiry = server.metric("edgedistill_tls_certificate_expiry_seconds")
        assert abs(expiry - time.time() - 10 * DAY) < DAY  # not the sum of two
        cert.write_bytes(b"")
        server.process.send_signal(signal.SIGHUP)
        wait_for(server, lambda: set(faults(server)) == {f"worker {number}, {PART}" for number in (1, 2)})
        assert {served_name(server) for _ in range(8)} == {b"old.example"}
        install(certificates["new"], tmp_path)
        server.process.send_signal(signal.SIGHUP)
        wait_for(server, lambda: not faults(server))
        assert {served_name(server) for _ in range(8)} == {b"new.example"}


def test_an_expired_certificate_is_served_at_the_start_and_shown(start, bundle, certificates):
    cert, key = certificates["expired"]
    with start(str(bundle.folder), "--tls-cert", str(cert), "--tls-key", str(key)) as server:
        assert "it expired on " in faults(server)["TLS certificate"]
        assert "clients will refuse the TLS certificate" in server.log.read_text()
        assert server.metric('edgedistill_fault{part="TLS certificate"}') == 1


@pytest.mark.parametrize("content", [None, b"", b"no certificate", b"-----BEGIN CERTIFICATE-----\nAAAA\n"])
def test_a_file_that_is_no_certificate_leaves_the_previous_one(certificates, tmp_path, content):
    cert, key = install(certificates["old"], tmp_path)
    certificate = Certificate(cert, key)
    served = certificate._loaded
    cert.unlink()
    if content is not None:
        cert.write_bytes(content)
    with pytest.raises(CannotListen, match="the certificate and its key cannot be used"):
        certificate.reload()
    assert certificate._loaded is served


def test_the_dates_of_a_certificate_are_read(certificates):
    assert Certificate(*certificates["old"]).fault is None
    expired = Certificate(*certificates["expired"])
    assert expired.expires < time.time()
    assert "it expired on 20" in expired.fault


def test_a_certificate_that_is_not_valid_yet_is_refused(certificates, tmp_path, monkeypatch):
    certificate = Certificate(*install(certificates["old"], tmp_path))
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now - 20 * DAY)
    with pytest.raises(CannotListen, match=r"it is not valid before 20\d\d-"):
        certificate.reload()
