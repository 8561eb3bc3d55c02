"""The application's database, read-only: table contract, snapshot reader, point lookups, change detection queries.

The one exception to read-only is `importing/`. The platform's own tables are in `prediction_log/`; no Dagster here.
"""
