"""A server of several processes behaves as one: a worker that dies, a drain, a new bundle, health and metrics."""

import asyncio
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path
from threading import Event

import httpx
import pytest
from click.testing import CliRunner

from edgedistill_serve import Bundle, CannotListen, Scorer
from edgedistill_serve.cli.main import app
from edgedistill_serve.server import process
from edgedistill_serve.server.limits import Limits
from edgedistill_serve.server.middleware.api_keys import create_key
from edgedistill_serve.server.process import ServerSettings, plan_processes
from edgedistill_serve.server.transport.sockets_and_tls import Address
from edgedistill_serve.server.workers import messages, supervisor

from .conftest import COMMAND, Server

TWO = ("--workers", "2")


@pytest.fixture
def folder(make_bundle, tmp_path) -> Path:
    return make_bundle(tmp_path / "served").folder


def replaced(make_bundle, folder: Path) -> Bundle:
    """Put another version of the bundle into a folder."""
    return make_bundle(folder, files={"README.md": b"# Another version"}, temperature=2.0)


def wait_for(condition, server: Server):
    until = time.monotonic() + 60
    while not (found := condition()):
        assert time.monotonic() < until, server.log.read_text()
        time.sleep(0.02)
    return found


def workers_of(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def readiness(server: Server) -> dict:
    with server.new_client() as client:
        answer = client.get("/readyz")
        return answer.json() if answer.status_code == 200 else {}


def are_ready(server: Server, number: int = 2) -> bool:
    return readiness(server).get("workers") == {"ready": number, "wanted": 2}


def clients_of_both(server: Server, **settings) -> list[httpx.Client]:
    """Return two clients whose connections are those of different workers, which their ids show."""
    clients: dict[str, httpx.Client] = {}
    while len(clients) < 2:
        client = server.new_client(**settings)
        clients.setdefault(client.get("/livez").headers["X-Request-ID"][:16], client)
        if client not in clients.values():
            client.close()
    return list(clients.values())


def ask(server: Server, stop: Event, who: int, answers: list) -> int:
    """Ask again and again; note when each request was sent and answered; return the number of lost connections."""
    lost = 0
    with server.new_client() as client:
        for turn in count():
            if stop.wait(0.005):
                return lost
            sent = time.monotonic()
            try:
                answer = client.post("/v1/score", json={"response": f"great job {who} {turn}"})
            except httpx.TransportError:
                lost += 1
            else:
                answers.append((sent, time.monotonic(), answer))
    return lost


@contextmanager
def asking(server: Server, answers: list) -> Iterator[list]:
    """Ask over four connections; yields the futures of the numbers of lost connections."""
    stop = Event()
    with ThreadPoolExecutor(4) as callers:
        futures = [callers.submit(ask, server, stop, who, answers) for who in range(4)]
        try:
            wait_for(lambda: len(answers) > 20, server)
            yield futures
        finally:
            stop.set()


def test_connections_are_shared_and_the_reports_are_those_of_all_workers(start, bundle):
    with start(str(bundle.folder), *TWO) as server:
        clients = [server.new_client() for _ in range(12)]
        ids = [client.get("/livez").headers["X-Request-ID"][:16] for client in clients]
        # Equal shares, except where a worker that is short of processor time left a connection to the other.
        assert len(set(ids)) == 2
        assert min(ids.count(each) for each in set(ids)) >= 3
        for number, client in enumerate(clients):
            assert client.post("/v1/score", json={"response": f"great job {number}"}).status_code == 200
        line = 'edgedistill_requests_total{path="/v1/score",status="200"}'
        for client in clients:
            text = client.get("/metrics").text
            assert f"{line} 12.0" in text
            assert "edgedistill_workers 2.0" in text
            assert client.get("/readyz").json()["workers"] == {"ready": 2, "wanted": 2}
            client.close()


def test_a_killed_worker_is_replaced_while_the_others_answer_and_no_count_falls(start, folder):
    with start(str(folder), *TWO, "--recent", "0") as server:
        answers: list = []
        counted = 'edgedistill_requests_total{path="/v1/score"'
        with asking(server, answers) as futures:
            before = workers_of(server.process.pid)
            counts = [server.metric(counted)]
            os.kill(before[0], signal.SIGKILL)
            killed = time.monotonic()
            wait_for(lambda: counts.append(metric(server, counted)) or are_ready(server), server)
            wait_for(lambda: any(sent > killed for sent, *_ in answers), server)
        assert {answer.status_code for *_, answer in answers} == {200}
        # A connection is lost at most once: of the requests of the killed worker, one on each connection.
        assert sum(future.result() for future in futures) <= 4
        assert len(set(workers_of(server.process.pid)) - set(before)) == 1
        assert counts == sorted(counts)
        assert metric(server, counted) > counts[0]
        assert metric(server, "edgedistill_worker_restarts") == 1
        assert "it was ended by SIGKILL; it is started again" in server.log.read_text()


def metric(server: Server, line: str) -> float:
    """Return the value of a line of `/metrics`, over a connection of its own."""
    with closing(server.new_client()) as client:
        text = client.get("/metrics").text
    return next((float(each.split()[-1]) for each in text.splitlines() if each.startswith(line)), 0.0)


def test_sigterm_drains_the_accepted_requests_of_all_workers(start, bundle):
    texts = [f"great job {number} " + "why " * 200 for number in range(1000)]
    with start(str(bundle.folder), *TWO) as server, ThreadPoolExecutor(2) as callers:
        clients = clients_of_both(server)
        bodies = [{"responses": [f"{who} {text}" for text in texts]} for who in range(2)]
        futures = [
            callers.submit(client.post, "/v1/score", json=body) for client, body in zip(clients, bodies, strict=True)
        ]
        wait_for(lambda: metric(server, "edgedistill_queue_taken") > 1000, server)
        server.process.send_signal(signal.SIGTERM)
        answers = [future.result(60) for future in futures]
        assert [(answer.status_code, len(answer.json()["scores"])) for answer in answers] == [(200, 1000)] * 2
        assert server.process.wait(60) == 0
        for client in clients:
            client.close()
        with pytest.raises(httpx.ConnectError):
            server.new_client().get("/livez")


@pytest.mark.parametrize("how", ["a signal", "a watched folder"])
def test_all_workers_serve_a_new_bundle_from_the_same_moment_on(start, folder, make_bundle, how):
    options = ["--watch"] if how == "a watched folder" else []
    before = Scorer(Bundle.load(folder), score_cache=0)
    with start(str(folder), *TWO, "--recent", "0", *options) as server:
        answers: list = []
        with asking(server, answers) as futures:
            new = replaced(make_bundle, folder)
            if how == "a signal":
                server.process.send_signal(signal.SIGHUP)
            version = new.manifest.version
            wait_for(lambda: answers[-1][2].json()["version"] == version, server)
            enough = len(answers) + 40
            wait_for(lambda: len(answers) > enough, server)
        assert [future.result() for future in futures] == [0, 0, 0, 0]
        assert metric(server, "edgedistill_model_swaps") == 1
    assert {answer.status_code for *_, answer in answers} == {200}
    first = min(received for _, received, answer in answers if answer.json()["version"] == version)
    assert {answer.json()["version"] for sent, _, answer in answers if sent > first} == {version}
    models = {before.bundle.manifest.version: before, version: Scorer(new, score_cache=0)}
    for _, _, answer in answers[:: max(1, len(answers) // 20)]:
        assert answer.json()["version"] in models


def test_a_bundle_that_cannot_be_served_changes_nothing_in_any_worker(start, folder):
    with start(str(folder), *TWO) as server:
        version = server.client.post("/v1/score", json={"response": "great job"}).json()["version"]
        (folder / "tokenizer.json").write_text("{}")
        server.process.send_signal(signal.SIGHUP)
        (model,) = wait_for(lambda: [each for each in readiness(server)["models"] if each["fault"]], server)
        assert "tokenizer.json" in model["fault"]
        assert server.log.read_text().count("cannot be served") == 1
        for client in clients_of_both(server):
            assert client.post("/v1/score", json={"response": "great job"}).json()["version"] == version
            client.close()


def test_a_worker_that_starts_again_with_a_changed_folder_takes_all_others_along(start, folder, make_bundle):
    with start(str(folder), *TWO) as server:
        new = replaced(make_bundle, folder).manifest.version
        os.kill(workers_of(server.process.pid)[0], signal.SIGKILL)
        wait_for(lambda: not are_ready(server), server)
        wait_for(lambda: are_ready(server), server)
        clients = clients_of_both(server)
        answers = [client.post("/v1/score", json={"response": "great job"}) for client in clients]
        assert {answer.json()["version"] for answer in answers} == {new}
        for client in clients:
            client.close()


def test_a_damaged_bundle_ends_the_start_before_the_server_says_that_it_listens(folder):
    (folder / "bundle.json").write_text("{")
    command = [COMMAND, "serve", str(folder), "--port", "0", *TWO]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert ended.returncode != 0
    assert "bundle.json" in ended.stderr
    assert "listening" not in ended.stdout + ended.stderr


def test_a_worker_that_starts_again_with_a_damaged_folder_stays_out_and_is_shown(start, folder):
    with start(str(folder), *TWO) as server:
        (folder / "tokenizer.json").write_text("{}")
        os.kill(workers_of(server.process.pid)[0], signal.SIGKILL)
        faults = wait_for(
            lambda: [each for each in readiness(server).get("faults", {}).values() if "tokenizer.json" in each], server
        )
        assert len(faults) == 1
        assert readiness(server)["workers"] == {"ready": 1, "wanted": 2}
        assert server.client.post("/v1/score", json={"response": "great job"}).status_code == 200


def test_a_worker_that_does_not_answer_is_shown_and_delays_nobody_else(start, bundle):
    with start(str(bundle.folder), *TWO) as server:
        server.client.close()
        stopped = workers_of(server.process.pid)[0]
        os.kill(stopped, signal.SIGSTOP)
        try:
            # The stopped worker has the fewest connections, so that each is left to it for a moment.
            answers = [httpx.post(f"{server.url}/v1/score", json={"response": f"great job {n}"}) for n in range(5)]
            assert {answer.status_code for answer in answers} == {200}
            faults = readiness(server)["faults"]
            assert list(faults) == ["worker 1"]
            assert "it has not answered for" in faults["worker 1"]
            assert metric(server, 'edgedistill_fault{part="worker 1"}') == 1
        finally:
            os.kill(stopped, signal.SIGCONT)
        wait_for(lambda: "faults" not in readiness(server), server)
        server.client = server.new_client()


def test_a_key_that_is_removed_is_refused_by_all_workers_after_sighup(start, bundle, tmp_path):
    old, new = create_key("old"), create_key("new")
    keys = tmp_path / "keys"
    keys.write_text(f"{old.entry.line()}\n{new.entry.line()}\n")
    with start(str(bundle.folder), *TWO, "--keys", str(keys)) as server:
        clients = clients_of_both(server, headers={"X-API-Key": old.key})
        assert {client.get("/v1/models").status_code for client in clients} == {200}
        keys.write_text(f"{new.entry.line()}\n")
        server.process.send_signal(signal.SIGHUP)
        wait_for(lambda: {client.get("/v1/models").status_code for client in clients} == {401}, server)
        for client in clients:
            client.close()


def test_the_workers_end_with_a_killed_supervisor(start, bundle):
    with start(str(bundle.folder), *TWO) as server:
        workers = workers_of(server.process.pid)
        server.process.kill()
        wait_for(
            lambda: not any(Path(f"/proc/{worker}/cmdline").read_bytes() for worker in workers if is_there(worker)),
            server,
        )


def is_there(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def serve(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [COMMAND, "serve", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def test_a_bundle_that_cannot_be_loaded_ends_the_start_with_one_line(folder):
    (folder / "tokenizer.json").write_text("{}")
    ended = serve(folder, *TWO, "--port", "0")
    (line,) = ended.stderr.splitlines()
    assert ended.returncode == 2
    assert line.startswith("error: tokenizer.json: ")


def test_a_port_in_use_is_an_error_before_any_worker_starts(start, bundle):
    with start(str(bundle.folder)) as server:
        port = server.url.rpartition(":")[2]
        ended = serve(bundle.folder, *TWO, "--port", port)
        assert ended.returncode == 2
        assert ended.stderr == (
            f"error: 127.0.0.1:{port}: the server cannot listen on this address (Address already in use). "
            "Choose another --port, --host or --uds, or stop the process that uses it.\n"
        )


@pytest.mark.parametrize(
    ("number", "shown"), [("0", "0"), ("-1", "-1"), ("1000", "1000"), ("abc", "'abc'"), ("2.5", "'2.5'")]
)
def test_a_number_of_workers_that_is_none_is_refused(tmp_path, number, shown):
    ended = CliRunner().invoke(app, ["serve", str(tmp_path), "--workers", number])
    assert ended.exit_code == 2
    assert "Invalid value for '--workers'" in ended.output
    assert ended.output.endswith(f": {shown} is not an integer from 1 to 256.\n")


def test_several_processes_are_refused_where_they_cannot_share_a_socket(monkeypatch):
    monkeypatch.setattr(process, "can_share_sockets", lambda: False)
    assert plan_processes(None, 3) == (1, 3)
    with pytest.raises(CannotListen, match=r"cannot share a socket on this system\. Use one process"):
        plan_processes(2, None)


@pytest.mark.parametrize(
    ("cores", "workers", "threads", "planned"),
    [
        (1, None, None, (1, 1)),
        (4, None, None, (1, 4)),
        (5, None, None, (2, 3)),
        (8, None, None, (2, 4)),
        (16, None, None, (4, 4)),
        (16, None, 2, (1, 2)),
        (16, 4, 2, (4, 2)),
        (8, 8, None, (8, 1)),
        (2, 3, None, (3, 1)),
        (8, 1, None, (1, 8)),
    ],
)
def test_cores_are_planned_for_processes_and_threads(monkeypatch, cores, workers, threads, planned):
    monkeypatch.setattr(process, "available_cores", lambda: cores)
    assert plan_processes(workers, threads) == planned


def test_settings_survive_the_way_to_a_worker():
    settings = ServerSettings(
        bundles=(Path(os.fsdecode(b"/b\xff")), Path("two")),
        address=Address("::1", 0, None, Path("cert"), Path("key")),
        limits=Limits(queue=7000),
        key_file=Path("keys"),
        hosts=("*",),
        threads=3,
    )
    content = messages.encode(messages.Start(settings, 1, is_first=True))
    assert messages._to_worker.decode(content[4:]) == messages.Start(settings, 1, is_first=True)


def test_a_watcher_of_the_folders_that_hangs_is_shown(bundle, monkeypatch):
    hangs = Event()
    monkeypatch.setattr(supervisor, "fingerprint", lambda _: hangs.wait(30))
    monkeypatch.setattr(supervisor, "LONGEST_CHECK_SECONDS", 0.05)
    monkeypatch.setattr(supervisor, "_WATCH_SECONDS", 0.001)
    settings = ServerSettings(bundles=(bundle.folder,), address=Address(), limits=Limits(), watched=True)

    async def until(condition) -> None:
        async with asyncio.timeout(60):
            while not condition():  # noqa: ASYNC110  # it depends on the clock
                await asyncio.sleep(0.002)

    async def watch(one: supervisor.Supervisor) -> None:
        watching = asyncio.create_task(one._watch())
        await until(one._current_faults)
        assert "watcher of the bundle folders" in one._current_faults()
        hangs.set()
        await until(lambda: not one._current_faults())
        watching.cancel()

    with socket.socket() as listener:
        asyncio.run(watch(supervisor.Supervisor(settings, 1, listener, on_open=lambda: None)))
