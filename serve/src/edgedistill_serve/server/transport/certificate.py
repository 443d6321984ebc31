"""The TLS certificate of the server, which can be read again while connections are open."""

import ssl
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from edgedistill_serve.errors import CannotListen

_NO_CHECK_TIME = 0x200000
"""X509_V_FLAG_NO_CHECK_TIME of OpenSSL, which `ssl` does not name: also an expired certificate is described."""


@dataclass(frozen=True, slots=True)
class _Loaded:
    context: ssl.SSLContext
    starts: float | None
    expires: float | None


class Certificate:
    """A certificate chain and its key.

    The context of the listener stays the same. At each handshake it hands over to the context of the files that were
    read last, so that open connections are not affected, and no handshake sees a new certificate with an old key.

    Args:
        chain: File of the certificate chain (PEM).
        key: File of the private key (PEM), without a password.

    Attributes:
        context: The TLS context of the listener.

    Raises:
        CannotListen: The files are not a certificate and its key.
    """

    def __init__(self, chain: Path, key: Path) -> None:
        self._files = chain, key
        self._loaded = _load(chain, key)
        self.context = _new_context(chain, key)
        self.context.sni_callback = self._hand_over

    @property
    def expires(self) -> float | None:
        """Time at which the certificate expires, in seconds since 1970; None if it cannot be determined."""
        return self._loaded.expires

    @property
    def fault(self) -> str | None:
        """The reason why clients refuse the certificate today; None if there is none."""
        return _date_fault(self._loaded)

    def reload(self) -> None:
        """Read the files again, for new connections.

        Raises:
            CannotListen: The files are not a certificate and its key, or it has expired or is not valid yet. The
                previous certificate stays.
        """
        loaded = _load(*self._files)
        if (fault := _date_fault(loaded)) is not None:
            raise CannotListen(f"the new certificate cannot be used: {fault}", where=str(self._files[0]))
        self._loaded = loaded

    def _hand_over(self, connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:  # noqa: ARG002  # the interface of ssl
        connection.context = self._loaded.context


def format_time(seconds: float) -> str:
    """Return a time as text, in UTC: ``2026-11-30 11:46 UTC``."""
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))


def _date_fault(loaded: _Loaded) -> str | None:
    now = time.time()
    if loaded.expires is not None and loaded.expires <= now:
        return f"it expired on {format_time(loaded.expires)}"
    if loaded.starts is not None and loaded.starts > now:
        return f"it is not valid before {format_time(loaded.starts)}"
    return None


def _load(chain: Path, key: Path) -> _Loaded:
    context = _new_context(chain, key)
    dates = _read_dates(chain, context)
    return _Loaded(context, dates.get("notBefore"), dates.get("notAfter"))


def _new_context(chain: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        # Without this function, OpenSSL would prompt for the password of a key at the terminal.
        context.load_cert_chain(chain, key, password=lambda: "")
    except (OSError, ssl.SSLError, ValueError) as error:
        reason = error.reason if isinstance(error, ssl.SSLError) else getattr(error, "strerror", error)
        raise CannotListen(f"the certificate and its key cannot be used ({reason})", where=f"{chain}, {key}") from None
    return context


def _read_dates(chain: Path, server: ssl.SSLContext) -> dict[str, float]:
    """Return the dates of the first certificate of a chain, from a handshake in memory.

    The standard library decodes a certificate only for a client that has verified it.
    """
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    with suppress(OSError, ssl.SSLError, ValueError):
        client.load_verify_locations(cafile=chain)
        client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | _NO_CHECK_TIME
        ends = client.wrap_bio(to_client, to_server), server.wrap_bio(to_server, to_client, server_side=True)
        for _ in range(4):  # more turns than a handshake has
            for end in ends:
                with suppress(ssl.SSLWantReadError):
                    end.do_handshake()
        certificate = ends[0].getpeercert() or {}
        return {
            name: float(ssl.cert_time_to_seconds(str(certificate[name])))
            for name in ("notBefore", "notAfter")
            if name in certificate
        }
    return {}
