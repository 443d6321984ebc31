"""A promise of a bundle, as its manifest states it."""

from msgspec.structs import replace

from edgedistill_serve.bundle.guarantee import Guarantee

PROMISE = Guarantee(
    share=0.05,
    confidence=0.95,
    rows=250,
    accepted=130,
    wrong=1,
    bound=0.036,
    unit="rows",
    units=130,
    scope="responses",
    graphs=("int8", "fp32"),
)


def promise(**changes) -> Guarantee:
    """Return the promise with other values."""
    return replace(PROMISE, **changes)
