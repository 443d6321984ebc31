"""transformers without its logs, bars and words on its own code, which would end up in the user's terminal."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from transformers.utils import logging


@contextmanager
def transformers_quiet() -> Iterator[None]:
    """Run the block with transformers at its error level and without progress bars; both come back afterwards.

    Nor is it said where its code uses what torch has deprecated, as DeBERTa's does: a user can do nothing about that.
    """
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
