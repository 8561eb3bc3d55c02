"""An embedded PostgreSQL server: one per data directory, shared by all processes that hold a lease, stopped with the last
lease.

Knows nothing of bids: which databases there are is in `app_db/database.py`.
"""
