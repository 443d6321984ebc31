"""A signal ends the process, whatever its threads do."""

import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import httpx
import pytest

HANGS = {
    # A native call that releases the interpreter's lock, such as an endless loop in a graph.
    "a scoring thread": "Scorer.score_batch = lambda *_, **__: time.sleep(1000)",
    # One that keeps the lock from the beginning of the drain.
    "a thread with the interpreter's lock": """
def hold(*_, **__):
    time.sleep(1)
    while signal.getsignal(signal.SIGTERM) is signal.SIG_DFL or not draining:
        time.sleep(0.01)
    ctypes.PyDLL(None).sleep(1000)
def drain(service):
    draining.append(1)
    service.state = "draining"
Service.drain, Scorer.score_batch = drain, hold
""",
    "the event loop": "KeyAccess.check = lambda *_: time.sleep(1000)",
    "the thread that parses": "v1_routes.parse_score_request = lambda *_, **__: time.sleep(1000)",
}
CODE = """
import ctypes, signal, sys, time
from edgedistill_serve.scoring.scorer import Scorer
from edgedistill_serve.server import model_catalogue, process
from edgedistill_serve.server.middleware.api_keys import KeyAccess
from edgedistill_serve.server.protocols import v1_routes
from edgedistill_serve.server.service import Service
draining = []
process.END_SECONDS = 0.5
{hang}
from edgedistill_serve.cli.main import main
main()
"""


@pytest.mark.parametrize("hang", HANGS.values(), ids=HANGS)
@pytest.mark.parametrize("signals", [1, 2])
def test_sigterm_ends_a_server_in_which_hangs(start, bundle, hang, signals):
    before = (sys.executable, "-c", CODE.format(hang=hang))
    with start(str(bundle.folder), "--drain-seconds", "1", before=before) as server, ThreadPoolExecutor(1) as caller:

        def ask():
            with suppress(httpx.HTTPError):
                server.client.post("/v1/score", json={"response": "why " * 10_000})

        asking = caller.submit(ask)
        while not (asking.running() and server.process.poll() is None):
            pass
        for _ in range(signals):
            with suppress(subprocess.TimeoutExpired):
                server.process.wait(1)
            server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(60) != 0
        asking.result(60)


@pytest.mark.parametrize("seconds", [0.2, 2])
def test_a_second_signal_leaves_clients_that_do_not_finish_sending(start, bundle, seconds):
    """They are no threads that hang: nothing is written about where each thread is."""
    head = b"POST /v1/score/bulk HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{"
    with start(str(bundle.folder)) as server, server.connect() as bulk, server.connect() as score:
        bulk.sendall(head)
        score.sendall(head.replace(b"/bulk", b""))
        server.process.send_signal(signal.SIGTERM)
        time.sleep(seconds)  # before, and in, the time for clients that do not finish
        assert server.process.poll() is None
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(60) == 0
        assert "Thread" not in server.log.read_text()


def test_sigterm_ends_a_server_that_loads_for_ever(bundle):
    hang = "process.load_scorer = lambda *_, **__: time.sleep(1000)"
    command = [sys.executable, "-c", CODE.format(hang=hang), "serve", "--port", "0", str(bundle.folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        url = server.stdout.readline().split()[-1]
        assert httpx.get(f"{url}/livez", timeout=60).status_code == 200
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) == 1
        assert "the server ends at once" in server.stderr.read()


def test_the_unscored_responses_are_counted_in_the_log(start, bundle):
    hang = f"{HANGS['a scoring thread']}\nprocess.END_SECONDS = 9"  # time for the log, also on a busy machine
    before = (sys.executable, "-c", CODE.format(hang=hang))
    with start(str(bundle.folder), "--drain-seconds", "10", before=before) as server, ThreadPoolExecutor(1) as caller:

        def ask():
            with suppress(httpx.HTTPError):
                server.client.post("/v1/score", json={"responses": ["a", "b"]})

        asking = caller.submit(ask)
        while not server.metric("edgedistill_queue_taken"):
            pass
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(60) != 0
        asking.result(60)
        assert "2 accepted responses were not scored in time" in server.log.read_text()
