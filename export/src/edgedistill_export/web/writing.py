"""Write a bundle as a folder of static files that scores in a browser, without a server or network."""

import base64
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec
from tokenizers import Tokenizer

from edgedistill_export.errors import WebFailed
from edgedistill_export.verify.golden import responses_in
from edgedistill_export.web.description import PageFile, describe_page, golden_with_tokens
from edgedistill_export.web.nano_file import nano_file
from edgedistill_export.web.tokenizer_tables import tokenizer_tables
from edgedistill_export.web.vendored import Vendored, load_vendored
from edgedistill_serve.bundle.atomic_folder import (
    finish_replacement,
    remove_leftovers,
    replace_folder,
    temporary_sibling,
)
from edgedistill_serve.bundle.loading import Bundle

PAGE = files("edgedistill_export") / "web" / "page"
SERVED_PAGE = files("edgedistill_serve") / "page"
"""The server's page, which shares its style and wording."""

_FROM_SERVED = {"page.css": "page.css", "icon.svg": "icon.svg", "json.js": "json.mjs", "wording.js": "wording.mjs"}
_NOT_OF_PAGE = {"index.html", "package.json", "score_rows.mjs", "sw.mjs"}
"""Files next to the page's scripts that are written elsewhere, or are for Node."""
_DESCRIPTION = "page.json"
_MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".json": "application/json",
    ".mjs": "text/javascript; charset=utf-8",
    ".onnx": "application/octet-stream",
    ".safetensors": "application/octet-stream",
    ".svg": "image/svg+xml",
    ".wasm": "application/wasm",
    ".webmanifest": "application/manifest+json",
}
_WHAT = {
    "wasm": ("vendor/ort-wasm-simd-threaded.wasm", "the runtime"),
    "tokenizer": ("model/tokenizer.json", "the tokenizer"),
    "reading": ("model/reading.json", "the tokenizer's tables"),
    "golden": ("model/golden.json", "golden responses"),
    "graph": ("model/model.onnx", "the model"),
    "nano": ("model/nano.safetensors", "the model"),
}


@dataclass(frozen=True, slots=True)
class WebPage:
    """A written page.

    Attributes:
        folder: Its folder.
        model: The bundle's name.
        version: The bundle's version.
        precision: Precision of the graph that it scores with.
        files: Number of files.
        bytes: Their total size.
        responses: Number of learners' responses that it contains verbatim for its self-check.
    """

    folder: Path
    model: str
    version: str
    precision: str
    files: int
    bytes: int
    responses: int


def write_web(bundle: Bundle, folder: Path, npm: Vendored | None = None) -> WebPage:
    """Write the page of a bundle atomically: to a temporary folder, which then replaces the output folder.

    Args:
        bundle: The bundle; the page uses the graph that it serves.
        folder: The output folder. An existing page is replaced.
        npm: The npm files; by default those of this package.

    Raises:
        WebFailed: The npm files are missing, the bundle cannot be scored in a browser, or the folder contains
            something other than a page or cannot be written.
    """
    folder = folder.absolute()
    content = dict(_content(bundle, npm or load_vendored()))
    aside: Path | None = None
    try:
        _expect_place(folder)
        aside = temporary_sibling(folder)
        finish_replacement(folder)
        for name, source in content.items():
            path = aside / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(source, bytes):
                path.write_bytes(source)
            else:
                shutil.copyfile(source, path)
        replace_folder(aside, folder)
        remove_leftovers(folder)
    except OSError as error:
        raise WebFailed(f"the page cannot be written ({error})", where=str(folder)) from None
    finally:
        if aside:
            shutil.rmtree(aside, ignore_errors=True)
    size = sum((folder / name).stat().st_size for name in content)
    manifest = bundle.manifest
    rows = responses_in(bundle)
    return WebPage(folder, manifest.name, manifest.version, manifest.precision, len(content), size, rows)


def _expect_place(folder: Path) -> None:
    if folder.exists() and not (folder / _DESCRIPTION).exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise WebFailed(
            "the folder is not empty and does not contain a page", where=str(folder), hint="Choose another folder."
        )


