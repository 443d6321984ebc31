"""How many confirmed codes are lost when the coding page is killed at a random moment, and what a code costs.

    python benchmarks/coding_kills.py docs/results/coding-kills.json [--kills 60]

Two coders code over HTTP as fast as they can, as the page does. It is killed (SIGKILL) up to 0.8 s after the first
code, and the project is opened again. A code is lost if the program confirmed it and does not have it afterwards.
"""

import argparse
import json
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import httpx

from edgedistill.coding import CodingSession
from edgedistill.project import read_project

CODERS = ("anna", "ben")
ROWS = 400
PROJECT = """\
name: kills
task: {labels: [{name: process}, {name: outcome}, {name: person}]}
data: {human: human.csv}
"""


class Coder(threading.Thread):
    """One coder's codes that the program has confirmed, by id, and the seconds that each took."""

    def __init__(self, link: str, name: str, seed: int) -> None:
        super().__init__()
        self.confirmed: dict[str, str] = {}
        self.seconds: list[float] = []
        self._url, _, self._token = link.partition("/#")
        self._name, self._random = name, random.Random(seed)  # noqa: S311  # no secret

    def run(self) -> None:
        """Code all rows, until the program does not answer."""
        headers = {"Authorization": f"Bearer {self._token}"}
        with httpx.Client(base_url=f"{self._url}/api", headers=headers, trust_env=False) as client:
            try:
                for row in client.post("/work", json={"coder": self._name}).json()["rows"]:
                    code = self._random.choice(("process", "outcome", "person"))
                    started = time.perf_counter()
                    fields = {"coder": self._name, "id": row["id"], "code": code, "seen": row["revision"]}
                    client.post("/code", json=fields).raise_for_status()
                    self.seconds.append(time.perf_counter() - started)
                    self.confirmed[row["id"]] = code
            except httpx.TransportError:  # it was killed
                return


def kill_once(folder: Path, seed: int) -> tuple[list[Coder], int]:
    """Code, kill, start again; return the coders and the number of codes that were lost."""
    project = folder / "project.yaml"
    project.write_text(PROJECT)
    (folder / "human.csv").write_text(
        "id,response,label\n" + "".join(f"r{number},You tried way {number}.,\n" for number in range(ROWS))
    )
    command = [Path(sys.executable).with_name("edgedistill"), "code", project, "--coders", ",".join(CODERS)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None  # noqa: S101  # for the type checker
        link = process.stdout.readline().split()[-1]
        coders = [Coder(link, name, seed) for name in CODERS]
        for coder in coders:
            coder.start()
        while not coders[0].confirmed:
            time.sleep(0.001)
        time.sleep(random.Random(seed).random() * 0.8)  # noqa: S311  # no secret
        process.send_signal(signal.SIGKILL)
        for coder in coders:
            coder.join()
    with CodingSession(read_project(project)) as session:
        codes = session.codings.codes_by_coder(session.ids)
    lost = sum(
        codes.get(name, {}).get(ident) != code
        for name, coder in zip(CODERS, coders, strict=True)
        for ident, code in coder.confirmed.items()
    )
    return coders, lost


def main() -> None:
    """Kill as often as asked, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--kills", type=int, default=60)
    options = parser.parse_args()
    confirmed = lost = 0
    seconds: list[float] = []
    for seed in range(options.kills):
        with tempfile.TemporaryDirectory() as folder:
            coders, missing = kill_once(Path(folder), seed)
        lost += missing
        confirmed += sum(len(coder.confirmed) for coder in coders)
        seconds += [each for coder in coders for each in coder.seconds]
        print(f"{seed + 1} kills, {confirmed} codes confirmed, {lost} lost", flush=True)
    result = {
        "kills": options.kills,
        "confirmed": confirmed,
        "lost": lost,
        "median_ms": round(1000 * statistics.median(seconds), 1),
        "p99_ms": round(1000 * statistics.quantiles(seconds, n=100)[-1], 1),
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
