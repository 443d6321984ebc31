"""A web page that scores responses in the browser with a bundle: static files, no server, no network."""

from edgedistill_export.web.browser_check import browser_scores, browser_step, record_browser_step
from edgedistill_export.web.scorm import write_scorm
from edgedistill_export.web.single_file import WebFile, write_single
from edgedistill_export.web.vendored import Vendored, load_vendored
from edgedistill_export.web.writing import WebPage, check_embedders, write_web

__all__ = [
    "Vendored",
    "WebFile",
    "WebPage",
    "browser_scores",
    "browser_step",
    "check_embedders",
    "load_vendored",
    "record_browser_step",
    "write_scorm",
    "write_single",
    "write_web",
]
