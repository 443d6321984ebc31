"""Request bodies, error responses and the OpenAPI document."""
