"""The run folder: the files that the stages write, and whether they are up to date."""

import csv
import datetime as dt
import hashlib
import io
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from typing import Any

from edgedistill.errors import RunError
from edgedistill_serve.bundle.atomic_folder import replace_file
from edgedistill_serve.bundle.files import SIGNATURE_FILE
from edgedistill_serve.grading.delimited import read_records, write_records

STUDENT = "student"
"""The folder of the fine-tuned student."""
ASSISTANT = "assistant"
"""The folder of the assistants, with a folder for each seed."""
SHRUNK = "shrunk"
"""The folder of the shrunk one, where there is one."""
SIZES = "sizes"
"""The folder of the students of several sizes, where there are any."""
CUT_BACKBONE = "cut-backbone"
"""The folder of the backbone without the tokens that no text needs, where the student is trained from it."""
NANO_START = "nano-start"
"""The folder of a nano student before training."""
OVERLAP = "overlap.safetensors"
"""The overlap baseline, of a task with reference answers."""
FROZEN = "frozen.safetensors"
"""The classifier on a frozen encoder."""
MIXTURE = "mixture.csv"
"""The training set."""
_TOOLS = ("edgedistill", "torch", "transformers", "tokenizers", "onnx", "onnxruntime", "httpx2", "scikit-learn")


class RunFolder:
    """`runs/NAME/` beside the project file; made when something is first written."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __repr__(self) -> str:
        return f"RunFolder({str(self._path)!r})"

    @property
    def path(self) -> Path:
        """The folder."""
        return self._path

    def __truediv__(self, name: str) -> Path:
        return self.file(name)

    def file(self, name: str) -> Path:
        """Return where a file of the run is."""
        return self._path / name

    def has(self, name: str) -> bool:
        """Return whether a file of the run is there."""
        return self.file(name).exists()

    def write_json(self, name: str, value: object) -> None:
        """Write a JSON file atomically."""
        self.write_text(name, json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n")

    def write_text(self, name: str, text: str) -> None:
        """Write a UTF-8 file atomically: after an interruption the old file is there, or the new one.

        Raises:
            RunError: The folder cannot be written to.
        """
        try:
            file = self.file(name)
            file.parent.mkdir(parents=True, exist_ok=True)
            replace_file(file, text.encode())
        except UnicodeEncodeError as error:
            raise RunError(
                f"cannot be written: it would hold half a character (a lone surrogate, {error.object[error.start]!r})",
                where=str(self.file(name)),
                hint="Decode the texts and labels again from their source.",
            ) from None
        except OSError as error:
            raise RunError(
                f"cannot be written ({error.strerror})",
                where=str(self.file(name)),
                hint="Check the free disk space and the write permission of the run folder.",
            ) from None

    def write_csv(self, name: str, lines: Iterable[Sequence[object]]) -> None:
        """Write a CSV file atomically, in the dialect of `write_records`; the first line is the header."""
        text = io.StringIO()
        write_records(text, lines)
        self.write_text(name, text.getvalue())

    def read_csv(self, name: str) -> list[dict[str, str]]:
        """Read a CSV file that `write_csv` wrote, as a dict per line after the header.

        Raises:
            RunError: It is missing or damaged.
        """
        try:
            with self.file(name).open(encoding="utf-8", newline="") as file:
                header, *lines = read_records(file)
                return [dict(zip(header, line, strict=True)) for line in lines]
        except (OSError, ValueError, csv.Error):
            raise self._damaged(name) from None

    def read_text(self, name: str) -> str:
        """Read a text file of the run.

        Raises:
            RunError: It is missing or is not UTF-8 text.
        """
        try:
            return self.file(name).read_text("utf-8")
        except (OSError, ValueError):
            raise self._damaged(name) from None

    def read_json(self, name: str) -> Any:
        """Read a JSON file of the run.

        Raises:
            RunError: It is missing or is not valid JSON.
        """
        try:
            return json.loads(self.read_text(name))
        except ValueError:
            raise self._damaged(name) from None

    def _damaged(self, name: str) -> RunError:
        return RunError(
            "is missing or damaged", where=str(self.file(name)), hint="`edgedistill run PROJECT` writes it again."
        )

    @property
    def run_log(self) -> dict[str, Any]:
        """The content of `run.json`, or an empty log if there is none yet.

        Raises:
            RunError: It is damaged, so that nobody knows which stages are done.
        """
        if not self.file("run.json").exists():
            return {"versions": {}, "rows": [], "notes": [], "stages": {}}
        try:
            run_log: dict[str, Any] = json.loads(self.file("run.json").read_text("utf-8"))
            for entry in run_log["stages"].values():
                _ = entry["fingerprint"], entry["outputs"].items()
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            raise RunError(
                "is damaged",
                where=str(self.file("run.json")),
                hint="Delete it, and `edgedistill run PROJECT` does every stage again; paid answers are in the cache.",
            ) from None
        return run_log

    def record_rows(self, rows: Sequence[Mapping[str, Any]], notes: Sequence[str]) -> None:
        """Record row counts, and the versions of the tools that are installed now, in `run.json`."""
        self.write_json(
            "run.json", self.run_log | {"versions": _tool_versions(), "rows": list(rows), "notes": list(notes)}
        )

    def record_spending(self, spending: Mapping[str, Any]) -> None:
        """Record in `run.json` what each stage has spent in all runs together."""
        self.write_json("run.json", self.run_log | {"spending": dict(spending)})

    def record_stage(self, name: str, entry: Mapping[str, Any], outputs: Sequence[str]) -> None:
        """Record a finished stage in `run.json`, with the versions of the tools and the SHA-256 of its outputs."""
        run_log = self.run_log
        run_log["stages"][name] = {
            **entry,
            "versions": _tool_versions(),
            "finished": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            "outputs": {output: file_digest(self.file(output)) for output in outputs},
        }
        self.write_json("run.json", run_log)

    def is_done(self, name: str, fingerprint: str) -> bool:
        """Return whether a stage is done: its inputs have not changed, and neither have its outputs."""
        entry = self.run_log["stages"].get(name)
        return (
            bool(entry)
            and entry["fingerprint"] == fingerprint
            and all(
                self.file(output).exists() and file_digest(self.file(output)) == sha256
                for output, sha256 in entry["outputs"].items()
            )
        )


@cache  # reading the metadata of a distribution parses all of it
def _tool_versions() -> dict[str, str]:
    return {"python": python_version()} | {name: version(name) for name in _TOOLS}


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, or of a folder's files by name.

    A bundle's signature does not count, since it is added later.
    """
    total = hashlib.sha256()
    inside = (file for file in path.rglob("*") if file.is_file() and file.name != SIGNATURE_FILE)
    for file in sorted(inside) if path.is_dir() else [path]:
        total.update(os.fsencode(file.relative_to(path)))
        with file.open("rb") as stream:
            total.update(hashlib.file_digest(stream, "sha256").digest())
    return total.hexdigest()


def hash_json(value: object) -> str:
    """Return the SHA-256 of a value's canonical JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False, default=str).encode()).hexdigest()
