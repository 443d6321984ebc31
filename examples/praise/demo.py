"""The main job on the example lesson: teacher answers from the shipped cache, a student, a bundle, a score over HTTP.

Run it with `make demo`. Nothing leaves this machine: the teacher's answers come from `teacher-cache.jsonl`.
"""

import json
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

HERE = Path(__file__).parent
COMMANDS = Path(sys.executable).parent
RESPONSE = "You tried three different ways before this one worked, Jordan. That persistence paid off."


def shown(*command: str | Path) -> None:
    """Print a command and run it; a failure ends the demo with the command's exit code."""
    print(f"\n$ {' '.join(str(part) for part in command)}", flush=True)
    done = subprocess.run([COMMANDS / command[0], *command[1:]], check=False)
    if done.returncode:
        sys.exit(done.returncode)


def score_over_http(bundle: Path) -> None:
    """Start the scoring server on a free port, score one response over HTTP, stop the server."""
    command = [COMMANDS / "edgedistill-serve", "serve", bundle, "--port", "0", "--json"]
    print(f"\n$ edgedistill-serve serve {bundle}", flush=True)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            address = json.loads(server.stdout.readline())["address"]  # type: ignore[union-attr]  # stdout is a pipe
            body = json.dumps({"response": RESPONSE}).encode()
            print(f"\nPOST {address}/v1/score {body.decode()}")
            request = urllib.request.Request(f"{address}/v1/score", body, {"content-type": "application/json"})
            with urllib.request.urlopen(request, timeout=30) as answer:
                print(json.dumps(json.load(answer), indent=2))
        finally:
            server.terminate()


def main() -> None:
    """Run the demo and say how long it took."""
    start = time.monotonic()
    project = HERE / "project.yaml"
    shown("edgedistill", "cache", "import", project, HERE / "teacher-cache.jsonl")
    shown("edgedistill", "run", project, "--offline")
    score_over_http(HERE / "runs" / "praise" / "bundle")
    print(f"\ndone in {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
