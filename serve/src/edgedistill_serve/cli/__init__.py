"""The command line `edgedistill-serve`."""
