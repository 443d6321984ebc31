"""The log of the server on stderr: one line per event, as text or as JSON, without texts, ids and keys.

Each record has an event and fields: ``_log.error("…", extra={"event": "fault", "fields": {"part": part}})``. Records of
other libraries have the event ``log`` and their logger's name.
"""

import logging
import time
import traceback
from typing import Any, Literal, TextIO, TypeAlias

import msgspec
from starlette.types import Scope

from edgedistill_serve.bundle.validation import printable

LogFormat: TypeAlias = Literal["text", "json"]
LogLevel: TypeAlias = Literal["debug", "info", "warning", "error"]
LOG_FIELDS = "log_fields"
"""Key of the ASGI scope with fields for the line of the request."""


class LogHandler(logging.StreamHandler[TextIO]):
    """Writes the log to stderr, and counts the lines that cannot be written.

    Attributes:
        lost: Number of lines that could not be written.
    """

    def __init__(self) -> None:
        super().__init__()
        self.lost = 0

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002, N802  # logging's interface
        """Count a line that could not be written; stderr cannot take a message about it."""
        self.lost += 1


def lost_log_lines() -> int:
    """Return the number of log lines of this process that could not be written."""
    return sum(handler.lost for handler in logging.getLogger().handlers if isinstance(handler, LogHandler))


def configure_log(log_format: LogFormat, level: LogLevel) -> None:
    """Write the log of this process to stderr.

    Args:
        log_format: ``json`` writes an object a line.
        level: Lowest level of the server's records. Records of other libraries are written from ``warning`` on.
    """
    handler = LogHandler()
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    logging.getLogger().handlers = [handler]
    logging.getLogger("edgedistill_serve").setLevel(level.upper())


def add_log_fields(scope: Scope, **fields: str | int) -> None:
    """Add fields to the log line of a request."""
    scope.setdefault(LOG_FIELDS, {}).update(fields)


def describe_frames(error: BaseException) -> str:
    """Return the functions and lines in which an error was raised, the innermost first, without any value."""
    frames = reversed(traceback.extract_tb(error.__traceback__))
    return " < ".join(f"{frame.name} {frame.filename}:{frame.lineno}" for frame in frames)


class RequestLine(dict[str, Any]):
    """The fields of a request's log line; as a string, the line of the text format."""

    def __str__(self) -> str:
        fields = self.copy()
        parts = [fields.pop(name) for name in ("method", "route", "status")]
        parts.append(f"{1000 * fields.pop('duration'):.1f} ms")
        if "model" in fields:
            rows = fields.pop("rows")
            parts.append(f"{fields.pop('model')}@{fields.pop('version')} {rows} row{'' if rows == 1 else 's'}")
        return " ".join(map(str, [*parts, *fields.values()]))


class TextFormatter(logging.Formatter):
    """Lines for people: time, level and message."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # logging's interface
        """Return the line, its control characters escaped."""
        return printable(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802  # logging's interface
        """Return type and place of an exception. Its message may contain texts."""
        return f"{ei[0].__name__} at {describe_frames(ei[1])}"


class JsonFormatter(logging.Formatter):
    """An object a line: ``time`` (RFC 3339, UTC), ``level``, ``event`` and the fields of the event."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {
            "time": f"{seconds}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "event": getattr(record, "event", "log"),
        }
        if not isinstance(record.msg, RequestLine):
            line["message"] = record.getMessage()
        line |= getattr(record, "fields", None) or {"logger": record.name}
        if record.exc_info and record.exc_info[1] is not None:
            line |= {"error": type(record.exc_info[1]).__name__, "frames": describe_frames(record.exc_info[1])}
        return msgspec.json.encode(line).decode()
