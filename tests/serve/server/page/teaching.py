"""Helpers for the page: typing, waiting, and formatting of probabilities."""

TEXT = "you worked hard on this because the answer is great"
SCORED = "document.querySelector('#verdict .label')"
EXPLAINED = "!document.getElementById('words-details').hidden"


def shown(share: float) -> str:
    """Return a share as the page writes it."""
    return f"{100 * share:.1f} %"
