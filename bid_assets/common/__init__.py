"""Utilities for every layer: window arithmetic, splitting Arrow tables by window, progress callbacks, private file permissions,
loopback addresses.

Imports nothing of the platform, and no Dagster. What only one package needs belongs in that package.
"""
