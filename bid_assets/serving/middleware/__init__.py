"""ASGI middleware around every request: authentication (`api_keys`), rate limit, size and time limits, access log, metrics."""
