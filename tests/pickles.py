"""Tells whether a file holds a pickle, in itself or packed into a zip as torch does it."""

import zipfile
from pathlib import Path

PROTOCOLS = tuple(bytes([0x80, protocol]) for protocol in range(2, 6))


def holds_a_pickle(file: Path) -> bool:
    """Whether a file, or a member of it where it is a zip, begins as a pickle of protocol 2 to 5 does."""
    with file.open("rb") as opened:
        if opened.read(2) in PROTOCOLS:
            return True
    if not zipfile.is_zipfile(file):
        return False
    with zipfile.ZipFile(file) as archive:
        return any(archive.read(name)[:2] in PROTOCOLS for name in archive.namelist())
