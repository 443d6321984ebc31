"""A web server of a test, on loopback."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any


class Files(SimpleHTTPRequestHandler):
    """`python -m http.server`, without its log."""

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def serving(handler: Callable[..., Any]) -> Iterator[str]:
    """Answer requests by a handler of `http.server`; yields the address."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def serving_folder(folder: Path, handler: type[SimpleHTTPRequestHandler] = Files) -> Any:
    """Serve the files of a folder, as a context manager that yields the address."""
    return serving(partial(handler, directory=str(folder)))
