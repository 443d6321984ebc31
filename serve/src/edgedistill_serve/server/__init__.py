"""The HTTP server: what comes over the wire, and what goes back.

forms        the body of a request, read into a type
service      the loaded models and the queue in front of them
problems     errors as statuses, in one place
record       a request id, one log line and a last resort for every request
app          the routes
serving      the process: its socket, its signals, its end
"""
