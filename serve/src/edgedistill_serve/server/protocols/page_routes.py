"""The web pages: the page at `/` and the API documentation, as static files with strict security headers."""

import hashlib
from collections.abc import Sequence
from http import HTTPStatus
from importlib.resources import files

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from edgedistill_serve.server.limits import Limits
from edgedistill_serve.server.request.openapi import JSON, Operation, build_openapi

PAGE_FILES = {
    "index.html": "text/html; charset=utf-8",
    "docs.html": "text/html; charset=utf-8",
    "docs.css": "text/css; charset=utf-8",
    "docs.js": "text/javascript; charset=utf-8",
    "page.css": "text/css; charset=utf-8",
    "json.js": "text/javascript; charset=utf-8",
    "language.js": "text/javascript; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "server.js": "text/javascript; charset=utf-8",
    "word_effects.js": "text/javascript; charset=utf-8",
    "wording.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
"""The served files of the folder `page`, with their media types."""
_PATHS = {"index.html": "/", "docs.html": "/docs"}
"""Paths of the files that are not served as `/page/NAME`."""
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
"""No inline scripts and styles, no other origins, and no embedding in frames."""
_HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def page_routes() -> list[Route]:
    """Return the routes of the pages at `/` and `/docs`, and of their files. The files are read once."""
    folder = files("edgedistill_serve") / "page"
    return [
        static_route(_PATHS.get(name, f"/page/{name}"), (folder / name).read_bytes(), media_type)
        for name, media_type in PAGE_FILES.items()
    ]


def static_route(path: str, content: bytes, media_type: str) -> Route:
    """Return the route of a file of a page, with the security headers of a page."""
    tag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
    headers = {**_HEADERS, "ETag": tag}

    async def file(request: Request) -> Response:
        if request.headers.get("If-None-Match") == tag:
            return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
        return Response(content, media_type=media_type, headers=headers)

    return Route(path, file, include_in_schema=False)


def document_route(operations: Sequence[Operation], limits: Limits) -> Route:
    """Return the route of the OpenAPI document."""
    return static_route("/openapi.json", msgspec.json.encode(build_openapi(operations, limits)), JSON)
