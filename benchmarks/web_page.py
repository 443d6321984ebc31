"""The page in Chromium beside native onnxruntime, on the same rows and cores, in one run.

    python benchmarks/web_page.py BUNDLE BEETLE_FOLDER [--rows 200] [--rounds 3] [--out web_page.json]

BEETLE_FOLDER holds `test_ua.csv`; its distinct rows are scored, each alone: by the Python scorer with one caller
and two, and in Chromium (WebAssembly with SIMD) by one session with one thread and with two, and as the page scores
a file. The systems take turns, round after round; of the speeds the best is told, of the ratios, which are taken within
a round, the median. Where others use the machine, trust the ratios of processor time. Needs Chromium, its driver and
psutil.
"""

import argparse
import csv
import io
import json
import statistics
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, closing
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from edgedistill_export.web import write_web
from edgedistill_serve import Bundle, Scorer
from edgedistill_serve.cores import available_cores

sys.path.insert(0, str(Path(__file__).parent.parent))
from tests.serve.server.page.browser import Browser


class Round(NamedTuple):
    """One system's turn: seconds on the clock, seconds of the processor, and the labels."""

    seconds: float
    processor: float
    labels: list[str]


NATIVE = "native, 1 caller"
THREADS = {
    "Chromium, one session, 1 thread": 1,
    "Chromium, one session, 2 threads": 2,
    "Chromium, the page's way with a file": 0,
}
"""Of a session that scores rows one by one; 0 for the page's own way: a copy of the model for each core."""
READY = "!document.querySelector('main').hidden || document.getElementById('fault').textContent"
FIRST = """
const wait = setInterval(() => {
  if (document.querySelector('main')?.hidden !== false) return;
  clearInterval(wait);
  document.getElementById('response').value = arguments[0];
  document.getElementById('score').click();
  new MutationObserver(() => { window.first ??= performance.now(); })
    .observe(document.getElementById('verdict'), { childList: true });
}, 2);
"""
SESSION = """
const [rows, threads] = arguments;
window.scored = null;
(async () => {
  const { Asker } = await import('./page/talking.mjs');
  window.asker ??= new Asker(new Worker('./page/runner.mjs', { type: 'module' }));
  window.loaded ??= window.asker.ask({ task: 'load', check: false, threads });
  await window.loaded;
  const started = performance.now();
  const labels = [];
  for (const inputs of rows) labels.push((await window.asker.ask({ task: 'score', inputs })).label);
  window.scored = { seconds: (performance.now() - started) / 1000, labels };
})().catch((error) => { window.scored = { failed: error.message }; });
"""
FILE = """
const [table, column] = arguments;
window.scored = null;
(async () => {
  const { Engine } = await import('./page/engine.mjs');
  window.engine ??= new Engine(() => {});
  window.loaded ??= window.engine.load();
  await window.loaded;
  const started = performance.now();
  const graded = await window.engine.grade(new File([table], 'rows.csv'), column, () => {}).done;
  window.scored = { seconds: (performance.now() - started) / 1000, table: await graded.table.text() };
})().catch((error) => { window.scored = { failed: error.message }; });
"""


class Isolated(SimpleHTTPRequestHandler):
    """Python's file server with the headers that let a page use threads."""

    def end_headers(self) -> None:
        """Add them."""
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        super().end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Plain(SimpleHTTPRequestHandler):
    """Python's file server."""

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def serve(handler: type[SimpleHTTPRequestHandler], folder: Path) -> str:
    """Hand out a folder on a free port, and return its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_address[1]}/"


def rows_of(folder: Path, inputs: tuple[str, ...], count: int) -> list[dict[str, str]]:
    """Return distinct rows of Beetle's unseen answers."""
    with (folder / "test_ua.csv").open(encoding="utf-8", newline="") as file:
        found = {tuple(row[name] for name in inputs): None for row in csv.DictReader(file)}
    return [dict(zip(inputs, row, strict=True)) for row in list(found)[:count]]


