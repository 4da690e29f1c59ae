"""One module per resource: each reads a request, calls one use case, writes its view."""
