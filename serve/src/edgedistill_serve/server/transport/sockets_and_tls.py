"""Where the server listens: an address or a Unix socket, open or with keys, with TLS or without."""

import contextlib
import ipaddress
import os
import resource
import socket
import ssl
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edgedistill_serve.errors import CannotListen

_BACKLOG = 2048
_OTHER_FILES = 128
"""Descriptors that are left for everything that is no connection."""
_SOCKET_MODE = 0o660


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen.

    Attributes:
        host: A name or an address of this machine.
        port: 0 takes any free one.
        uds: A Unix socket instead of host and port; its owner and group may connect.
        tls_cert: Certificate chain (PEM); with it the server speaks HTTPS alone.
        tls_key: The certificate's private key (PEM).
    """

    host: str = "127.0.0.1"
    port: int = 8000
    uds: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None

    @property
    def is_local(self) -> bool:
        """Whether only this machine reaches it."""
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
        CannotListen: It would be.
    """
    if not (has_keys or is_open or address.is_local):
        raise CannotListen(
            "other machines could reach the server and no key is asked for",
            where=str(address),
            hint="Give it --keys FILE (see edgedistill-serve key new), or --open where that is meant.",
        )


def load_tls(address: Address) -> ssl.SSLContext | None:
    """Return what HTTPS needs, None for HTTP.

    Raises:
        CannotListen: One of the two files is not named, or they are no certificate and its key.
    """
    if address.tls_cert is None and address.tls_key is None:
        return None
    if address.tls_cert is None or address.tls_key is None:
        raise CannotListen("HTTPS needs a certificate and its key", hint="Give both --tls-cert and --tls-key.")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        # A key with a password would make OpenSSL ask for it at the terminal.
        context.load_cert_chain(address.tls_cert, address.tls_key, password=lambda: "")
    except (OSError, ssl.SSLError, ValueError) as error:
        why = error.reason if isinstance(error, ssl.SSLError) else getattr(error, "strerror", error)
        raise CannotListen(
            f"the certificate and its key cannot be used ({why})", where=f"{address.tls_cert}, {address.tls_key}"
        ) from None
    return context


@contextmanager
def open_listener(address: Address) -> Iterator[socket.socket]:
    """Listen; a Unix socket's file is removed at the end.

    Raises:
        CannotListen: The address is taken, or cannot be had.
    """
    try:
        listener = _tcp(address) if address.uds is None else _unix(address.uds)
    except (OSError, OverflowError, UnicodeError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise CannotListen(
            f"the server cannot listen here ({why})",
            where=str(address),
            hint="Choose another --port, --host or --uds, or stop what listens there.",
        ) from None
    with listener:
        yield listener
    if address.uds is not None:
        with contextlib.suppress(OSError):
            address.uds.unlink()


def format_url(address: Address, listener: socket.socket) -> str:
    """Return the server's address as a client writes it."""
    scheme = "http" if address.tls_cert is None else "https"
    if address.uds is not None:
        return f"{scheme}+unix://{address.uds.absolute()}"
    host, port = listener.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def raise_connection_limit(connections: int) -> int:
    """Return how many connections this process may have open, at most ``connections``; the system's limit is raised."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + _OTHER_FILES
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
            soft = allowed
    return connections if soft == resource.RLIM_INFINITY else max(1, min(connections, soft - _OTHER_FILES))


def _tcp(address: Address) -> socket.socket:
    family, kind, protocol, _, place = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(place)
    # A client that comes before the bundles are loaded waits a moment instead of being turned away.
    listener.listen(_BACKLOG)
    return listener


def _unix(path: Path) -> socket.socket:
    if _is_left_over(path):
        path.unlink()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o777 & ~_SOCKET_MODE)
    try:
        listener.bind(str(path))
    finally:
        os.umask(before)
    listener.listen(_BACKLOG)
    return listener


def _is_left_over(path: Path) -> bool:
    """Whether a server that was killed left its socket there: nobody listens at it."""
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
