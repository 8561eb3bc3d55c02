"""The platform's own tables of predictions, in the schema `bid_assets`; the application's tables are never touched.

`schema` makes and migrates them, `writer` fills them off the request's path, `reader` reads them, all over a `connection`. No Dagster here.
"""
