"""Whatever runs in the background fails loudly: it is logged, starts again, and `/readyz` shows it."""

import asyncio
import io
import logging
import re
import shutil
import sys
import time
from functools import partial
from threading import Event, Thread
from unittest.mock import Mock

import httpx
import pytest

from edgedistill_serve import KeyFileError, NotReady, Scorer
from edgedistill_serve.server import process
from edgedistill_serve.server.app import create_app
from edgedistill_serve.server.limits import Limits
from edgedistill_serve.server.log_lines import LogHandler
from edgedistill_serve.server.metrics import ServerMetrics
from edgedistill_serve.server.middleware.api_keys import create_key
from edgedistill_serve.server.model_catalogue import BundleFolders, load_scorer, watch
from edgedistill_serve.server.queue.scoring_queue import Workers
from edgedistill_serve.server.service import Service
from edgedistill_serve.server.transport.sockets_and_tls import Address

SECRET = "zebraphone"
FAULTS = [
    RuntimeError(SECRET),
    OSError(SECRET),
    MemoryError(),
    RecursionError(SECRET),
    KeyboardInterrupt(),
    SystemExit(1),
]


def readyz(service: Service) -> httpx.Response:
    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(create_app(service))
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            return await client.get("/readyz")

    return asyncio.run(send())


def wait_for(condition) -> None:
    until = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.002)


@pytest.fixture
def service(bundle):
    service = Service(Limits(), threads=1)
    service.open([Scorer(bundle, threads=1)])
    yield service
    service.close()


@pytest.fixture
def folders(bundle, tmp_path):
    shutil.copytree(bundle.folder, tmp_path / "live")
    folders = BundleFolders([tmp_path / "live"])
    folders.open()
    return folders


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
@pytest.mark.parametrize("place", ["changed", "settled", "refresh"])
def test_the_watcher_survives_every_exception(folders, service, caplog, monkeypatch, place, fault):
    faults = 3 * [fault]

    def fail(*_, **__):
        if faults:
            raise faults.pop()
        return place != "refresh"

    patched = property(fail) if place == "changed" else fail
    monkeypatch.setattr(BundleFolders, place, patched)
    if place != "changed":
        monkeypatch.setattr(BundleFolders, "changed", property(lambda _: True))
    if place == "refresh":
        monkeypatch.setattr(BundleFolders, "settled", lambda *_: True)
    swaps, stop = [], Event()
    reports = []

    def report(error):
        service.report("watcher", error)
        reports.append(dict(service.current_faults()))

    watching = Thread(target=watch, args=(folders, swaps.append, stop), kwargs={"seconds": 0.001, "on_check": report})
    watching.start()
    wait_for(lambda: len(reports) > 4)
    assert watching.is_alive()
    stop.set()
    watching.join(30)
    assert reports[0] == reports[2] == {"watcher": type(fault).__name__}
    assert reports[3] == {}
    assert f"the watcher failed: {type(fault).__name__}" in caplog.text
    assert SECRET not in caplog.text


@pytest.mark.parametrize("fault", FAULTS[:4], ids=lambda fault: type(fault).__name__)
def test_a_bundle_that_fails_in_any_way_leaves_the_served_one(folders, bundle, warm, caplog, tmp_path, fault):
    def fail(_):
        raise fault

    shutil.rmtree(tmp_path / "live")
    shutil.copytree(warm.folder, tmp_path / "live")
    folders._load = fail
    catalogues = []
    folders.refresh(catalogues.append)
    assert catalogues[0].find("praise").bundle.manifest == bundle.manifest
    (status,) = folders.statuses
    assert status.failures == 1
    assert type(fault).__name__ in status.fault
    assert SECRET not in status.fault + caplog.text
    folders._load = load_scorer
    folders.refresh(catalogues.append)
    assert folders.statuses[0].fault is None
    assert catalogues[1].find("praise").bundle.manifest == warm.manifest


@pytest.fixture(scope="module")
def warm(make_bundle, tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("bundles") / "warm", temperature=2.0)


