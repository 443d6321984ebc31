"""Replication packages, unpacked and run as a reviewer would."""

import csv
import io
import json
import re
import subprocess
import sys
import zipfile

from edgedistill.data.twins import fold_text


def unpack(package, folder):
    folder.mkdir(parents=True)
    with zipfile.ZipFile(package) as archive:
        archive.extractall(folder)  # written by this test
    return folder


def reproduce(folder, *, without_edgedistill=False):
    """Run the script in a process of its own: its exit code and lines."""
    alone = ["-I", "-S"] if without_edgedistill else []
    done = subprocess.run([sys.executable, *alone, "reproduce.py"], cwd=folder, capture_output=True, text=True)
    assert done.stderr == ""
    return done.returncode, done.stdout.splitlines()


def strings_of(value):
    """Every string of a JSON value, keys too."""
    if isinstance(value, dict):
        return [part for key, each in value.items() for part in (key, *strings_of(each))]
    if isinstance(value, list):
        return [part for each in value for part in strings_of(each)]
    return [value] if isinstance(value, str) else []


def contents(folder):
    """The folded text of every file; what JSON and CSV escape stands in it unescaped, too."""
    found = {}
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            text = file.read_text("utf-8")
            parts = [text, *re.findall(r"\S.*", text)]
            if file.suffix == ".json":
                parts += strings_of(json.loads(text))
            if file.suffix == ".csv":
                parts += [cell for line in csv.reader(io.StringIO(text, newline="")) for cell in line]
            found[file.relative_to(folder).as_posix()] = fold_text("\n".join(parts))
    return found


def texts_in(folder, run):
    """The responses of a run that stand in any file, as (file, text)."""
    splits, files = run.records.splits, contents(folder)
    rows = [row for part in (splits.train, splits.validation, splits.test) for row in part.responses]
    texts = {fold_text(row.text) for row in (*rows, *run.records.unlabelled)}
    assert len(texts) > 100
    return [(name, text) for name, content in files.items() for text in texts if text in content]


def ids_in(folder, run):
    """The ids of a run that stand in any file."""
    splits = run.records.splits
    ids = {row.response.id for part in (splits.train, splits.validation, splits.test) for row in part}
    ids |= {row.id for row in run.records.unlabelled}
    words = {
        (name, word)
        for name, content in contents(folder).items()
        if not name.startswith("environment/")  # names of packages, such as h11
        for word in re.findall(r"[\w-]+", content)
    }
    return sorted((name, word) for name, word in words if word in ids)
