"""Arguments and options that several commands share."""

from pathlib import Path

import click

BUNDLE = click.argument("bundle", type=click.Path(path_type=Path))
JSON = click.option("--json", is_flag=True, help="Write JSON, for machines.")
PUBLIC_KEY = click.option(
    "--public-key", type=click.Path(path_type=Path), help="Public key (PEM): the bundle must be signed by its maker."
)
THREADS = click.option(
    "--threads",
    type=click.IntRange(min=1),
    help="Responses scored at a time; as many as there are cores unless said.",
)
