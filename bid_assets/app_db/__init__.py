"""The application's database, read-only: the table contract, the reader, point lookups, and what has changed.

The one exception to read-only is `importing/`. The platform's own tables are in `prediction_log/`; no Dagster here.
"""
