"""Sockets, TLS, and what one connection may do."""
