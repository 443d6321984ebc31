"""A page that scores a bundle's responses in a browser: static files, no server, no network."""

from edgedistill_export.web.recording import record_browser_step
from edgedistill_export.web.running import browser_scores, browser_step
from edgedistill_export.web.vendored import Vendored, vendored
from edgedistill_export.web.writing import WebPage, write_web

__all__ = [
    "Vendored",
    "WebPage",
    "browser_scores",
    "browser_step",
    "record_browser_step",
    "vendored",
    "write_web",
]
