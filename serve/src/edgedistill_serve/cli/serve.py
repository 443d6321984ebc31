"""The commands `serve`, with an option for every limit, and `key new`."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from edgedistill_serve.bounds import SHARE, WORKERS, Bounds
from edgedistill_serve.cli.terminal import JSON, THREADS, write
from edgedistill_serve.scoring.score_cache import ENTRIES
from edgedistill_serve.server.limits import LIMIT_BOUNDS, Limits

_Command = TypeVar("_Command", bound=Callable[..., Any])
_DEFAULTS = Limits()
_LIMITS = {
    "body_bytes": ("--max-body-bytes", "Largest body of a request, and largest line of a bulk request, in bytes."),
    "body_memory": (
        "--body-memory",
        "Largest memory for request bodies, in bytes, beyond 16 KiB each.",
    ),
    "text_characters": ("--max-text", "Largest number of characters of a response, question or reference answer."),
    "items": ("--max-items", "Largest number of responses in one request."),
    "queue": ("--queue", "Largest number of responses that wait or are scored, over all requests."),
    "bulk_rows": ("--bulk-rows", "Largest number of waiting rows of one bulk request."),
    "header_bytes": ("--max-header-bytes", "Largest head of a request, in bytes."),
    "headers": ("--max-headers", "Largest number of headers of a request."),
    "connections": (
        "--max-connections",
        "Largest number of connections; the longest idle one is closed.",
    ),
    "header_seconds": ("--header-seconds", "Time limit in seconds for the head of a request."),
    "body_seconds": ("--body-seconds", "Time limit in seconds for a body or a line of a bulk request."),
    "answer_seconds": ("--answer-seconds", "Time limit in seconds for scoring a request."),
    "idle_seconds": ("--idle-seconds", "Time in seconds after which an idle connection is closed."),
    "stall_seconds": ("--stall-seconds", "Time in seconds after which a client that does not read is disconnected."),
    "drain_seconds": (
        "--drain-seconds",
        "Time limit in seconds from SIGTERM to the end of the process; responses not scored by then get no answer.",
    ),
    "key_rate": ("--key-rate", "Largest number of requests per second with one key; 0 for no limit."),
}
"""Option and help text of every field of `Limits`."""


def _option(flag: str, *names: str, **settings: Any) -> Callable[[_Command], _Command]:
    """Return an option that can also be set by an environment variable."""
    variable = f"EDGEDISTILL_SERVE_{flag.removeprefix('--').replace('-', '_').upper()}"
    return click.option(flag, *names, envvar=variable, show_envvar=True, **settings)


def _check_hosts(hosts: tuple[str, ...]) -> tuple[str, ...]:
    for host in hosts:
        if host != "*" and not re.fullmatch(r"[A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\]", host):
            raise click.BadParameter(f"{host!r} is not a host without scheme and port, such as scores.school.example")
    return hosts


def _check_origins(origins: tuple[str, ...]) -> tuple[str, ...]:
    for origin in origins:
        if origin not in ("*", "null") and not re.fullmatch(r"[a-z][a-z0-9+.-]*://[^\s/?#@A-Z]+", origin):
            raise click.BadParameter(
                f"{origin!r} is not an origin as browsers send it: scheme, host in lower case and port, without a path "
                "or a final slash, such as https://school.example or http://localhost:5173"
            )
    return origins


class _Number(click.ParamType[Any]):
    """A number within bounds; unlike click's ranges, it refuses NaN."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self.name = "integer" if bounds.whole else "float"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            number = int(value) if self._bounds.whole else float(value)
        except ValueError:
            self.fail(f"{value!r} is not {self._bounds}.", param, ctx)
        if number not in self._bounds:
            self.fail(f"{value} is not {self._bounds}.", param, ctx)
        return number


def _limits(command: _Command) -> _Command:
    for field, (flag, description) in reversed(_LIMITS.items()):
        default = getattr(_DEFAULTS, field)
        command = _option(
            flag, type=_Number(LIMIT_BOUNDS[field]), default=default, show_default=True, help=description
        )(command)
    return command


