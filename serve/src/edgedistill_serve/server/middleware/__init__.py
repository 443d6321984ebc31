"""Middleware for every request: the API key check and the request log."""
