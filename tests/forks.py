"""A process that imports what the commands import, and then forks for each script that it is asked to run.

    python forks.py SOCKET CHECKED MODULE...

It reads one request after another from the socket whose number it is given, and answers each with a JSON value:

    {"argv": ..., "cwd": ..., "environment": ...} and three streams   the process id of a fork that runs this
    {"ended": process id}                                             its exit code, or null while it runs
"""

import atexit
import gc
import importlib
import io
import json
import os
import runpy
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import checked_bundles

LONGEST = 1 << 20
"""Bytes of a request; an environment may be long."""
exit_codes: list[int] = []
"""In a fork: its exit code, once its script has ended in order."""


def receive(line: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """Return the next request and its streams, an empty one where nobody asks any more."""
    message, streams, _, _ = socket.recv_fds(line, LONGEST, 3)
    return (json.loads(message) if message else {}), list(streams)


def serve(line: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """Answer requests; return in each fork, with what it is to run and its streams."""
    running: set[int] = set()
    while (request := receive(line))[0]:
        message, streams = request
        if "argv" in message:
            answer: int | None = os.fork()
            if answer == 0:
                return request
            running.add(answer)
            for stream in streams:
                os.close(stream)
        else:
            ended, status = os.waitpid(message["ended"], os.WNOHANG)
            running.discard(ended)
            answer = os.waitstatus_to_exitcode(status) if ended else None
        line.send(json.dumps(answer).encode())
    for number in running:
        os.kill(number, signal.SIGKILL)
    sys.exit()


def become(message: dict[str, Any], streams: list[int]) -> None:
    """Take on the arguments, the folder, the environment and the streams of a process of its own."""
    # As from a terminal: tests that run in the background, or under nohup, ignore some of these.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)
    os.chdir(message["cwd"])
    os.environ.clear()
    os.environ.update(message["environment"])
    for here, stream in enumerate(streams):
        os.dup2(stream, here)
    for stream in streams:
        os.close(stream)
    # Opened again, as in a process of its own: whether a stream can seek is found out when it is opened.
    sys.stdin = io.TextIOWrapper(io.BufferedReader(io.FileIO(0, closefd=False)), sys.stdin.encoding, sys.stdin.errors)
    sys.stdout, sys.stderr = (
        io.TextIOWrapper(
            io.BufferedWriter(io.FileIO(place, "w", closefd=False)),
            encoding=old.encoding,
            errors=old.errors,
            line_buffering=old.line_buffering,
        )
        for place, old in ((1, sys.stdout), (2, sys.stderr))
    )
    sys.argv = message["argv"]


def work() -> None:
    """Run the code or the script of `sys.argv`, as Python does."""
    if sys.argv[0] == "-c":
        code = sys.argv.pop(1)
        sys.path[0] = ""
        exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})
    else:
        sys.path[0] = str(Path(sys.argv[0]).parent)
        runpy.run_path(sys.argv[0], run_name="__main__")


def leave() -> None:
    """Leave without taking the modules apart, which takes longer than most commands."""
    if exit_codes:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(exit_codes[0])


if __name__ == "__main__":
    atexit.register(leave)  # before the modules are imported, so that it is called after what they register
    with socket.socket(fileno=int(sys.argv[1])) as line:
        for module in sys.argv[3:]:
            importlib.import_module(module)
        checked_bundles.keep_in(Path(sys.argv[2]))
        gc.freeze()
        asked = serve(line)
    become(*asked)
    try:
        work()
        exit_codes.append(0)
    except SystemExit as ended:
        if isinstance(ended.code, int | None):
            exit_codes.append(ended.code or 0)
        raise
