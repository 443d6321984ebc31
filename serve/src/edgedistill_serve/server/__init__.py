"""The HTTP server.

process, app            the process with its signals, and the ASGI application
transport, middleware   HTTP/1.1, sockets and TLS; API keys and the request log
protocols, request      the HTTP protocols; request bodies, error responses and OpenAPI
service, queue          the models with the queue and the threads that score
model_catalogue         the served models and their replacement
limits, metrics         limits of the server, and Prometheus metrics
"""