def as_csv(rows: list[dict[str, str]]) -> str:
    """Return rows as a table."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def first_score(folder: Path, text: str) -> dict[str, float]:
    """Return the seconds from opening the page to the first score: at the first visit, and once it is kept."""
    with tempfile.TemporaryDirectory() as profile:
        address, found = serve(Plain, folder), {}
        with closing(Browser(Path(profile))) as browser:
            for visit in ("first visit", "kept"):
                browser.open(address)
                browser.run(FIRST, text)
                found[visit] = browser.until("window.first") / 1000
                browser.until("document.getElementById('offline').textContent.startsWith('Kept')")
    return found


class Page:
    """The page in a Chromium of its own.

    Args:
        folder: Of the page.
        rows: What is scored.
        threads: As in `THREADS`.
    """

    def __init__(self, folder: Path, rows: list[dict[str, str]], threads: int) -> None:
        self._profile = tempfile.TemporaryDirectory()
        self.browser = Browser(Path(self._profile.name))
        self.browser.open(serve(Isolated, folder))
        self.browser.until(READY)
        self._rows, self._threads = rows, threads

    def score(self) -> Round:
        """Score the rows once."""
        before = self._processor()
        if self._threads:
            self.browser.run(SESSION, self._rows, self._threads)
            found = self._answer()
            labels = found["labels"]
        else:
            self.browser.run(FILE, as_csv(self._rows), {name: name for name in self._rows[0]})
            found = self._answer()
            labels = [row["label"] for row in csv.DictReader(io.StringIO(found["table"], newline=""))]
        return Round(found["seconds"], self._processor() - before, labels)

    def _processor(self) -> float:
        """Seconds that all processes of this Chromium have had."""
        times = [each.cpu_times() for each in psutil.Process(self.browser.process.pid).children(recursive=True)]
        return sum(each.user + each.system for each in times)

    def _answer(self) -> Any:
        while (found := self.browser.run("return window.scored")) is None:
            time.sleep(0.02)
        if "failed" in found:
            sys.exit(f"the page failed: {found['failed']}")
        return found

    def close(self) -> None:
        """End the browser."""
        self.browser.close()
        self._profile.cleanup()


class Native:
    """The Python scorer, which remembers nothing.

    Args:
        bundle: What it scores with.
        rows: What is scored.
        callers: Responses that are scored at a time, each with one thread.
    """

    def __init__(self, bundle: Bundle, rows: list[dict[str, str]], callers: int) -> None:
        self._scorer = Scorer(bundle, threads=callers, score_cache=0)
        self._rows = rows

    def score(self) -> Round:
        """Score the rows once."""
        started, before = time.perf_counter(), time.process_time()
        scores = self._scorer.score(self._rows)
        spent = time.perf_counter() - started, time.process_time() - before
        return Round(*spent, [score.label for score in scores])


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("beetle", type=Path)
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    bundle = Bundle.load(asked.bundle)
    rows = rows_of(asked.beetle, bundle.task.inputs, asked.rows)
    with tempfile.TemporaryDirectory() as work:
        folder = write_web(bundle, Path(work) / "page").folder
        first = first_score(folder, rows[0]["response"])
        with ExitStack() as opened:
            pages = {
                name: opened.enter_context(closing(Page(folder, rows, threads))) for name, threads in THREADS.items()
            }
            systems = {NATIVE: Native(bundle, rows, 1), "native, 2 callers": Native(bundle, rows, 2), **pages}
            rounds = [{name: system.score() for name, system in systems.items()} for _ in range(asked.rounds + 1)]
    counted = rounds[1:]  # the first round warms
    expected = rounds[0][NATIVE].labels
    result = {
        "rows": len(rows),
        "cores": available_cores(),
        "texts_per_second": {name: len(rows) / min(each[name].seconds for each in counted) for name in systems},
        "of_native_with_1_caller": {
            name: statistics.median(each[NATIVE].seconds / each[name].seconds for each in counted) for name in systems
        },
        "of_native_with_1_caller_by_processor_time": {
            name: statistics.median(each[NATIVE].processor / each[name].processor for each in counted)
            for name in systems
        },
        "labels_that_differ_from_python": {
            name: sum(one != other for one, other in zip(expected, rounds[0][name].labels, strict=True))
            for name in systems
        },
        "seconds_to_the_first_score": first,
    }
    print(json.dumps(result, indent=2))
    if asked.out:
        asked.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
