"""Suppress logs and warnings of other libraries."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from transformers.utils import logging as bars


@contextmanager
def quiet() -> Iterator[None]:
    """Run the block without log records, warnings and transformers' progress bars; exceptions propagate.

    The warnings of torch's tracer, optimum, transformers and onnxruntime's quantizer address authors of converters.
    Here every converted graph is measured instead (`edgedistill_export.verify.parity`).
    Logging is disabled for the whole process while the block runs.
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
