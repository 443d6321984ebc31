"""The main job on the example lesson: teacher answers from the shipped cache, a student, a bundle, a score over HTTP.

Run it with `make demo`. Nothing leaves this machine: the teacher's answers come from `teacher-cache.jsonl`.
"""

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

COMMANDS = Path(sys.executable).parent
LESSON = Path(os.path.relpath(Path(__file__).parent))
RESPONSE = "You tried three different ways before this one worked, Jordan. That persistence paid off."


def show(*command: str | Path) -> None:
    """Print a command and run it; a failure ends the demo with the command's exit code."""
    print(f"\n$ {' '.join(str(part) for part in command)}", flush=True)
    done = subprocess.run([COMMANDS / command[0], *command[1:]], check=False)
    if done.returncode:
        sys.exit(done.returncode)


def fetch(address: str, body: dict[str, str] | None = None) -> Any:
    """Return the JSON that a loopback address answers with; while the server still loads, ask again."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(address, data, {"content-type": "application/json"})
    for _ in range(100):
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            if error.code != 503:
                raise
            time.sleep(0.1)
    sys.exit("the server did not become ready")


def score_over_http(bundle: Path) -> None:
    """Start the scoring server on a free port, score one response over HTTP, stop the server."""
    command = ["edgedistill-serve", "serve", str(bundle), "--port", "0", "--json"]
    print(f"\n$ {' '.join(command)}", flush=True)
    with subprocess.Popen(
        [COMMANDS / command[0], *command[1:]], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as server:
        try:
            address = json.loads(server.stdout.readline())["url"]  # type: ignore[union-attr]  # stdout is a pipe
            fetch(f"{address}/readyz")
            body = {"response": RESPONSE}
            print(f"\nPOST {address}/v1/score\n{json.dumps(body)}\n")
            print(json.dumps(fetch(f"{address}/v1/score", body), indent=2))
        finally:
            server.terminate()


def main() -> None:
    """Run the demo and say how long it took."""
    start = time.monotonic()
    project = LESSON / "project.yaml"
    show("edgedistill", "cache", "import", project, LESSON / "teacher-cache.jsonl")
    show("edgedistill", "run", project, "--offline")
    score_over_http(LESSON / "runs" / "praise" / "bundle")
    print(f"\ndone in {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
