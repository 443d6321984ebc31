"""Processes that need not import torch each for itself: forks of one that has.

A command that is started anew imports torch, transformers and scikit-learn for seconds before it does anything. These
processes are forks of one that has imported them and done nothing else (`forks.py`). Each has its own arguments,
folder, environment, streams and exit code, and runs the installed program, or other code, from its first line.
"""

import atexit
import functools
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import nullcontext
from pathlib import Path
from typing import IO, Self

PROGRAMS = Path(sys.executable).parent
"""Where `edgedistill` and `edgedistill-serve` are installed."""
IMPORTED = {
    "edgedistill": (
        "alembic.command",
        "edgedistill.cli",
        "edgedistill.classifier",  # with torch, transformers and scikit-learn
        "edgedistill.pipeline.evaluate",
        "edgedistill.pipeline.export",
        "edgedistill.pipeline.report",
        "edgedistill.pipeline.train",
        "edgedistill.report.page",
        "edgedistill.studies.runs",
        "edgedistill_serve.cli.main",
        "httpcore2",
        "onnxruntime",
        "sqlalchemy.dialects.sqlite",
        "transformers.models.bert.modeling_bert",
        "transformers.models.bert.tokenization_bert",
    ),
    "edgedistill-serve": ("edgedistill_serve.cli.main", "edgedistill_serve.server.process", "onnxruntime"),
}
"""What has been imported when a program, or code that is like it, begins."""
SLOWEST = 290
"""Seconds that a process may take."""
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
"""The environment in which torch and its kind do not wait for one another's threads."""
checked_bundles = Path()
"""The folder of `checked_bundles.py`, which the fixture of a run sets before the first process."""
_ASKING = threading.Lock()


class Process:
    """A fork that runs a script or code; what it prints can be read from `stdout` while it runs.

    Args:
        script: The file to run, such as an installed program; or with `"-c"`, code, which is the first argument.
        arguments: Of the script.
        cwd: The folder it starts in; this process's unless said otherwise.
        like: The program whose imports it finds made.
        complaints: Where it writes its standard error, which `communicate` returns where nothing is said here.
        given: What it can read from its standard input.
    """

    def __init__(
        self,
        script: Path | str,
        *arguments: object,
        cwd: Path | None = None,
        like: str = "edgedistill",
        complaints: IO[bytes] | None = None,
        given: bytes = b"",
    ) -> None:
        self.argv = [str(script), *map(str, arguments)]
        self._like = like
        self._exit_code: int | None = None
        self._said: tuple[str, str] | None = None
        self._complaints = tempfile.TemporaryFile() if complaints is None else None  # noqa: SIM115  # kept open
        reading, writing = os.pipe()
        self.stdout = os.fdopen(reading)
        message = {"argv": self.argv, "cwd": str(cwd or Path.cwd()), "environment": dict(os.environ)}
        with tempfile.TemporaryFile() as stdin:
            stdin.write(given)
            stdin.seek(0)
            self.pid = _ask(like, message, stdin.fileno(), writing, (complaints or self._complaints).fileno())
        os.close(writing)

    def poll(self) -> int | None:
        """Return the exit code, or None while it runs."""
        if self._exit_code is None:
            self._exit_code = _ask(self._like, {"ended": self.pid})
        return self._exit_code

    def wait(self, seconds: float = SLOWEST) -> int:
        """Return the exit code, once it has ended."""
        until = time.monotonic() + seconds
        while (code := self.poll()) is None:
            assert time.monotonic() < until, f"{self.argv} has not ended after {seconds} s"
            time.sleep(0.005)
        return code

    def send_signal(self, number: signal.Signals) -> None:
        """Send it a signal, where it still runs."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it in a way that it cannot hinder."""
        self.send_signal(signal.SIGKILL)

    def communicate(self) -> tuple[str, str]:
        """Wait for its end, and return what else it printed, and what it wrote to standard error."""
        if self._said is None:
            with self.stdout, self._complaints or nullcontext():
                printed = self.stdout.read()
                self.wait()
                self._said = printed, self._complained()
        return self._said

    def _complained(self) -> str:
        if self._complaints is None:
            return ""
        self._complaints.seek(0)
        return self._complaints.read().decode()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.communicate()


def run(program: str, *arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run one of the two programs to its end, or with `"-c"`, code."""
    like, script = ("edgedistill", program) if program == "-c" else (program, PROGRAMS / program)
    process = Process(script, *arguments, cwd=cwd, like=like)
    printed, complaints = process.communicate()
    return subprocess.CompletedProcess(process.argv, process.wait(), printed, complaints)


def run_child(*arguments: str, given: bytes) -> subprocess.CompletedProcess[bytes]:
    """Run code that has imported what `edgedistill-serve` imports, with an input."""
    process = Process(*arguments, like="edgedistill-serve", given=given)
    printed, _ = process.communicate()
    return subprocess.CompletedProcess(process.argv, process.wait(), printed.encode())


@functools.cache
def _line(like: str) -> socket.socket:
    """The line to the process that forks for a program; that process ends with this one."""
    here, there = socket.socketpair(type=socket.SOCK_SEQPACKET)
    here.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    with there:
        forks = Path(__file__).with_name("forks.py")
        command = [sys.executable, forks, str(there.fileno()), str(checked_bundles), *IMPORTED[like]]
        started = subprocess.Popen(command, pass_fds=[there.fileno()], env=os.environ | ONE_THREAD)
    here.settimeout(SLOWEST)

    def end() -> None:
        here.close()
        started.wait()

    atexit.register(end)
    return here


def _ask(like: str, message: dict[str, object], *streams: int) -> int | None:
    with _ASKING:
        line = _line(like)
        socket.send_fds(line, [json.dumps(message).encode()], streams)
        return json.loads(line.recv(100))