def _content(bundle: Bundle, npm: Vendored) -> Iterator[tuple[str, bytes | Path]]:
    """Yield every file of the page with its path."""
    kept = dict(_kept(bundle, npm))
    yield from kept.items()
    sums = {name: _sum(source) for name, source in kept.items()}
    of_files = {key: _page_file(path, what, sums, kept) for key, (path, what) in _WHAT.items() if path in kept}
    description = msgspec.json.encode(describe_page(bundle, of_files))
    yield _DESCRIPTION, description
    yield "sw.mjs", _service_worker(bundle, sums | {_DESCRIPTION: _sum(description)})
    needed = _needed_names(npm, nano="model/nano.safetensors" in kept)
    for name, licence in npm.files.items():
        if name in needed and not _loaded(name):
            yield f"vendor/{name}", licence


def _kept(bundle: Bundle, npm: Vendored) -> Iterator[tuple[str, bytes | Path]]:
    """Yield the files that the service worker caches, except the description."""
    for source in PAGE.iterdir():
        if source.name not in _NOT_OF_PAGE:
            yield f"page/{source.name}", source.read_bytes()
    for name, called in _FROM_SERVED.items():
        yield f"page/{called}", (SERVED_PAGE / name).read_bytes()
    yield "index.html", (PAGE / "index.html").read_bytes()
    yield "manifest.webmanifest", _manifest(bundle.manifest.name)
    graph = bundle.model_file(bundle.manifest.precision)
    if graph is None:
        raise WebFailed(f"the bundle has no {bundle.manifest.precision} graph", where=bundle.manifest.name)
    nano = nano_file(graph)
    needed = _needed_names(npm, nano=nano is not None)
    for name, script in npm.files.items():
        if name in needed and _loaded(name):
            yield f"vendor/{name}", script
    tokenizer = Tokenizer.from_file(str(bundle.tokenizer_file))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    yield "model/tokenizer.json", bundle.tokenizer_file
    yield "model/reading.json", msgspec.json.encode(tokenizer_tables(tokenizer))
    yield "model/golden.json", msgspec.json.encode(golden_with_tokens(bundle))
    if nano is None:
        yield "model/model.onnx", graph
    else:
        yield "model/nano.safetensors", nano


def _needed_names(npm: Vendored, *, nano: bool) -> set[str]:
    """The npm files of a page; that of a nano student scores without onnxruntime."""
    return {name for name in npm.files if not (nano and name.startswith(("ort", "onnxruntime")))}


def _loaded(name: str) -> bool:
    return Path(name).suffix in _MEDIA_TYPES


def _manifest(name: str) -> bytes:
    icon = {"src": "page/icon.svg", "type": "image/svg+xml", "sizes": "any", "purpose": "any"}
    said: dict[str, Any] = {
        "name": f"{name}: score responses",
        "short_name": name,
        "description": "Scores open responses on this device. No text leaves it.",
        "start_url": "./",
        "scope": "./",
        "display": "standalone",
        "background_color": "#f4f6f5",
        "theme_color": "#0f6b5c",
        "icons": [icon, icon | {"purpose": "maskable"}],
    }
    return msgspec.json.format(msgspec.json.encode(said), indent=2)


def _service_worker(bundle: Bundle, sums: Mapping[str, str]) -> bytes:
    """Return the service worker; the cache name changes with any byte of any file."""
    whole = sha256("".join(f"{name} {sums[name]}\n" for name in sorted(sums)).encode()).hexdigest()[:12]
    kept = {
        "cache": f"edgedistill {bundle.manifest.name} {bundle.manifest.version} {whole}",
        "files": {name: {"integrity": sums[name], "type": _MEDIA_TYPES[Path(name).suffix]} for name in sorted(sums)},
    }
    written = b"const KEPT = %s;\n" % msgspec.json.format(msgspec.json.encode(kept), indent=1)
    return written + (PAGE / "sw.mjs").read_bytes()


def _page_file(path: str, what: str, sums: Mapping[str, str], kept: Mapping[str, bytes | Path]) -> PageFile:
    source = kept[path]
    size = len(source) if isinstance(source, bytes) else source.stat().st_size
    return PageFile(path, sums[path], size, what)


def _sum(source: bytes | Path) -> str:
    content = source if isinstance(source, bytes) else source.read_bytes()
    return f"sha256-{base64.b64encode(sha256(content).digest()).decode()}"
