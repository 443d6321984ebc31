"""Self-checks of bundles, which cost a test little.

A process checks each bundle that it loads in a child, which imports onnxruntime for a third of a second. Hundreds of
tests load the same few bundles in processes of their own, and others write a bundle each. Therefore:

- What a child reported is kept in a folder of this run of the tests, under the SHA-256 of the manifest, which has the
  checksum of every other file. What a child refuses is not kept.
- The children of the tests' own process are forks of one that has imported onnxruntime.

`tests/serve/scoring/test_isolated_check.py` has bundles of its own, and children as users have them.
"""

import os
import subprocess
import tempfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace


def keep_in(folder: Path) -> None:
    """Make this process, and what it forks, take and leave the reports of children in a folder."""
    import msgspec

    from edgedistill_serve.scoring import graph_choice

    check_in_child = graph_choice.check_in_child

    def check(bundle, report, *, gpu):
        file = folder / sha256(msgspec.json.encode([bundle.manifest, gpu])).hexdigest()
        if file.exists():
            return msgspec.json.decode(file.read_bytes(), type=report)
        found = check_in_child(bundle, report, gpu=gpu)
        if found is not None:
            number, part = tempfile.mkstemp(dir=folder)
            with os.fdopen(number, "wb") as stream:
                stream.write(msgspec.json.encode(found))
            Path(part).replace(file)
        return found

    graph_choice.check_in_child = check


def start_children_by(start: Callable[..., subprocess.CompletedProcess[bytes]]) -> None:
    """Make this process start the children by a function: of the arguments after `python -P`, and the input."""
    from edgedistill_serve.scoring import isolated_check

    def run(command, **settings):
        return start(*command[2:], given=settings["input"])

    known = {name: getattr(subprocess, name) for name in ("PIPE", "DEVNULL", "TimeoutExpired")}
    isolated_check.subprocess = SimpleNamespace(run=run, **known)