@click.command(
    epilog="Example: edgedistill-serve serve bundle --port 8000",
    context_settings={"max_content_width": 120},
)
@click.argument("bundles", metavar="BUNDLE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@_option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 accepts other machines.")
@_option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    help="Port to listen on; 0 selects a free one.",
)
@_option("--uds", type=click.Path(path_type=Path), help="Unix socket to listen on, instead of address and port.")
@_option("--tls-cert", type=click.Path(path_type=Path), help="Certificate chain (PEM) for HTTPS; SIGHUP reloads it.")
@_option("--tls-key", type=click.Path(path_type=Path), help="Private key of the certificate (PEM).")
@_option("--keys", "key_file", type=click.Path(path_type=Path), help="File with hashes of API keys; SIGHUP reloads it.")
@_option("--open", "is_open", is_flag=True, help="Accept other machines without an API key.")
@_option(
    "--allow-origin",
    "origins",
    multiple=True,
    metavar="ORIGIN",
    callback=lambda _, __, origins: _check_origins(origins),
    help="Origin of a web page that may send requests (CORS); repeatable.",
)
@_option(
    "--allow-host",
    "hosts",
    multiple=True,
    metavar="HOST",
    callback=lambda _, __, hosts: _check_hosts(hosts),
    help="Accepted name in the Host header, without port; repeatable; * for any. By default localhost, 127.0.0.1 and "
    "[::1] on a loopback address, else any.",
)
@_option("--default-model", metavar="NAME", help="Model for requests that name none.")
@_option(
    "--recent",
    type=click.IntRange(min=0),
    default=ENTRIES,
    show_default=True,
    help="Number of recent scores of each model to keep for repeated texts; 0 for none.",
)
@_option("--public-key", type=click.Path(path_type=Path), help="Public key (PEM) with which bundles must be signed.")
@_option("--journal", type=click.Path(path_type=Path), help="Folder for counts of the scores, without texts.")
@_option(
    "--audit-share",
    type=_Number(SHARE),
    default=0.0,
    show_default=True,
    help="Share of the responses' ids that the journal has, drawn at random for people to code.",
)
@_option("--watch", "watched", is_flag=True, help="Serve new bundles as soon as they appear in a folder.")
@_option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    help="Format of the log on stderr; by default, text, and JSON with --json.",
)
@_option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
    help="Lowest level of the log; debug adds the requests of health checks and of /metrics.",
)
@_option(
    "--otel",
    is_flag=True,
    help="Send traces with OpenTelemetry, as the variables OTEL_… say; at least OTEL_EXPORTER_OTLP_ENDPOINT.",
)
@_limits
@_option(
    "--workers",
    type=_Number(WORKERS),
    help="Number of processes, which share the address; by default, one for every four available cores, or one with "
    "--threads. The limits except --key-rate, --threads and --recent apply to each of them.",
)
@THREADS
@JSON
def serve(bundles: tuple[Path, ...], **options: Any) -> None:
    """Serve each BUNDLE over HTTP until SIGTERM or Ctrl-C, which drain the server.

    Without --keys, the server accepts requests from this machine only, unless --open is set.
    """
    from edgedistill_serve.server.log_lines import LogFormat, configure_log
    from edgedistill_serve.server.process import ServerSettings, plan_processes
    from edgedistill_serve.server.process import serve as serve_bundles
    from edgedistill_serve.server.transport.sockets_and_tls import Address

    limits = Limits(
        **{field: options[flag.removeprefix("--").replace("-", "_")] for field, (flag, _) in _LIMITS.items()}
    )
    if limits.queue < limits.items:
        raise click.BadParameter(f"--queue {limits.queue} is smaller than --max-items {limits.items}")
    if limits.body_memory < limits.body_bytes:
        raise click.BadParameter(
            f"--body-memory {limits.body_memory} is smaller than --max-body-bytes {limits.body_bytes}"
        )
    if options["audit_share"] and options["journal"] is None:
        raise click.BadParameter("--audit-share needs --journal")
    as_json = options["json"]
    log_format: LogFormat = options["log_format"] or ("json" if as_json else "text")
    configure_log(log_format, options["log_level"])
    workers, threads = plan_processes(options["workers"], options["threads"])
    settings = ServerSettings(
        bundles=bundles,
        address=Address(options["host"], options["port"], options["uds"], options["tls_cert"], options["tls_key"]),
        limits=limits,
        key_file=options["key_file"],
        is_open=options["is_open"],
        origins=options["origins"],
        hosts=options["hosts"],
        threads=threads,
        default_model=options["default_model"],
        watched=options["watched"],
        score_cache=options["recent"],
        public_key=options["public_key"],
        otel=options["otel"],
        journal=options["journal"],
        audit_share=options["audit_share"],
        log_format=log_format,
        log_level=options["log_level"],
    )

    def on_listening(url: str) -> None:
        write({"event": "listening", "url": url} if as_json else f"listening on {url}")

    if workers == 1:
        serve_bundles(settings, on_listening=on_listening)
        return
    from edgedistill_serve.server.workers.supervisor import serve as serve_by_workers

    serve_by_workers(settings, workers, on_listening=on_listening)


@click.group(no_args_is_help=True)
def key() -> None:
    """Create API keys for `serve --keys`."""


@key.command(epilog="Example: edgedistill-serve key new classroom-3 >> keys")
@click.argument("name")
@JSON
def new(name: str, *, json: bool) -> None:
    """Create an API key called NAME.

    The line for the key file goes to stdout, so that it can be appended: key new NAME >> keys. The key itself is shown
    once, on stderr; with --json, both go to stdout.
    """
    from edgedistill_serve.server.middleware.api_keys import create_key

    created = create_key(name)
    if json:
        write({"name": name, "key": created.key, "line": created.entry.line()})
        return
    click.echo(f"The key, shown only once: {created.key}", err=True)
    write(created.entry.line())
