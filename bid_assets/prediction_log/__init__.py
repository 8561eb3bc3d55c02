"""The prediction log: tables of all predictions, in the schema `bid_assets`; the application's tables are never touched.

`schema` creates the tables and their partitions, `writer` fills them off the request's path, `reader` reads them back as Arrow,
all over a `connection`. No Dagster here.
"""
