"""What every request passes: the key check and the request log."""
