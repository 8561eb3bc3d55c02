"""What is around every request: API keys, limits, access log, Prometheus metrics."""
