"""Arguments and options that several commands share."""

from pathlib import Path

import click

BUNDLE = click.argument("bundle", type=click.Path(path_type=Path))
JSON = click.option("--json", is_flag=True, help="Write JSON, for machines.")
THREADS = click.option(
    "--threads",
    type=click.IntRange(min=1),
    help="Responses scored at a time; as many as there are cores unless said.",
)
