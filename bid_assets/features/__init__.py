"""Feature families: pure functions, raw tables in, feature tables out. No Dagster here.

A family is added by one module with a `FAMILY` and its name in `families.py`; nothing else changes.
"""
