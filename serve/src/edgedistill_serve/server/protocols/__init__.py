"""The HTTP protocols of the server, and its web pages."""
