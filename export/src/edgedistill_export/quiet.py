"""Third parties' logs and warnings, kept out of the user's terminal while one of their functions runs."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from transformers.utils import logging as bars


@contextmanager
def quiet() -> Iterator[None]:
    """Run the block without log records, warnings and transformers' progress bars; exceptions pass.

    torch's tracer, optimum, transformers and onnxruntime's quantizer speak to the people who write converters. What
    they warn of is settled here by measuring every converted graph (`edgedistill_export.verify.parity`), not by reading
    logs.
    Logging is switched off for the whole process while the block runs.
    """
    before = logging.root.manager.disable
    # Without a handler on the root logger, the quantizer's logging.warning() would install one for good.
    silent = logging.NullHandler()
    logging.root.addHandler(silent)
    logging.disable(logging.CRITICAL)
    shown = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
        logging.root.removeHandler(silent)
        if shown:
            bars.enable_progress_bar()
