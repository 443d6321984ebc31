"""The project that a command is given, and its place in the commands that messages suggest."""

import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import Annotated

import typer

from edgedistill.project.reading import names_a_project

_SUGGESTED = re.compile(r"`edgedistill(?:-serve)? [^`]*`")
_PLACEHOLDER = re.compile(r"\bPROJECT\b")
_typed: list[Path] = []
"""The project that the running command was given; empty without one."""


def remember_project(given: Path | None) -> Path | None:
    """Keep the project as it was typed, for `complete_commands`; a bundle or a cache is none."""
    _typed.clear()
    if given is not None and names_a_project(given):
        _typed.append(given)
    return given


def typed(argument: Path | str) -> str:
    """Return an argument as it can be typed in a shell."""
    return subprocess.list2cmdline([str(argument)]) if os.name == "nt" else shlex.quote(str(argument))


def complete_commands(message: str) -> str:
    """Return a message whose suggested commands name the project that was typed, in place of ``PROJECT``."""
    if not _typed:
        return message
    place = typed(_typed[0])
    return _SUGGESTED.sub(lambda command: _PLACEHOLDER.sub(lambda _: place, command[0]), message)


PROJECT_HELP = "The project file, or its folder."
ProjectFile = Annotated[Path, typer.Argument(metavar="PROJECT", help=PROJECT_HELP, callback=remember_project)]
