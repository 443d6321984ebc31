"""`python -m edgedistill_serve` is the command `edgedistill-serve`."""

from edgedistill_serve.cli.main import main

main()
