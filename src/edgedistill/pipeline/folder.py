"""The run folder: what the stages wrote, and which of it still holds."""

import csv
import datetime as dt
import hashlib
import io
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from threading import get_ident
from typing import Any

from edgedistill.errors import RunError
from edgedistill_serve.bundle.files import SIGNATURE_FILE

STUDENT = "student"
"""The folder of the fine-tuned student."""
SHRUNK = "shrunk"
"""The folder of the shrunk one, where there is one."""
FROZEN = "frozen.safetensors"
"""The classifier on a frozen encoder."""
MIXTURE = "mixture.csv"
"""The training set."""
_TOOLS = ("edgedistill", "torch", "transformers", "tokenizers", "onnx", "onnxruntime", "openai", "scikit-learn")


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
        """Write a JSON file aside and move it into place."""
        self.write_text(name, json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n")

    def write_text(self, name: str, text: str) -> None:
        """Write a UTF-8 file aside and move it into place: it is whole, or it is the old one.

        Raises:
            RunError: The folder cannot be written to.
        """
        try:
            file = self.file(name)
            file.parent.mkdir(parents=True, exist_ok=True)
            aside = file.with_name(f".{name}.{os.getpid()}-{get_ident()}.part")  # others may write it at this moment
            aside.write_text(text, "utf-8", newline="")
            aside.replace(file)
        except OSError as error:
            raise RunError(
                f"cannot be written ({error.strerror})",
                where=str(self.file(name)),
                hint="Give the run folder room and write permission.",
            ) from None

    def write_csv(self, name: str, lines: Iterable[Sequence[object]]) -> None:
        """Write a CSV file aside and move it into place; the first line is the header."""
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(lines)
        self.write_text(name, text.getvalue())

    def read_text(self, name: str) -> str:
        """Read a text file of the run.

        Raises:
            RunError: It is not there or is not text.
        """
        try:
            return self.file(name).read_text("utf-8")
        except (OSError, ValueError):
            raise self._damaged(name) from None

    def read_json(self, name: str) -> Any:
        """Read a JSON file of the run.

        Raises:
            RunError: It is not there or is no JSON.
        """
        try:
            return json.loads(self.read_text(name))
        except ValueError:
            raise self._damaged(name) from None

    def _damaged(self, name: str) -> RunError:
        return RunError(
            "is missing or damaged", where=str(self.file(name)), hint="`edgedistill run PROJECT` writes it anew."
        )

    @property
    def journal(self) -> dict[str, Any]:
        """`run.json` as it stands; an empty journal where there is none yet."""
        if not self.file("run.json").exists():
            return {"versions": {}, "rows": [], "notes": [], "stages": {}}
        journal: dict[str, Any] = self.read_json("run.json")
        return journal

    def note_rows(self, rows: Sequence[Mapping[str, Any]], notes: Sequence[str]) -> None:
        """Record the row accounting and the versions of the tools in `run.json`."""
        tools = {"python": python_version()} | {name: version(name) for name in _TOOLS}
        self.write_json("run.json", self.journal | {"versions": tools, "rows": list(rows), "notes": list(notes)})

    def note_spending(self, spending: Mapping[str, Any]) -> None:
        """Record in `run.json` what the stages have spent in all runs, by their names."""
        self.write_json("run.json", self.journal | {"spending": dict(spending)})

    def note_stage(self, name: str, entry: Mapping[str, Any], outputs: Sequence[str]) -> None:
        """Record a finished stage with the SHA-256 of what it wrote."""
        journal = self.journal
        journal["stages"][name] = {
            **entry,
            "finished": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            "outputs": {output: digest(self.file(output)) for output in outputs},
        }
        self.write_json("run.json", journal)

    def holds(self, name: str, fingerprint: str) -> bool:
        """Return whether a stage is done: its inputs are the same, and what it wrote is there unchanged."""
        entry = self.journal["stages"].get(name)
        return (
            bool(entry)
            and entry["fingerprint"] == fingerprint
            and all(
                self.file(output).exists() and digest(self.file(output)) == sha256
                for output, sha256 in entry["outputs"].items()
            )
        )


def digest(path: Path) -> str:
    """SHA-256 of a file, or of a folder's files by name; a bundle's signature, which is added later, does not count."""
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
