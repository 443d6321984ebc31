"""What can go wrong while scoring, each with the place and the fix.

    EdgeDistillError                  root of every error that EdgeDistill raises on purpose
    ├── DataError                     an input file or row that cannot be used
    ├── BundleError                   a folder that is no readable bundle
    │   ├── BundleDamaged             a file is missing, changed, or outside the folder
    │   ├── SelfCheckFailed           this CPU does not reproduce the bundle's golden scores
    │   └── SignatureRefused          it is not signed, or not with the key that was given
    ├── SigningKeyError               a key for signatures cannot be used, or others can read or change it
    ├── RuntimeMissing                onnxruntime is absent, or there twice
    ├── ScoringFailed                 one response could not be scored; the others are not touched
    ├── CannotListen                  the server's address is taken, cannot be had, or would be open by mistake
    ├── KeyFileError                  a file of API keys cannot be used
    └── RequestError                  a request to the server that is not answered with scores
        ├── KeyMissing                it has no API key, or one that is not accepted
        ├── NotJson                   its body is no JSON
        ├── WrongShape                its body is none of the forms
        ├── UnknownModel              it names a model that is not served
        ├── RequestTooLarge           it has more bytes or responses than are taken at once
        ├── TooSlow                   its body does not arrive in time
        ├── TooMany                   more requests come with its key than are taken
        ├── QueueFull                 too much is waiting already
        ├── DeadlinePassed            its time was over before a response's turn came
        └── NotReady                  the server is starting or draining

`edgedistill_export.errors` and `edgedistill.errors` add their own branches to the same root.
"""

from typing import Self


class EdgeDistillError(Exception):
    """Root of the tree: what happened, where, and what fixes it.

    Args:
        what: One plain sentence part, no full stop at its end.
        where: File, row, key or address, such as ``human.csv, row 7``.
        hint: What the reader can do about it.
    """

    exit_code = 2
    """The process exit code of a command that ends with this error."""

    def __init__(self, what: str, *, where: str | None = None, hint: str | None = None) -> None:
        self.what, self.where, self.hint = what, where, hint
        told = ": ".join(part for part in (where, what) if part)
        super().__init__(f"{told}{' ' if told.endswith('?') else '. '}{hint}" if hint else told)

    def unraised_copy(self) -> Self:
        """Return an equal error that was not raised yet.

        One that was raised holds the frames that it passed, with the texts in them; kept in one of these frames, it
        would hold them until a collection of garbage.
        """
        return type(self)(self.what, where=self.where, hint=self.hint)


class DataError(EdgeDistillError):
    """An input file, or a row of one, cannot be used."""


class BundleError(EdgeDistillError):
    """A folder is no bundle that this version can read."""


class BundleDamaged(BundleError):
    """A bundle's file is missing, was changed, or lies outside its folder."""


class SelfCheckFailed(BundleError):
    """This CPU does not reproduce the scores that the bundle was checked with."""


class SignatureRefused(BundleError):
    """A bundle is not signed, or not with the key that was given."""


class SigningKeyError(EdgeDistillError):
    """A key for signatures cannot be read or written, or others can read or change it."""


class RuntimeMissing(EdgeDistillError):
    """onnxruntime is not installed, or both of its builds are."""


class ScoringFailed(EdgeDistillError):
    """One response could not be scored."""

    exit_code = 1


class CannotListen(EdgeDistillError):
    """The server's address is taken, cannot be had, or would be open by mistake."""


class KeyFileError(EdgeDistillError):
    """A file of API keys, or a line of one, cannot be used."""


class RequestError(EdgeDistillError):
    """A request to the server is not answered with scores."""


class KeyMissing(RequestError):
    """A request has no API key, or one that is not accepted."""


class NotJson(RequestError):
    """The body of a request is no JSON."""


class WrongShape(RequestError):
    """The body of a request is none of the forms."""


class UnknownModel(RequestError):
    """A request names a model that is not served."""


class RequestTooLarge(RequestError):
    """A request has more bytes or responses than are taken at once."""


class TooSlow(RequestError):
    """The body of a request does not arrive in time."""


class TooMany(RequestError):
    """More requests come with one key than are taken."""


class QueueFull(RequestError):
    """Too many responses are waiting already, or too many bytes of them."""


class DeadlinePassed(RequestError):
    """A request's time was over before the turn of one of its responses came."""


class NotReady(RequestError):
    """The server is starting or draining."""
