"""Labels with all imports of a run, and prints every address that was connected to or resolved."""

import json
import sys
from pathlib import Path

ADDRESSES: set[str] = set()


def watch(event: str, args: tuple[object, ...]) -> None:
    if event == "socket.connect":
        ADDRESSES.add(str(args[1]))
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        ADDRESSES.add(str(args[0]))
    elif event == "socket.sendto":
        ADDRESSES.add(f"datagram {args[1]}")


sys.addaudithook(watch)

import diskcache  # noqa: E402, F401
import httpx2  # noqa: E402, F401
import torch  # noqa: E402, F401
import transformers  # noqa: E402, F401

import edgedistill_export  # noqa: E402, F401
from edgedistill.data import read_records  # noqa: E402
from edgedistill.pipeline import Run, RunFolder, run_stages  # noqa: E402
from edgedistill.project import read_project  # noqa: E402

project = read_project(Path(sys.argv[1]))
run_stages(Run(project, read_records(project), RunFolder(project.run_folder)), until="label")
sys.stdout.write(json.dumps(sorted(ADDRESSES)))
