"""Which models are served, and who decided so: an append-only history of events, the commands that add to it, requests for a retraining.

Kept in the version store. The decision itself is made in `modelling/promotion/`; serving follows the history. No Dagster here.
"""