@pytest.mark.parametrize("fault", [RuntimeError(SECRET), KeyFileError("no key", where="keys"), UnicodeError(SECRET)])
def test_a_reload_that_fails_is_shown_until_the_next_one(folders, monkeypatch, tmp_path, caplog, fault):
    monkeypatch.setattr(process, "read_keys", lambda _: (create_key("one").entry,))
    settings = process.ServerSettings(
        bundles=(tmp_path / "live",), address=Address(), limits=Limits(), key_file=tmp_path / "keys", threads=1
    )
    parts = process.ServerParts(settings)
    parts.folders = folders
    parts.service.open(folders.catalogue.scorers)
    faults = [fault, fault]

    def fail(*_, **__):
        if faults:
            raise faults.pop()

    async def reload():
        loaded = asyncio.get_running_loop().create_future()
        loaded.set_result(None)
        await process._reload(loaded, parts)

    monkeypatch.setattr(process, "read_keys", fail)
    monkeypatch.setattr(BundleFolders, "refresh", fail)
    asyncio.run(reload())
    shown = readyz(parts.service).json()["faults"]
    assert set(shown) == {"reload of the API keys", "reload of the bundles"}
    assert "the API keys are unchanged" in caplog.text
    assert SECRET not in caplog.text + str(shown)
    with pytest.raises(Exception, match="API key"):
        parts.access.check("another")
    monkeypatch.setattr(process, "read_keys", lambda _: (create_key("two").entry,))
    asyncio.run(reload())
    assert "faults" not in readyz(parts.service).json()
    parts.service.close()


def test_threads_that_always_die_are_replaced_later_and_later_and_shown(caplog):
    taken = []
    repaired = Event()

    def take():
        taken.append(1)
        if repaired.is_set():
            return None if len(taken) > 10_000 else "work"
        raise RuntimeError(SECRET)

    workers = Workers(take, lambda _: taken.extend(range(10_000)), lambda *_: None, threads=2)
    wait_for(lambda: workers.fault is not None and len(taken) > 8)
    before = len(taken)
    time.sleep(0.3)
    assert len(taken) - before < 300  # not in a loop without a pause
    assert "RuntimeError" in workers.fault
    assert SECRET not in caplog.text + workers.fault
    repaired.set()
    assert workers.join(30)


def test_the_fault_of_a_thread_is_gone_after_the_next_score(held):
    one = held()
    one.graph.fault = SystemExit(1)
    assert one.ask("great job")[0].exception(30)
    wait_for(lambda: one.queue.fault is not None)
    assert one.ask("so smart")[0].result(30)
    wait_for(lambda: one.queue.fault is None)


def test_a_thread_is_replaced_although_its_callers_cannot_be_answered(caplog):
    work = [RuntimeError(SECRET)]
    done = Event()

    def take():
        return work.pop() if work else (done.wait(30) and None)

    def process_work(error):
        raise error

    def fail(_, error):
        raise ValueError(SECRET)

    workers = Workers(take, process_work, fail, threads=1)
    wait_for(lambda: "were not answered (ValueError)" in caplog.text and workers.alive == 1)
    done.set()
    assert workers.join(30)
    assert SECRET not in caplog.text


def test_a_thread_is_replaced_as_soon_as_the_system_has_threads_again(monkeypatch, caplog):
    monkeypatch.setattr("edgedistill_serve.server.queue.scoring_queue._LONGEST_DELAY", 0.001)
    work, done = [1], Event()

    def take():
        return work.pop() if work else (done.wait(30) and None)

    def process_work(_):
        refused = [RuntimeError("can't start new thread")] * 3
        start = Thread.start

        def start_later(thread):
            if refused and thread.name == "scoring":
                raise refused.pop()
            start(thread)

        monkeypatch.setattr(Thread, "start", start_later)
        raise SystemExit(1)

    workers = Workers(take, process_work, lambda *_: None, threads=1)
    wait_for(lambda: caplog.text.count("cannot be started") == 3 and workers.alive == 1)
    done.set()
    assert workers.join(30)


