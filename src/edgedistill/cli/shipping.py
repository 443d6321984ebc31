"""What `edgedistill export` does with a bundle that is done: sign it, upload it."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from edgedistill.cli.terminal import Terminal
from edgedistill.errors import EdgeDistillError

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
    """

    key: Path | None = None
    repo: str | None = None
    dry_run: bool = False
    public: bool = False

    def ship(self, folder: Path, terminal: Terminal) -> dict[str, Any]:
        """Do it, and return what came of it for `--json`.

        Raises:
            EdgeDistillError: The bundle cannot be signed or uploaded.
        """
        if not (self.key or self.repo):
            return {}
        from edgedistill_export.hub import plan_push, push
        from edgedistill_serve import Bundle
        from edgedistill_serve.signing import sign_bundle

        done: dict[str, Any] = {}
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


def shipping(key: Path | None, repo: str | None, *, dry_run: bool, public: bool) -> Shipping:
    """Check that the options go together.

    Raises:
        EdgeDistillError: An option has no meaning without `--push`.
    """
    if repo is None and (dry_run or public):
        raise EdgeDistillError("--dry-run and --public go with --push REPO")
    return Shipping(key, repo, dry_run, public)
