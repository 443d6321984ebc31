"""What holds for every test."""

import gc
import logging
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from . import checked_bundles, processes

# How long an example takes says more about the machine than about the code.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


def pytest_collection_modifyitems(items):
    """Begin with the files beside this one: some take long, and the last file of a run keeps one process busy alone."""
    items.sort(key=lambda item: item.path.parent != Path(__file__).parent)


def pytest_collection_finish():
    """Leave what was imported out of every later search for garbage: there is one after each training."""
    # pytest would listen to what torch traces its exporter by, which takes thrice as long then.
    logging.getLogger("torch.__trace").propagate = True
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def of_this_run(tmp_path_factory):
    """A folder that the workers of a run share."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session", autouse=True)
def _bundles_are_checked_once(of_this_run):
    folder = of_this_run / "checked-bundles"
    folder.mkdir(exist_ok=True)
    checked_bundles.keep_in(folder)
    checked_bundles.start_children_by(processes.run_child)
    processes.checked_bundles = folder
