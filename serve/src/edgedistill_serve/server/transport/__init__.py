"""HTTP/1.1 with limits for each connection, sockets and TLS."""
