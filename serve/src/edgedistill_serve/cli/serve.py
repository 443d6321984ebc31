"""The commands `serve`, with every limit as an option, and `key new`."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec

from edgedistill_serve.cli.terminal import JSON, THREADS, write
from edgedistill_serve.scoring.score_cache import ENTRIES
from edgedistill_serve.server.limits import Limits
from edgedistill_serve.server.middleware.key_file import new_key

_Command = TypeVar("_Command", bound=Callable[..., Any])
_DEFAULTS = Limits()
_LIMITS = {
    "body_bytes": ("--max-body-bytes", "Longest body of a request, and longest line of a bulk request."),
    "body_memory": ("--body-memory", "Most bytes of bodies in memory, over all requests, less 16 KiB of each."),
    "text_characters": ("--max-text", "Most characters of a response, a question or a reference answer."),
    "items": ("--max-items", "Most responses in one request."),
    "queue": ("--queue", "Most responses that wait, over all requests."),
    "bulk_rows": ("--bulk-rows", "Most rows of one bulk request that wait."),
    "header_bytes": ("--max-header-bytes", "Longest head of a request."),
    "headers": ("--max-headers", "Most headers of a request."),
    "connections": ("--max-connections", "Most open connections; the longest idle one makes room."),
    "header_seconds": ("--header-seconds", "Time for a request's head to arrive."),
    "body_seconds": ("--body-seconds", "Time for a request's body, or a line of a bulk request, to arrive."),
    "answer_seconds": ("--answer-seconds", "Time within which a request is scored, or refused."),
    "idle_seconds": ("--idle-seconds", "Time that a connection without a request is kept open."),
    "stall_seconds": ("--stall-seconds", "Time after which a client that reads nothing is left."),
    "key_rate": ("--key-rate", "Requests a second with one key; 0 is any number."),
}
"""Every field of `Limits`, with its option and what that says."""


def _option(flag: str, *names: str, **settings: Any) -> Callable[[_Command], _Command]:
    """Return an option that an environment variable can set too, named for it."""
    variable = f"EDGEDISTILL_SERVE_{flag.removeprefix('--').replace('-', '_').upper()}"
    return click.option(flag, *names, envvar=variable, show_envvar=True, **settings)


def _limits(command: _Command) -> _Command:
    for field, (flag, said) in reversed(_LIMITS.items()):
        default = getattr(_DEFAULTS, field)
        kind: click.ParamType[Any] = click.IntRange(min=0 if field == "key_rate" else 1)
        if isinstance(default, float):
            kind = click.FloatRange(min=0, min_open=True)
        command = _option(flag, type=kind, default=default, show_default=True, help=said)(command)
    return command


@click.command(
    epilog="Example: edgedistill-serve serve bundle --port 8000",
    context_settings={"max_content_width": 120},
)
@click.argument("bundles", metavar="BUNDLE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@_option("--host", default="127.0.0.1", show_default=True, help="Address to listen at; 0.0.0.0 lets other machines in.")
@_option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    help="Port to listen at; 0 takes a free one.",
)
@_option("--uds", type=click.Path(path_type=Path), help="Unix socket to listen at, instead of address and port.")
@_option("--tls-cert", type=click.Path(path_type=Path), help="Certificate chain (PEM) for HTTPS.")
@_option("--tls-key", type=click.Path(path_type=Path), help="Its private key (PEM).")
@_option("--keys", "key_file", type=click.Path(path_type=Path), help="File of API keys' hashes; SIGHUP reads it again.")
@_option("--open", "is_open", is_flag=True, help="Let other machines in without a key.")
@_option("--allow-origin", "origins", multiple=True, metavar="ORIGIN", help="Web page that may ask (CORS); repeatable.")
@_option("--default-model", metavar="NAME", help="The model that a request means that names none.")
@_option(
    "--recent",
    type=click.IntRange(min=0),
    default=ENTRIES,
    show_default=True,
    help="Last scores of each model that are remembered; 0 is none.",
)
@_option("--public-key", type=click.Path(path_type=Path), help="Key (PEM) that every bundle must be signed with.")
@_option("--watch", "watched", is_flag=True, help="Let a new bundle take over when it appears in its folder.")
@_limits
@THREADS
@JSON
def serve(bundles: tuple[Path, ...], **given: Any) -> None:
    """Serve each BUNDLE over HTTP until SIGTERM or Ctrl-C, which drain it.

    Without --keys the server is open to whoever reaches it, so it then listens to this machine only, unless --open.
    """
    from edgedistill_serve.server.process import serve as serve_bundles
    from edgedistill_serve.server.transport.sockets_and_tls import Address

    limits = Limits(**{field: given[flag.removeprefix("--").replace("-", "_")] for field, (flag, _) in _LIMITS.items()})
    if limits.queue < limits.items:
        raise click.BadParameter(f"--queue {limits.queue} has no room for --max-items {limits.items}")
    if limits.body_memory < limits.body_bytes:
        raise click.BadParameter(
            f"--body-memory {limits.body_memory} has no room for --max-body-bytes {limits.body_bytes}"
        )
    as_json = given["json"]
    _log_requests(as_json=as_json)
    serve_bundles(
        bundles,
        Address(given["host"], given["port"], given["uds"], given["tls_cert"], given["tls_key"]),
        limits=limits,
        key_file=given["key_file"],
        is_open=given["is_open"],
        origins=given["origins"],
        threads=given["threads"],
        default_model=given["default_model"],
        watched=given["watched"],
        score_cache=given["recent"],
        public_key=given["public_key"],
        listening=lambda url: write({"event": "listening", "url": url} if as_json else f"listening on {url}"),
    )


@click.group(no_args_is_help=True)
def key() -> None:
    """Make keys for `serve --keys`."""


@key.command(epilog="Example: edgedistill-serve key new classroom-3")
@click.argument("name")
@JSON
def new(name: str, *, json: bool) -> None:
    """Make a key called NAME: it is printed once, with the line that belongs into the key file."""
    made = new_key(name)
    if json:
        write({"name": name, "key": made.key, "line": made.entry.line()})
        return
    write(f"key (shown this once): {made.key}")
    write(f"line for the key file: {made.entry.line()}")


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {"time": self.formatTime(record), "level": record.levelname.lower(), "message": record.getMessage()}
        return msgspec.json.encode(line).decode()


def _log_requests(*, as_json: bool) -> None:
    (handler,) = logging.getLogger().handlers
    handler.setFormatter(_JsonLines() if as_json else logging.Formatter("%(asctime)s %(message)s"))
    logging.getLogger("edgedistill_serve").setLevel(logging.INFO)
