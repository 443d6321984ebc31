"""The file that a search is kept in: SQLite, through Optuna, whose values and attributes are JSON and no pickles."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import optuna
from optuna.storages import BaseStorage, InMemoryStorage, RDBStorage
from sqlalchemy.exc import SQLAlchemyError

from edgedistill.errors import SearchBrokenOff

STORE = "search.sqlite3"
_BUSY_SECONDS = 60


def open_store(folder: Path | None) -> BaseStorage:
    """Open the file in a folder, made if it is not there; without a folder, keep the search in memory.

    Raises:
        SearchBrokenOff: The file is none of Optuna's, or cannot be written.
    """
    if folder is None:
        return InMemoryStorage()
    file = folder / STORE

    def connect() -> sqlite3.Connection:
        return sqlite3.connect(file, timeout=_BUSY_SECONDS, check_same_thread=False)

    with stored(file):
        # Connected to by hand, for Optuna and SQLAlchemy read braces and question marks of a path as their own.
        return RDBStorage("sqlite:///" + STORE, engine_kwargs={"creator": connect})


@contextmanager
def stored(place: Path) -> Iterator[None]:
    """Run the block; where the store fails in it, say so in our words.

    Raises:
        SearchBrokenOff: It cannot be read or written.
    """
    try:
        yield
    except (optuna.exceptions.OptunaError, SQLAlchemyError, sqlite3.Error, OSError) as error:
        reason = (str(error.__cause__ or error).splitlines() or [type(error).__name__])[0]
        raise SearchBrokenOff(
            f"the search cannot be kept ({reason})",
            where=str(place),
            mend=f"Make room there and give write permission; where {STORE} is damaged, delete it.",
        ) from error


@contextmanager
def optuna_quiet() -> Iterator[None]:
    """Run the block with Optuna at its error level, which comes back afterwards."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(level)
