"""`python -m edgedistill_serve` is the command `edgedistill-serve`."""

from edgedistill_serve.cli import main

main()
