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
from pathlib import Path
from typing import Self

PROGRAMS = Path(sys.executable).parent
"""Where `edgedistill` and `edgedistill-serve` are installed."""
SLOWEST = 240
"""Seconds that a process may take."""
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
"""The environment in which torch and its kind do not wait for one another's threads."""


class Process:
    """A fork that runs a script or code; what it prints can be read from `stdout` while it runs.

    Args:
        script: The file to run, such as an installed program; or with `"-c"`, code, which is the first argument.
        arguments: Of the script.
        cwd: The folder it starts in; this process's unless said otherwise.
    """

    def __init__(self, script: Path | str, *arguments: object, cwd: Path | None = None) -> None:
        self.argv = [str(script), *map(str, arguments)]
        self._exit_code: int | None = None
        self._said: tuple[str, str] | None = None
        self._complaints = tempfile.TemporaryFile("w+")  # noqa: SIM115  # `communicate` closes it
        reading, writing = os.pipe()
        self.stdout = os.fdopen(reading)
        told = {"argv": self.argv, "cwd": str(cwd or Path.cwd()), "environment": dict(os.environ)}
        self.pid = _ask(told, writing, self._complaints.fileno())
        os.close(writing)

    def poll(self) -> int | None:
        """Return the exit code, or None while it runs."""
        if self._exit_code is None:
            self._exit_code = _ask({"ended": self.pid})
        return self._exit_code

    def wait(self) -> int:
        """Return the exit code, once it has ended."""
        if self._exit_code is None:
            self._exit_code = _ask({"wait": self.pid})
        return self._exit_code

    def send_signal(self, number: signal.Signals) -> None:
        """Send it a signal, where it still runs."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it in a way that it cannot hinder."""
        self.send_signal(signal.SIGKILL)

    def communicate(self) -> tuple[str, str]:
        """Wait for its end, and return what else it printed, and what it wrote to standard error."""
        if self._said is None:
            with self.stdout, self._complaints:
                printed = self.stdout.read()
                self.wait()
                self._complaints.seek(0)
                self._said = printed, self._complaints.read()
        return self._said

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.communicate()


def run(program: str, *arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run one of the two programs to its end, or with `"-c"`, code."""
    process = Process(program if program == "-c" else PROGRAMS / program, *arguments, cwd=cwd)
    printed, complaints = process.communicate()
    return subprocess.CompletedProcess(process.argv, process.wait(), printed, complaints)


@functools.cache
def _line() -> socket.socket:
    """The line to the process that forks; that process ends with this one."""
    here, there = socket.socketpair(type=socket.SOCK_SEQPACKET)
    here.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    with there:
        forks = Path(__file__).with_name("forks.py")
        started = subprocess.Popen(
            [sys.executable, forks, str(there.fileno())], pass_fds=[there.fileno()], env=os.environ | ONE_THREAD
        )
    here.settimeout(SLOWEST)

    def end() -> None:
        here.close()
        started.wait()

    atexit.register(end)
    return here


def _ask(told: dict[str, object], *streams: int) -> int | None:
    line = _line()
    socket.send_fds(line, [json.dumps(told).encode()], streams)
    return json.loads(line.recv(100))
