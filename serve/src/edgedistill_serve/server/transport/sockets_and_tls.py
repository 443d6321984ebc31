"""The listening socket: TCP or Unix, with or without TLS."""

import contextlib
import ipaddress
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edgedistill_serve.errors import CannotListen
from edgedistill_serve.server.transport.certificate import Certificate

_BACKLOG = 2048
_RESERVED_FILES = 128
"""File descriptors that are reserved for purposes other than connections."""
_SOCKET_MODE = 0o660


@dataclass(frozen=True, slots=True)
class Address:
    """The address to listen on.

    Attributes:
        host: Name or IP address of this machine.
        port: Port; 0 selects a free one.
        uds: Unix socket, instead of host and port; its owner and group may connect.
        tls_cert: Certificate chain (PEM) for HTTPS; the server then accepts no plain HTTP.
        tls_key: Private key of the certificate (PEM).
    """

    host: str = "127.0.0.1"
    port: int = 8000
    uds: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None

    @property
    def is_local(self) -> bool:
        """Whether only this machine can connect."""
        if self.uds is not None or self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        return str(self.uds) if self.uds is not None else f"{self.host}:{self.port}"


def check_not_open(address: Address, *, has_keys: bool, is_open: bool) -> None:
    """Check that the server is not open to other machines by mistake.

    Raises:
        CannotListen: Other machines can connect, no keys are required, and ``is_open`` is false.
    """
    if not (has_keys or is_open or address.is_local):
        raise CannotListen(
            "other machines could connect to the server without an API key",
            where=str(address),
            hint="Add --keys FILE (see edgedistill-serve key new), or --open if this is intended.",
        )


def load_certificate(address: Address) -> Certificate | None:
    """Return the certificate, or None for HTTP.

    Raises:
        CannotListen: One of the two files is not set, or they are not a certificate and its key.
    """
    if address.tls_cert is None and address.tls_key is None:
        return None
    if address.tls_cert is None or address.tls_key is None:
        raise CannotListen("HTTPS requires a certificate and its key", hint="Set both --tls-cert and --tls-key.")
    return Certificate(address.tls_cert, address.tls_key)


@contextmanager
def open_listener(address: Address) -> Iterator[socket.socket]:
    """Open a listening socket; the file of a Unix socket is removed at the end.

    Raises:
        CannotListen: The address is in use or invalid.
    """
    try:
        listener = _tcp(address) if address.uds is None else _unix(address.uds)
    except (OSError, OverflowError, UnicodeError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise CannotListen(
            f"the server cannot listen on this address ({reason})",
            where=str(address),
            hint="Choose another --port, --host or --uds, or stop the process that uses it.",
        ) from None
    with listener:
        yield listener
    if address.uds is not None:
        with contextlib.suppress(OSError):
            address.uds.unlink()


def format_url(address: Address, listener: socket.socket) -> str:
    """Return the URL of the server."""
    scheme = "http" if address.tls_cert is None else "https"
    if address.uds is not None:
        return f"{scheme}+unix://{address.uds.absolute()}"
    host, port = listener.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def raise_connection_limit(connections: int) -> int:
    """Raise the limit of open files; return the possible number of connections, up to ``connections``."""
    try:
        import resource
    except ImportError:  # Windows, which has no such limit
        return connections
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    required = connections + _RESERVED_FILES
    allowed = required if hard == resource.RLIM_INFINITY else min(required, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
            soft = allowed
    return connections if soft == resource.RLIM_INFINITY else max(1, min(connections, soft - _RESERVED_FILES))


def _tcp(address: Address) -> socket.socket:
    family, kind, protocol, _, socket_address = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[
        0
    ]
    listener = socket.socket(family, kind, protocol)
    # On Windows, SO_REUSEADDR would let any other program listen on the same port.
    option = getattr(socket, "SO_EXCLUSIVEADDRUSE", socket.SO_REUSEADDR)
    listener.setsockopt(socket.SOL_SOCKET, option, 1)
    listener.bind(socket_address)
    # Clients that connect before the bundles are loaded wait instead of being refused.
    listener.listen(_BACKLOG)
    return listener


def _unix(path: Path) -> socket.socket:
    if not hasattr(socket, "AF_UNIX"):
        raise CannotListen("this system has no Unix sockets", where=str(path), hint="Use --host and --port.")
    if _is_stale(path):
        path.unlink()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    old_mask = os.umask(0o777 & ~_SOCKET_MODE)
    try:
        listener.bind(str(path))
    finally:
        os.umask(old_mask)
    listener.listen(_BACKLOG)
    return listener


def _is_stale(path: Path) -> bool:
    """Return whether the path is a socket of a killed server, on which no process listens."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            return False
    except OSError:
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
    return False
