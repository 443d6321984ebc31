"""The command line `edgedistill`."""

from edgedistill.cli.commands import main

__all__ = ["main"]
