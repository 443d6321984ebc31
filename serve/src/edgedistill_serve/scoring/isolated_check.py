"""The self-check of a bundle in a child process, before this process runs any of its graphs.

A graph and a tokenizer are programs: one can run for ever, need all memory or end its process. The child has a limit of
time and memory, and only the child ends. The parent then uses the graph that the child chose, read again and checked
against the same checksum.
"""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import msgspec

from edgedistill_serve import errors
from edgedistill_serve.bundle.loading import Bundle
from edgedistill_serve.bundle.manifest import MODEL_FILES, Golden, Manifest
from edgedistill_serve.errors import EdgeDistillError, SelfCheckFailed

SECONDS_VARIABLE = "EDGEDISTILL_CHECK_SECONDS"
"""Environment variable with another time limit of the child, in seconds."""

_SECONDS = 60
_BYTES_PER_SECOND = 10_000_000
"""The time limit grows with the size of the graphs."""
_GRACE_SECONDS = 10
_REFUSED = 3
"""Exit code of a child that raised one of our errors."""
_MEMORY = 4 * 1024**3
_MEMORY_PER_GRAPH_BYTE = 6
"""While onnxruntime loads a graph, it has up to four copies of the weights: file, protobuf, tensors, packed tensors."""
_CHILD = "from edgedistill_serve.scoring.isolated_check import main; main()"
_DO_NOT_USE = "Do not use this bundle."
_TOO_LONG = f"{_DO_NOT_USE} On a very slow machine, set {SECONDS_VARIABLE} to a longer time."

_Report = TypeVar("_Report")


class _Job(msgspec.Struct):
    """What the child needs: the parent's manifest has the checksum of every file that the child reads."""

    folder: str
    manifest: Manifest
    golden: Golden
    gpu: bool


class _Failure(msgspec.Struct):
    """An error that the child raised."""

    error: str
    what: str
    where: str | None = None
    hint: str | None = None


def check_in_child(bundle: Bundle, report: type[_Report], *, gpu: bool) -> _Report | None:
    """Run the self-check of a bundle in a child process.

    Args:
        bundle: A loaded bundle.
        report: The type of the child's report.
        gpu: Whether the child tries a GPU first.

    Returns:
        The report; None if this program cannot start a child.

    Raises:
        SelfCheckFailed: No graph passes the self-check, or the child did not end in time or was ended by the system.
        BundleError: As `edgedistill_serve.scoring.graph_choice.load_encoder`.
        RuntimeMissing: No build or both builds of onnxruntime are installed.
    """
    if not sys.executable:
        return None
    job = msgspec.json.encode(_Job(str(bundle.folder), bundle.manifest, bundle.golden, gpu))
    seconds = _time_limit(bundle)
    try:
        ended = subprocess.run(  # noqa: S603  # this interpreter and constant code
            [sys.executable, "-P", "-c", _CHILD, str(seconds)],  # -P: modules in the working folder are not imported
            input=job,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            timeout=seconds + _GRACE_SECONDS,
            check=False,
        )
    except OSError:
        return None
    except subprocess.TimeoutExpired:
        raise _took_too_long(bundle, seconds) from None
    if hasattr(signal, "SIGALRM") and ended.returncode == -signal.SIGALRM:
        raise _took_too_long(bundle, seconds)
    with suppress(msgspec.DecodeError, msgspec.ValidationError):
        if ended.returncode == 0:
            return msgspec.json.decode(ended.stdout, type=report)
        if ended.returncode == _REFUSED:
            failure = msgspec.json.decode(ended.stdout, type=_Failure)
            kind: type[EdgeDistillError] = getattr(errors, failure.error)
            raise kind(failure.what, where=failure.where, hint=failure.hint)
    raise SelfCheckFailed(
        f"the process that checked the bundle was ended ({_how(ended.returncode)})",
        where=bundle.manifest.name,
        hint=_DO_NOT_USE,
    )


def main() -> None:
    """Run the child: read a job from the standard input, and write the report or an error to the standard output."""
    from edgedistill_serve.scoring.graph_choice import check_here

    output = os.dup(1)
    os.dup2(2, 1)  # whatever a library prints is not a part of the report
    job = msgspec.json.decode(sys.stdin.buffer.read(), type=_Job)
    bundle = Bundle(Path(job.folder), job.manifest, job.golden)
    _limit_this_process(int(sys.argv[1]), None if job.gpu else _memory_limit(bundle))
    result: object
    try:
        result, code = check_here(bundle, gpu=job.gpu), 0
    except EdgeDistillError as error:
        result, code = _Failure(type(error).__name__, error.what, error.where, error.hint), _REFUSED
    except Exception as error:  # noqa: BLE001  # a bundle is a program of other libraries, whose errors are not known
        what = f"the self-check failed ({type(error).__name__})"
        result, code = _Failure("SelfCheckFailed", what, bundle.manifest.name, _DO_NOT_USE), _REFUSED
    with os.fdopen(output, "wb") as file:
        file.write(msgspec.json.encode(result))
    sys.exit(code)


def _limit_this_process(seconds: int, memory: int | None) -> None:
    """End this process after a time, and limit its memory beyond what it has now, where the system can."""
    if hasattr(signal, "alarm"):
        signal.alarm(seconds)  # the default action ends the process also within a library
    with suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        # If memory runs out all the same, the system should end this process and not its parent.
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
        if memory is not None:
            used = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + memory, resource.getrlimit(resource.RLIMIT_AS)[1]))


def _graph_bytes(bundle: Bundle) -> int:
    return sum(bundle.manifest.files[name].bytes for name in MODEL_FILES.values() if name in bundle.manifest.files)


def _memory_limit(bundle: Bundle) -> int:
    return _MEMORY + _MEMORY_PER_GRAPH_BYTE * _graph_bytes(bundle)


def _time_limit(bundle: Bundle) -> int:
    wanted = os.environ.get(SECONDS_VARIABLE, "")
    # A longer time than a day is no limit.
    if wanted.isascii() and wanted.isdigit() and 0 < len(wanted) <= 5 and int(wanted) > 0:
        return int(wanted)
    return _SECONDS + _graph_bytes(bundle) // _BYTES_PER_SECOND


def _took_too_long(bundle: Bundle, seconds: int) -> SelfCheckFailed:
    return SelfCheckFailed(f"the self-check did not end within {seconds} s", where=bundle.manifest.name, hint=_TOO_LONG)


def _how(code: int) -> str:
    if code < 0:
        with suppress(ValueError):
            return signal.Signals(-code).name
    return f"exit code {code}"
