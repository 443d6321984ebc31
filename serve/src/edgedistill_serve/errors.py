"""The errors of scoring and serving; each message has the problem, the place and a hint.

    EdgeDistillError                  root of every error that EdgeDistill raises
    ├── DataError                     an input file or a row of it cannot be used
    ├── BundleError                   a folder is not a supported bundle
    │   ├── BundleDamaged             a file is missing, was changed, or is outside the folder
    │   ├── SelfCheckFailed           this machine does not reproduce the bundle's golden scores
    │   └── SignatureRefused          the bundle is not signed, or not with the given key
    ├── SigningKeyError               a signing key cannot be used, or other users can read or change it
    ├── RuntimeMissing                no build or both builds of onnxruntime are installed
    ├── ScoringFailed                 one response could not be scored; others are not affected
    ├── CannotListen                  the server's address is in use or invalid, or would be open by mistake
    ├── WorkerEnded                   a process of a server of several ended at its start, or did not drain
    ├── TracingUnavailable            OpenTelemetry is not installed or not configured, or does not accept traces
    ├── KeyFileError                  a file of API keys cannot be used
    └── RequestError                  the server does not answer a request with scores
        ├── KeyMissing                no API key, or one that is not accepted
        ├── NotJson                   the body is not valid JSON
        ├── WrongShape                the body does not match the schema
        ├── HostNotAllowed            the Host header does not name this server
        ├── EncodingNotSupported      the body is compressed
        ├── UnknownModel              the model is not served
        ├── RequestTooLarge           too many bytes or responses in one request
        ├── TooSlow                   the body does not arrive in time
        ├── TooMany                   too many requests with one key
        ├── QueueFull                 too many requests are waiting
        ├── DeadlinePassed            the request's time limit ended before it was scored
        └── NotReady                  the server is starting or draining

`edgedistill_export.errors` and `edgedistill.errors` add their own branches to the same root.
"""

from typing import Self


class EdgeDistillError(Exception):
    """Root of the error tree.

    Args:
        what: The problem, without a final period.
        where: File, row, key or address, such as ``human.csv, row 7``.
        hint: How to fix the problem, as a sentence.
    """

    exit_code = 2
    """Exit code of a command that ends with this error."""

    def __init__(self, what: str, *, where: str | None = None, hint: str | None = None) -> None:
        self.what, self.where, self.hint = what, where, hint
        message = ": ".join(part for part in (where, what) if part)
        super().__init__(f"{message}{' ' if message.endswith('?') else '. '}{hint}" if hint else message)

    def unraised_copy(self) -> Self:
        """Return an equal error without traceback.

        The traceback of a raised error refers to its frames and the texts in them. Stored in one of these frames, the
        error would be part of a reference cycle and keep the texts in memory until the next garbage collection.
        """
        return type(self)(self.what, where=self.where, hint=self.hint)


class DataError(EdgeDistillError):
    """An input file, or a row of it, cannot be used."""


class BundleError(EdgeDistillError):
    """A folder is not a bundle, or not of a supported version."""


class BundleDamaged(BundleError):
    """A file of a bundle is missing, was changed, or is outside its folder."""


class SelfCheckFailed(BundleError):
    """This machine does not reproduce the golden scores of the bundle."""


class SignatureRefused(BundleError):
    """A bundle is not signed, or not with the given key."""


class SigningKeyError(EdgeDistillError):
    """A signing key cannot be read or written, or other users can read or change it."""


class RuntimeMissing(EdgeDistillError):
    """onnxruntime is not installed, or both of its builds are."""


class ScoringFailed(EdgeDistillError):
    """One response could not be scored."""

    exit_code = 1


class CannotListen(EdgeDistillError):
    """The server's address is in use or invalid, or would be open to other machines by mistake."""


class WorkerEnded(EdgeDistillError):
    """A process of a server of several ended before it had loaded the bundles, or did not drain in time."""

    exit_code = 1


class TracingUnavailable(EdgeDistillError):
    """Traces were requested, and OpenTelemetry is not installed or not configured, or does not accept them."""


class KeyFileError(EdgeDistillError):
    """A file of API keys, or a line of it, cannot be used."""


class RequestError(EdgeDistillError):
    """The server does not answer a request with scores."""


class KeyMissing(RequestError):
    """A request has no API key, or one that is not accepted."""


class NotJson(RequestError):
    """The body of a request is not valid JSON."""


class WrongShape(RequestError):
    """The body of a request does not match the schema."""


class HostNotAllowed(RequestError):
    """The Host header of a request does not name this server."""


class EncodingNotSupported(RequestError):
    """The body of a request has a Content-Encoding."""


class UnknownModel(RequestError):
    """A request names a model that is not served."""


class RequestTooLarge(RequestError):
    """A request has too many bytes or responses."""


class TooSlow(RequestError):
    """The body of a request does not arrive in time."""


class TooMany(RequestError):
    """Too many requests arrive with one key."""


class QueueFull(RequestError):
    """Too many responses, or too many bytes, are waiting."""


class DeadlinePassed(RequestError):
    """The time limit of a request ended before all of its responses were scored."""


class NotReady(RequestError):
    """The server is starting or draining."""


def first_line(error: BaseException) -> str:
    """Return the first line with a text of another package's error, for a message; without one, the error's type."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
