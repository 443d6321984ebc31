"""The commands of `edgedistill cache`."""

from pathlib import Path
from typing import Annotated

import typer

from edgedistill.cli.terminal import Terminal

cache_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Look after the teacher's cached answers.")
