"""An embedded PostgreSQL: one server per data folder, shared by all processes that use it, stopped by the last one out.

Knows nothing of bids: which databases there are is in `app_db/database.py`.
"""
