"""Web page, signature and upload of a finished bundle (`edgedistill export`), and `edgedistill web`."""

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgedistill.cli.project_argument import typed
from edgedistill.cli.terminal import Terminal
from edgedistill.errors import EdgeDistillError

if TYPE_CHECKING:  # both import torch, which would slow `--help` down
    from edgedistill.pipeline import Run
    from edgedistill_export.web import WebFile, WebPage


def web(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="The bundle folder.")],
    folder: Annotated[
        Path | None, typer.Argument(metavar="DIR", help="The output folder; an existing page is replaced.")
    ] = None,
    single: Annotated[
        Path | None,
        typer.Option(
            "--single", metavar="FILE.html", help="Write the page as one file, which opens by a double click."
        ),
    ] = None,
    scorm: Annotated[
        Path | None,
        typer.Option("--scorm", metavar="FILE.zip", help="Write the page as a SCORM 1.2 package for Moodle or Canvas."),
    ] = None,
    embed: Annotated[
        list[str] | None,
        typer.Option(
            "--embed",
            metavar="ORIGIN",
            help="With DIR: a site that may show the page inside its own, such as https://lms.school.org; repeatable.",
        ),
    ] = None,
    public_key: Annotated[
        Path | None,
        typer.Option(
            "--public-key", metavar="PEM", help="Require a signature that verifies against this public key (PEM)."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Write a web page that scores responses in the browser, offline.

    Example: edgedistill web praise/runs/praise/bundle page

    Example: edgedistill web praise/runs/praise/bundle --single page.html
    """
    if not (folder or single or scorm):
        raise EdgeDistillError(
            "there is nothing to write", hint="Name a folder, or use --single FILE.html or --scorm FILE.zip."
        )
    if embed and not folder:
        raise EdgeDistillError(
            "--embed requires a folder", hint="Pages of one file and packages may be shown by every site."
        )

    from edgedistill_serve import Bundle

    loaded = Bundle.load(bundle, public_key=public_key)

    from edgedistill_export.web import write_scorm, write_single, write_web

    terminal = Terminal(as_json=as_json)
    done: dict[str, Any] = {}
    if folder:
        done |= print_page(write_web(loaded, folder, embedders=embed or ()), terminal)
    if single:
        file = write_single(loaded, single)
        done["single"] = _print_file(file, terminal, "Open it by a double click.")
    if scorm:
        file = write_scorm(loaded, scorm)
        done["scorm"] = _print_file(file, terminal, "Import it as a SCORM package.")
    terminal.finish(done)


def _print_file(file: "WebFile", terminal: Terminal, how: str) -> dict[str, Any]:
    terminal.console.print(
        f"page  {file.file}  {file.bytes / 1e6:.1f} MB, {file.precision}. {_describe_responses(file.responses)} {how}",
    )
    return asdict(file) | {"file": str(file.file)}


def _describe_responses(count: int) -> str:
    if not count:
        return "It contains no learner's response."
    return f"It contains {count} responses verbatim for its self-check: share it only with people who may read them."


def print_page(page: "WebPage", terminal: Terminal) -> dict[str, Any]:
    """Print a summary of a written page, and return the same for `--json`."""
    terminal.console.print(
        f"page  {page.folder}  {page.bytes / 1e6:.1f} MB, {page.precision}. {_describe_responses(page.responses)}",
    )
    terminal.console.print(
        f"To open it, run python -m http.server --bind 127.0.0.1 -d {typed(page.folder)} and open http://127.0.0.1:8000/",
    )
    return asdict(page) | {"folder": str(page.folder)}


Web = Annotated[
    Path | None,
    typer.Option("--web", metavar="DIR", help="Write a web page that scores offline in the browser to DIR."),
]
CheckBrowser = Annotated[
    bool,
    typer.Option(
        "--check-browser", help="With --web: score the run's rows with the page in Node, and record label flips."
    ),
]

Sign = Annotated[
    Path | None, typer.Option("--sign", metavar="KEY", help="Sign the bundle with this private key (Ed25519, PEM).")
]
Push = Annotated[
    str | None, typer.Option("--push", metavar="REPO", help="Upload the bundle to OWNER/NAME on the Hugging Face Hub.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="With --push: list the files, and upload nothing.")]
Public = Annotated[bool, typer.Option("--public", help="With --push: make a new repository public, not private.")]


@dataclass(frozen=True, slots=True)
class PublishOptions:
    """What to do with a finished bundle.

    Attributes:
        key: Private key to sign it with.
        repo: Repository to upload it to; the token comes from the environment variable HF_TOKEN.
        dry_run: Only list the files that would be uploaded.
        public: Whether a new repository is public.
        web: Folder for the page that scores in the browser.
        check_browser: Whether the page is first compared with the bundle on this run's rows.
    """

    key: Path | None = None
    repo: str | None = None
    dry_run: bool = False
    public: bool = False
    web: Path | None = None
    check_browser: bool = False

    def publish(self, run: "Run", terminal: Terminal) -> dict[str, Any]:
        """Write the page, sign and upload the bundle, as requested; return the results for `--json`.

        Args:
            run: A run with a finished export.
            terminal: Prints the results.

        Raises:
            EdgeDistillError: The page cannot be written or does not agree with the bundle, or the bundle cannot be
                signed or uploaded.
        """
        if not (self.key or self.repo or self.web):
            return {}
        from edgedistill_export.hub import plan_push, push
        from edgedistill_serve import Bundle
        from edgedistill_serve.bundle.signing import sign_bundle

        folder = run.folder / "bundle"
        # The browser check rewrites the bundle, so it comes before the signature.
        done: dict[str, Any] = self._write_page(run, terminal)
        if self.key:
            done["signature"] = str(sign_bundle(Bundle.load(folder).folder, self.key))
            terminal.console.print(f"signed  {done['signature']}")
        if self.repo:
            plan = plan_push(Bundle.load(folder), self.repo, public=self.public)
            for name, size in plan.files:
                terminal.console.print(f"  {size:>12,} bytes  {name}")
            terminal.console.print(
                f"{plan.repo} ({'public' if plan.public else 'private'} if it is new): {plan.bytes / 1e6:.1f} MB. "
                f"{_describe_responses(plan.responses)}",
            )
            done["push"] = {"repo": plan.repo, "public": plan.public, "files": dict(plan.files), "bytes": plan.bytes}
            if self.dry_run:
                terminal.console.print("Nothing was uploaded (--dry-run).")
            else:
                done["push"]["commit"] = push(plan, os.environ.get("HF_TOKEN"))
                terminal.console.print(f"uploaded  {done['push']['commit']}")
        return done

    def _write_page(self, run: "Run", terminal: Terminal) -> dict[str, Any]:
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
                f"browser  {step['flips']} of {step['rows']} validation rows change their label; largest probability "
                f"change {step['max_probability_difference']:.4f}"
            )
        done["web"] = print_page(write_web(Bundle.load(run.folder / "bundle"), self.web), terminal)
        return done


def check_publish_options(
    key: Path | None, repo: str | None, web: Path | None, *, dry_run: bool, public: bool, check_browser: bool
) -> PublishOptions:
    """Check before the export that the options are valid together and that a page can be written.

    Raises:
        EdgeDistillError: An option requires `--push` or `--web`, or the page's npm files are missing.
    """
    if repo is None and (dry_run or public):
        raise EdgeDistillError("--dry-run and --public require --push REPO")
    if web is None and check_browser:
        raise EdgeDistillError("--check-browser requires --web DIR")
    if web is not None:
        from edgedistill_export.web import load_vendored

        load_vendored()
    return PublishOptions(key, repo, dry_run, public, web, check_browser)
