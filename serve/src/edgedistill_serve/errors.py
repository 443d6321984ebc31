"""What can go wrong while scoring, each with the place and the mend.

    EdgeDistillError                  root of every error that EdgeDistill raises on purpose
    ├── DataError                     an input file or row that cannot be used
    ├── BundleError                   a folder that is no readable bundle
    │   ├── BundleDamaged             a file is missing, changed, or outside the folder
    │   └── SelfCheckFailed           this CPU does not reproduce the bundle's golden scores
    ├── RuntimeMissing                onnxruntime is absent, or there twice
    ├── ScoringFailed                 one response could not be scored; the others are not touched
    ├── CannotListen                  the server's address is taken or cannot be had
    └── RequestError                  a request to the server that is not answered with scores
        ├── NotJson                   its body is no JSON
        ├── WrongShape                its body is none of the forms
        ├── UnknownModel              it names a model that is not served
        ├── RequestTooLarge           it has more bytes or responses than are taken at once
        ├── QueueFull                 too much is waiting already
        ├── DeadlinePassed            its time was over before a response's turn came
        └── NotReady                  the server is starting or draining

`edgedistill_export.errors` and `edgedistill.errors` add their own branches to the same root.
"""


class EdgeDistillError(Exception):
    """Root of the tree: what happened, where, and what mends it.

    Args:
        what: One plain sentence part, no full stop at its end.
        where: File, row, key or address, such as ``human.csv, row 7``.
        mend: What the reader can do about it.
    """

    exit_code = 2
    """The process exit code of a command that ends with this error."""

    def __init__(self, what: str, *, where: str | None = None, mend: str | None = None) -> None:
        self.what, self.where, self.mend = what, where, mend
        super().__init__(": ".join(part for part in (where, what) if part) + (f". {mend}" if mend else ""))


class DataError(EdgeDistillError):
    """An input file, or a row of one, cannot be used."""


class BundleError(EdgeDistillError):
    """A folder is no bundle that this version can read."""


class BundleDamaged(BundleError):
    """A bundle's file is missing, was changed, or lies outside its folder."""


class SelfCheckFailed(BundleError):
    """This CPU does not reproduce the scores that the bundle was checked with."""


class RuntimeMissing(EdgeDistillError):
    """onnxruntime is not installed, or both of its builds are."""


class ScoringFailed(EdgeDistillError):
    """One response could not be scored."""

    exit_code = 1


class CannotListen(EdgeDistillError):
    """The server's address is taken, or cannot be had."""


class RequestError(EdgeDistillError):
    """A request to the server is not answered with scores."""


class NotJson(RequestError):
    """The body of a request is no JSON."""


class WrongShape(RequestError):
    """The body of a request is none of the forms."""


class UnknownModel(RequestError):
    """A request names a model that is not served."""


class RequestTooLarge(RequestError):
    """A request has more bytes or responses than are taken at once."""


class QueueFull(RequestError):
    """Too many responses are waiting already."""


class DeadlinePassed(RequestError):
    """A request's time was over before the turn of one of its responses came."""


class NotReady(RequestError):
    """The server is starting or draining."""
