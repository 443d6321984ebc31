"""Self-checks of bundles, each made once in a run of the tests, whichever process needs it.

A process checks each bundle that it loads in a child, which imports onnxruntime for a third of a second. Hundreds of
tests load the same few bundles in processes of their own. So what a child reported is kept in a folder of this run,
under the SHA-256 of the manifest, which has the checksum of every other file. What a child refuses is not kept, and
`tests/serve/scoring/test_isolated_check.py` has bundles of its own, which are checked for the first time there.
"""

import os
import tempfile
from hashlib import sha256
from pathlib import Path


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
