"""Write a bundle as a folder of static files that scores in a browser, without a server or network."""

import base64
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files
from importlib.resources.abc import Traversable
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
    replace_file,
    replace_folder,
    temporary_sibling,
)
from edgedistill_serve.bundle.loading import Bundle

PAGE = files("edgedistill_export") / "web" / "page"
SERVED_PAGE = files("edgedistill_serve") / "page"
"""The server's page, which shares its style and wording."""

_FROM_SERVED = {
    "page.css": "page.css",
    "icon.svg": "icon.svg",
    "json.js": "json.mjs",
    "language.js": "language.mjs",
    "wording.js": "wording.mjs",
}
_NOT_OF_PAGE = {"index.html", "in_one_file.mjs", "package.json", "score_rows.mjs", "sw.mjs"}
"""Files next to the page's scripts that are written elsewhere, or are for Node."""
DESCRIPTION = "page.json"
_EMBEDDER = re.compile(r"\*|https?://(?:\*\.)?[a-z0-9-]+(?:\.[a-z0-9-]+)*(?::\d+)?")
_MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
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


def write_web(bundle: Bundle, folder: Path, npm: Vendored | None = None, embedders: Sequence[str] = ()) -> WebPage:
    """Write the page of a bundle atomically: to a temporary folder, which then replaces the output folder.

    Args:
        bundle: The bundle; the page uses the graph that it serves.
        folder: The output folder. An existing page is replaced.
        npm: The npm files; by default those of this package.
        embedders: Who may show the page inside another page: origins such as ``https://lms.school.org`` or
            ``https://*.school.org``, or ``*`` for everybody; pages of its own origin may, too. By default nobody may.

    Raises:
        WebFailed: The npm files are missing, the bundle cannot be scored in a browser, an embedder is not an origin,
            or the folder contains something other than a page or cannot be written.
    """
    folder = folder.absolute()
    check_embedders(embedders)
    content = page_files(bundle, npm or load_vendored(), tuple(embedders))
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


def check_embedders(embedders: Sequence[str]) -> None:
    """Check the sites that may show a page.

    Raises:
        WebFailed: One is not an origin.
    """
    for each in embedders:
        if not _EMBEDDER.fullmatch(each):
            raise WebFailed(
                f"{each[:80]!r} is not the origin of a site",
                where="--embed",
                hint="State scheme and host, without a path, such as https://lms.school.org or https://*.school.org; "
                "* allows every site.",
            )


def write_file(file: Path, content: bytes, is_ours: Callable[[bytes], bool], what: str) -> None:
    """Write a file at once, in place of an earlier one of the same kind.

    Args:
        file: The file.
        content: Its bytes.
        is_ours: Whether the bytes of an existing file are of this kind, so that it may be replaced.
        what: The kind, for messages.

    Raises:
        WebFailed: The file is something else, or cannot be written.
    """
    try:
        if file.exists() and not (file.is_file() and is_ours(file.read_bytes())):
            raise WebFailed(f"already exists and is not {what}", where=str(file), hint="Choose another name.")
        replace_file(file.absolute(), content)
    except OSError as error:
        raise WebFailed(f"the page cannot be written ({error})", where=str(file)) from None


def _expect_place(folder: Path) -> None:
    if folder.exists() and not (folder / DESCRIPTION).exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise WebFailed(
            "the folder is not empty and does not contain a page", where=str(folder), hint="Choose another folder."
        )


def page_files(bundle: Bundle, npm: Vendored, embedders: tuple[str, ...] = ()) -> dict[str, bytes | Path]:
    """Return every file of a page by its path in the page's folder.

    Raises:
        WebFailed: The bundle cannot be scored in a browser.
    """
    return dict(_content(bundle, npm, embedders))


def page_scripts() -> Iterator[tuple[str, bytes]]:
    """Yield the page's own scripts, styles and icon with their paths in the page's folder."""
    for name in sorted(_names(PAGE)):
        if name not in _NOT_OF_PAGE:
            yield f"page/{name}", (PAGE / name).read_bytes()
    for name, called in _FROM_SERVED.items():
        # The server's page has the same modules with another suffix.
        yield f"page/{called}", (SERVED_PAGE / name).read_bytes().replace(b'.js";', b'.mjs";')


def _names(folder: Traversable, above: str = "") -> Iterator[str]:
    for each in folder.iterdir():
        if each.is_dir():
            yield from _names(each, f"{above}{each.name}/")
        else:
            yield above + each.name


def _content(bundle: Bundle, npm: Vendored, embedders: tuple[str, ...]) -> Iterator[tuple[str, bytes | Path]]:
    kept = dict(_kept(bundle, npm))
    yield from kept.items()
    sums = {name: _sum(source) for name, source in kept.items()}
    of_files = {key: _page_file(path, what, sums, kept) for key, (path, what) in _WHAT.items() if path in kept}
    description = msgspec.json.encode(describe_page(bundle, of_files, embedders))
    yield DESCRIPTION, description
    yield "sw.mjs", _service_worker(bundle, sums | {DESCRIPTION: _sum(description)}, embedders)
    needed = _needed_names(npm, nano="model/nano.safetensors" in kept)
    for name, licence in npm.files.items():
        if name in needed and not _loaded(name):
            yield f"vendor/{name}", licence


def _kept(bundle: Bundle, npm: Vendored) -> Iterator[tuple[str, bytes | Path]]:
    """Yield the files that the service worker caches, except the description."""
    yield from page_scripts()
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


def _service_worker(bundle: Bundle, sums: Mapping[str, str], embedders: tuple[str, ...]) -> bytes:
    """Return the service worker; the cache name changes with any byte of any file."""
    whole = sha256("".join(f"{name} {sums[name]}\n" for name in sorted(sums)).encode()).hexdigest()[:12]
    kept = {
        "cache": f"edgedistill {bundle.manifest.name} {bundle.manifest.version} {whole}",
        "ancestors": " ".join(("'self'", *embedders)) if embedders else "'none'",
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
