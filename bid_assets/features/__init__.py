"""Features of bids, point in time: raw tables in, feature tables out (concept: `docs/concepts/time.md`). No Dagster here.

`family` says what a feature family is, `registry` lists them. A family is added by one module in `families/` and one
line in `registry`.
"""