def test_a_thread_that_ended_is_shown_and_counted_as_a_fault(service):
    ended, runs = Event(), Thread(target=lambda: ended.wait(30))
    runs.start()
    service.watch_thread("watcher", runs)
    assert "faults" not in readyz(service).json()
    ended.set()
    runs.join(30)
    assert readyz(service).json()["faults"] == {"watcher": "its thread has ended"}
    assert "watcher" in service.parts


def test_the_parsing_thread_is_watched_once_it_runs(service):
    assert "parsing thread" not in service.parts
    assert asyncio.run(service.compute(lambda value: value + 1, 1)) == 2
    assert "parsing thread" in service.parts
    assert "faults" not in readyz(service).json()


def test_a_watcher_that_hangs_is_shown(service, folders, monkeypatch):
    monkeypatch.setattr(process, "LONGEST_CHECK_SECONDS", 0.05)
    hangs, ended = Event(), Event()

    def hang(_):
        hangs.wait(30)
        return False

    monkeypatch.setattr(BundleFolders, "changed", property(hang))
    monkeypatch.setattr(process, "watch", partial(watch, seconds=0.001))
    loaded = Mock(done=lambda: True)
    watching = Thread(target=process._watch, args=(loaded, folders, service, ended))
    watching.start()
    wait_for(lambda: "watcher of the bundle folders" in service.current_faults())
    assert "the last check ended 0 s ago" in readyz(service).json()["faults"].values()
    hangs.set()
    wait_for(lambda: "faults" not in readyz(service).json())
    ended.set()
    watching.join(30)


def test_faults_and_failures_are_metrics(service):
    metrics = ServerMetrics()
    metrics.add_gauges(process._gauges(service, Mock(statuses=()), Mock(open=0, refused={})))

    def values(name: str) -> dict[str, float]:
        found = re.findall(rf'edgedistill_{name}{{part="([^"]+)"}} (.+)', metrics.text().decode())
        return {part: float(value) for part, value in found}

    assert values("fault") == {"scoring threads": 0, "log": 0}
    service.report("watcher", RuntimeError(SECRET))
    service.report("watcher", RuntimeError(SECRET))
    assert values("fault")["watcher"] == 1
    service.report("watcher", None)
    assert (values("fault")["watcher"], values("failures")["watcher"]) == (0, 2)


def test_a_server_without_scoring_threads_is_not_ready(service, monkeypatch):
    monkeypatch.setattr(type(service.queue), "threads", 0)
    answer = readyz(service)
    assert answer.status_code == 503
    assert "no scoring thread" in answer.json()["detail"]


def test_log_lines_that_cannot_be_written_are_counted_and_shown(service, monkeypatch):
    class Broken(io.StringIO):
        def write(self, _):
            raise BrokenPipeError

    handler = LogHandler()
    handler.setStream(Broken())
    monkeypatch.setattr(logging.getLogger(), "handlers", [handler])
    service.report("watcher", RuntimeError())
    assert readyz(service).json()["faults"] == {"watcher": "RuntimeError", "log": "1 lines could not be written"}


def test_a_request_whose_application_fails_is_logged_and_others_go_on(service, monkeypatch, caplog):
    def fail(*_, **__):
        raise RuntimeError(SECRET)

    monkeypatch.setattr(type(service.queue), "submit", fail)

    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(create_app(service))
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            failed = await client.post("/v1/score", json={"response": "x"})
            return failed, await client.get("/livez")

    failed, alive = asyncio.run(send())
    assert (failed.status_code, alive.status_code) == (500, 200)
    assert "RuntimeError" in caplog.text
    assert SECRET not in caplog.text


def test_parsing_that_fails_in_its_thread_leaves_the_thread(service):
    async def run():
        for fault in (RuntimeError(SECRET), SystemExit(1), NotReady("x")):

            def fail(_, fault=fault):
                raise fault

            with pytest.raises(type(fault)):
                await service.compute(fail, 1)
        return await service.compute(lambda value: value + 1, 1)

    assert asyncio.run(run()) == 2
    assert sys.exc_info() == (None, None, None)
