"""Write a bundle's page as one HTML file with its scripts, WebAssembly and weights, which opens by a double click."""

import base64
import gzip
import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from edgedistill_export.errors import WebFailed
from edgedistill_export.verify.golden import responses_in
from edgedistill_export.web.classic_script import classic_script
from edgedistill_export.web.vendored import Vendored, load_vendored
from edgedistill_export.web.writing import DESCRIPTION, PAGE, page_files, write_file
from edgedistill_serve.bundle.loading import Bundle

_START = '<!doctype html>\n<html lang="en" data-one-file>'
_POLICY = (
    "default-src 'none'; script-src {scripts} 'wasm-unsafe-eval'; worker-src blob:; style-src {style}; img-src data:; "
    "connect-src 'none'; base-uri 'none'; form-action 'none'"
)
_STYLES = '  <link rel="stylesheet" href="page/page.css">\n  <link rel="stylesheet" href="page/web.css">\n'
_CHECK = '<script src="page/check.js" defer></script>'
_MAIN = '<script type="module" src="page/page.mjs"></script>'


@dataclass(frozen=True, slots=True)
class WebFile:
    """A page that was written as one file, or in one.

    Attributes:
        file: The file.
        model: The bundle's name.
        version: The bundle's version.
        precision: Precision of the graph that it scores with.
        bytes: Size of the file.
        responses: Number of learners' responses that it contains verbatim for its self-check.
    """

    file: Path
    model: str
    version: str
    precision: str
    bytes: int
    responses: int


def write_single(bundle: Bundle, file: Path, npm: Vendored | None = None) -> WebFile:
    """Write the page of a bundle as one HTML file.

    Args:
        bundle: The bundle; the page uses the graph that it serves.
        file: The output file. An existing page of one file is replaced.
        npm: The npm files; by default those of this package.

    Raises:
        WebFailed: The npm files are missing, the bundle cannot be scored in a browser, or the file is something other
            than a page or cannot be written.
    """
    content = single_page(bundle, npm or load_vendored())
    write_file(file, content, lambda found: found.startswith(_START.encode()), "a page of one file")
    return describe_file(bundle, file)


def describe_file(bundle: Bundle, file: Path) -> WebFile:
    """Return the description of a written file."""
    manifest = bundle.manifest
    size = file.stat().st_size
    return WebFile(file.absolute(), manifest.name, manifest.version, manifest.precision, size, responses_in(bundle))


def single_page(bundle: Bundle, npm: Vendored) -> bytes:
    """Return the page of a bundle as one HTML file.

    Raises:
        WebFailed: The bundle cannot be scored in a browser.
    """
    files = {
        name: source if isinstance(source, bytes) else source.read_bytes()
        for name, source in page_files(bundle, npm, embedders=("*",)).items()
    }
    script = classic_script(_modules(files))
    check = files["page/check.js"].decode()
    style = (files["page/page.css"] + files["page/web.css"]).decode()
    icon = f"data:image/svg+xml;base64,{base64.b64encode(files['page/icon.svg']).decode()}"
    policy = _POLICY.format(scripts=f"{_hash(check)} {_hash(script)}", style=_hash(style))
    page = files["index.html"].decode()
    page = re.sub(r'(?<=Content-Security-Policy" content=")[^"]+', policy, page, count=1)
    for before, after in (
        ('<!doctype html>\n<html lang="en">', _START),
        ("page/icon.svg", icon),
        ('  <link rel="manifest" href="manifest.webmanifest">\n', ""),
        (_STYLES, f"  <style>{style}</style>\n"),
        (_CHECK, f"<script>{check}</script>"),
        (_MAIN, f'<script id="script">{script}</script>'),
        ("</body>", f"{_parts(files)}</body>"),
    ):
        if before not in page:
            raise WebFailed(f"index.html has no {before!r}, which a page of one file replaces")
        page = page.replace(before, after)
    return page.encode()


def _modules(files: Mapping[str, bytes]) -> dict[str, str]:
    modules = {name: content.decode() for name, content in files.items() if name.endswith(".mjs")}
    modules["page/places.mjs"] = (PAGE / "in_one_file.mjs").read_text("utf-8")
    del modules["sw.mjs"]
    if "vendor/ort.wasm.min.mjs" not in modules:  # that of a nano student, which has no WebAssembly
        del modules["page/wasm_graph.mjs"]
    return modules


def _parts(files: Mapping[str, bytes]) -> str:
    """Return the files that the scripts read, packed, as data that is not run, and an empty last element."""
    read = (name for name in files if name.startswith("model/") or name == DESCRIPTION or name.endswith(".wasm"))
    parts = [
        f'<script type="application/gzip" data-path="{name}">'
        f"{base64.b64encode(gzip.compress(files[name], mtime=0)).decode()}</script>\n"
        for name in sorted(read)
    ]
    return f'{"".join(parts)}<script type="application/gzip" id="end"></script>\n'


def _hash(content: str) -> str:
    return f"'sha256-{base64.b64encode(sha256(content.encode()).digest()).decode()}'"
