"""What can go wrong before a reply: sorts the client's own errors into outcomes."""

import ssl
from collections.abc import Iterator

import openai

from edgedistill.teacher.outcomes import Busy, Fatal
from edgedistill.teacher.parsing import Cause, Failure

_DEAF = {"ConnectError", "ConnectTimeout"}  # of httpx or httpx2, whichever the client was built with


def outcome_of_error(error: Exception, *, heard: bool) -> Busy | Fatal:
    """Sort an error of the client that is not an HTTP status into an outcome.

    Args:
        error: A time-out or a connection error.
        heard: Whether the endpoint has answered a request of this run.
    """
    causes = list(_causes(error))
    names = {type(cause).__name__ for cause in causes}
    told = " ".join(str(cause) for cause in causes)
    deaf = bool(names & _DEAF)
    if "CERTIFICATE_VERIFY_FAILED" in told:
        return Fatal("certificate", _reason(causes))
    if not heard and any(isinstance(cause, ssl.SSLError) for cause in causes):
        return Fatal("tls", _reason(causes))
    if "ProxyError" in names:
        return Busy(Failure(Cause.DROPPED, code="a proxy error"), deaf=not heard)
    if isinstance(error, TimeoutError | openai.APITimeoutError):
        return Busy(Failure(Cause.TIMED_OUT), unheard=not deaf, deaf=deaf)
    return Busy(Failure(Cause.DROPPED), unheard=not deaf, deaf=deaf)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _reason(causes: list[BaseException]) -> str:
    """Return what OpenSSL says, such as "certificate has expired"."""
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return cause.verify_message
    reasons = (cause.reason for cause in causes if isinstance(cause, ssl.SSLError))
    return (next(reasons, None) or "TLS failed").replace("_", " ").lower()
