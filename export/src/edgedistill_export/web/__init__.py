"""A page that scores a bundle's responses in a browser: static files, no server, no network."""

from edgedistill_export.web.vendored import Vendored, vendored
from edgedistill_export.web.writing import WebPage, write_web

__all__ = ["Vendored", "WebPage", "vendored", "write_web"]
