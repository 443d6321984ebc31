"""Reading one request: its body, what `/v1` takes, errors as responses, OpenAPI."""
