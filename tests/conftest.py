"""What holds for every test."""

import gc
import logging

from hypothesis import HealthCheck, settings

# How long an example takes says more about the machine than about the code.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


def pytest_collection_finish():
    """Leave what was imported out of every later search for garbage: there is one after each training."""
    # pytest would listen to what torch traces its exporter by, which takes thrice as long then.
    logging.getLogger("torch.__trace").propagate = True
    gc.collect()
    gc.freeze()
