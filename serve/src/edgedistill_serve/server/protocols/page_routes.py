"""The page at `/`: static files of this package, and headers that let it talk to this server alone."""

import hashlib
from http import HTTPStatus
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

PAGE_FILES = {
    "index.html": "text/html; charset=utf-8",
    "page.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "server.js": "text/javascript; charset=utf-8",
    "words.js": "text/javascript; charset=utf-8",
    "wording.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
"""The files of the folder `page` that are served, with their media types."""
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
"""Nothing inline, nothing from elsewhere, nothing sent elsewhere, in no other page's frame."""
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
    """Return the routes of the page, `/` and `/page/NAME`; the files are read once, here."""
    folder = files("edgedistill_serve") / "page"
    return [
        _route("/" if name == "index.html" else f"/page/{name}", (folder / name).read_bytes(), media_type)
        for name, media_type in PAGE_FILES.items()
    ]


def _route(path: str, content: bytes, media_type: str) -> Route:
    tag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
    headers = {**_HEADERS, "ETag": tag}

    async def file(request: Request) -> Response:
        if request.headers.get("If-None-Match") == tag:
            return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
        return Response(content, media_type=media_type, headers=headers)

    return Route(path, file, include_in_schema=False)
