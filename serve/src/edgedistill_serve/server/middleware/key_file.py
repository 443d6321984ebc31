"""API keys: a file of hashes, checked in constant time and read again on SIGHUP.

A line of the file is `NAME:HASH`, HASH being the SHA-256 of the key in hexadecimal; blank lines and lines that begin
with `#` are left out. A key has 256 random bits, so that one round of SHA-256 is enough: it cannot be guessed.
"""

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from pathlib import Path

from edgedistill_serve.errors import KeyFileError

_LINE = re.compile(r"([A-Za-z0-9._-]{1,64}):([0-9a-f]{64})")
_PREFIX = "eds_"
_LARGEST_FILE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class KeyEntry:
    """One key that is accepted.

    Attributes:
        name: Tells the keys of the file apart; no part of the key.
        hash: SHA-256 of the key, 64 hexadecimal digits.
    """

    name: str
    hash: str

    def line(self) -> str:
        """Return the entry as a line of a key file."""
        return f"{self.name}:{self.hash}"


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that was just made, to be shown once, and its entry."""

    key: str
    entry: KeyEntry


def new_key(name: str) -> NewKey:
    """Make a key.

    Args:
        name: Letters, digits, ``.``, ``_`` and ``-``, at most 64.

    Raises:
        KeyFileError: The name is another.
    """
    key = f"{_PREFIX}{secrets.token_urlsafe(32)}"
    entry = KeyEntry(name, hash_of(key))
    if not _LINE.fullmatch(entry.line()):
        raise KeyFileError(
            "a key's name has 1 to 64 letters, digits, dots, dashes and underscores", hint="Choose another name."
        )
    return NewKey(key, entry)


def hash_of(key: str) -> str:
    """Return the SHA-256 of a key, in hexadecimal."""
    return hashlib.sha256(key.encode(errors="surrogatepass")).hexdigest()


def read_keys(path: Path) -> tuple[KeyEntry, ...]:
    """Read a key file.

    Raises:
        KeyFileError: It cannot be read, a line is no entry, two entries have one name, or there is none.
    """
    try:
        with path.open(encoding="utf-8") as file:
            lines = file.read(_LARGEST_FILE).splitlines()
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no UTF-8"
        raise KeyFileError(f"the key file cannot be read ({why})", where=str(path)) from None
    entries: dict[str, KeyEntry] = {}
    for number, line in enumerate(lines, start=1):
        if line.strip() and not line.startswith("#"):
            entry = _entry(line.strip(), f"{path}, line {number}")
            if entry.name in entries:
                raise KeyFileError("another line has this name", where=f"{path}, line {number}")
            entries[entry.name] = entry
    if not entries:
        raise KeyFileError("there is no key in the file", where=str(path), hint="Make one: edgedistill-serve key new.")
    return tuple(entries.values())


def matching(key: str, entries: tuple[KeyEntry, ...]) -> KeyEntry | None:
    """Return the entry of a key, after the same work whichever it is."""
    given = hash_of(key)
    found = None
    for entry in entries:
        if hmac.compare_digest(entry.hash, given):
            found = entry
    return found


def _entry(line: str, where: str) -> KeyEntry:
    parts = _LINE.fullmatch(line)
    if parts is None:
        # The line is not shown: somebody may have written a key where its hash belongs.
        raise KeyFileError("the line is no NAME:HASH", where=where, hint="edgedistill-serve key new prints such lines.")
    return KeyEntry(parts[1], parts[2])
