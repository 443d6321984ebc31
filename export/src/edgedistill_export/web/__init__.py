"""A web page that scores responses in the browser with a bundle: static files, no server, no network."""

from edgedistill_export.web.browser_check import browser_scores, browser_step, record_browser_step
from edgedistill_export.web.vendored import Vendored, load_vendored
from edgedistill_export.web.writing import WebPage, write_web

__all__ = [
    "Vendored",
    "WebPage",
    "browser_scores",
    "browser_step",
    "load_vendored",
    "record_browser_step",
    "write_web",
]
