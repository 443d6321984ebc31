"""The command `edgedistill web`: a page that scores in a browser, of a bundle that is there already."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgedistill.cli.terminal import Terminal

if TYPE_CHECKING:  # the exporter imports torch, which `--help` should not wait for
    from edgedistill_export.web import WebPage


def web(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="The bundle's folder.")],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The page's folder; a page that is there is replaced.")],
    public_key: Annotated[
        Path | None,
        typer.Option("--public-key", metavar="PEM", help="Take only a bundle that is signed with this key's owner's."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Write a page that scores in a browser, offline, with a bundle.

    Example: edgedistill web praise/runs/praise/bundle page
    """
    from edgedistill_serve import Bundle

    loaded = Bundle.load(bundle, public_key=public_key)

    from edgedistill_export.web import write_web

    terminal = Terminal(as_json=as_json)
    terminal.finish(tell_page(write_web(loaded, folder), terminal))


def tell_page(page: "WebPage", terminal: Terminal) -> dict[str, Any]:
    """Tell a person of a page that was written, and return the same for `--json`."""
    terminal.console.print(
        f"page  {page.folder}  {page.bytes / 1e6:.1f} MB, scores with {page.precision}. It holds {page.responses} "
        "responses word for word, to check itself with: share it no further than those.",
        markup=False,
    )
    terminal.console.print(
        f"open it: python -m http.server --bind 127.0.0.1 -d {page.folder}, then http://127.0.0.1:8000/", markup=False
    )
    return asdict(page) | {"folder": str(page.folder)}
