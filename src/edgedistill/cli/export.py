"""What `edgedistill export` does with a finished bundle (web page, signature, upload), and `edgedistill web`."""

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgedistill.cli.terminal import Terminal
from edgedistill.errors import EdgeDistillError

if TYPE_CHECKING:  # the exporter imports torch, which `--help` should not wait for
    from edgedistill_export.web import WebPage
if TYPE_CHECKING:  # the stages import torch, which `--help` should not wait for
    from edgedistill.pipeline import Run


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


Web = Annotated[
    Path | None,
    typer.Option("--web", metavar="DIR", help="Write a page that scores in a browser, offline, into DIR."),
]
CheckBrowser = Annotated[
    bool,
    typer.Option(
        "--check-browser", help="With --web: score the rows with the page under Node; record the label flips."
    ),
]

Sign = Annotated[
    Path | None, typer.Option("--sign", metavar="KEY", help="Sign the bundle with this private key (Ed25519, PEM).")
]
Push = Annotated[
    str | None, typer.Option("--push", metavar="REPO", help="Upload the bundle to OWNER/NAME on the Hugging Face Hub.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="With --push: list what would be sent, and send nothing.")]
Public = Annotated[bool, typer.Option("--public", help="With --push: let everybody read a repository that is new.")]


@dataclass(frozen=True, slots=True)
class Shipping:
    """What is done with a bundle that is in its place.

    Attributes:
        key: Sign it with this private key.
        repo: Upload it to this repository; the token comes from the variable HF_TOKEN.
        dry_run: Only list what would be uploaded.
        public: Whether everybody may read the repository, where it is new.
        web: Write the page that scores in a browser into this folder.
        check_browser: Whether that page is first compared with the bundle on this run's rows.
    """

    key: Path | None = None
    repo: str | None = None
    dry_run: bool = False
    public: bool = False
    web: Path | None = None
    check_browser: bool = False

    def ship(self, run: "Run", terminal: Terminal) -> dict[str, Any]:
        """Do it, and return what came of it for `--json`.

        Args:
            run: Its export is done.
            terminal: Where a person reads what was done.

        Raises:
            EdgeDistillError: The page cannot be written or does not agree, or the bundle cannot be signed or uploaded.
        """
        if not (self.key or self.repo or self.web):
            return {}
        from edgedistill_export.hub import plan_push, push
        from edgedistill_serve import Bundle
        from edgedistill_serve.bundle.signing import sign_bundle

        folder = run.folder / "bundle"
        # The check writes the bundle anew, so it comes before the signature.
        done: dict[str, Any] = self._page(run, terminal)
        if self.key:
            done["signature"] = str(sign_bundle(Bundle.load(folder).folder, self.key))
            terminal.console.print(f"signed  {done['signature']}")
        if self.repo:
            plan = plan_push(Bundle.load(folder), self.repo, public=self.public)
            for name, size in plan.files:
                terminal.console.print(f"  {size:>12,} bytes  {name}", markup=False)
            seen = "everybody" if plan.public else "those whom its owner lets in"
            terminal.console.print(
                f"{plan.repo}, read by {seen}: {plan.bytes / 1e6:.1f} MB. golden.json holds {plan.responses} responses "
                "word for word.",
                markup=False,
            )
            done["push"] = {"repo": plan.repo, "public": plan.public, "files": dict(plan.files), "bytes": plan.bytes}
            if self.dry_run:
                terminal.console.print("nothing was sent (--dry-run)")
            else:
                done["push"]["commit"] = push(plan, os.environ.get("HF_TOKEN"))
                terminal.console.print(f"sent: {done['push']['commit']}", markup=False)
        return done

    def _page(self, run: "Run", terminal: Terminal) -> dict[str, Any]:
        if self.web is None:
            return {}
        from edgedistill.pipeline.export import check_browser
        from edgedistill_export.web import write_web
        from edgedistill_serve import Bundle

        done: dict[str, Any] = {}
        if self.check_browser:
            done["browser"] = check_browser(run)
            step = done["browser"]["on_validation_rows"]
            terminal.console.print(
                f"browser  {step['flips']} of {step['rows']} validation rows change their label, the largest change of "
                f"a probability is {step['max_probability_difference']:.4f}"
            )
        done["web"] = tell_page(write_web(Bundle.load(run.folder / "bundle"), self.web), terminal)
        return done


def shipping(
    key: Path | None, repo: str | None, web: Path | None, *, dry_run: bool, public: bool, check_browser: bool
) -> Shipping:
    """Check that the options go together, and that a page can be written, before the work begins.

    Raises:
        EdgeDistillError: An option has no meaning without `--push`, or without `--web`; a page's npm files are missing.
    """
    if repo is None and (dry_run or public):
        raise EdgeDistillError("--dry-run and --public go with --push REPO")
    if web is None and check_browser:
        raise EdgeDistillError("--check-browser goes with --web DIR")
    if web is not None:
        from edgedistill_export.web import vendored

        vendored()
    return Shipping(key, repo, dry_run, public, web, check_browser)
