"""The platform's own tables of predictions, in the schema `bid_assets`; the application's tables are never touched.

`tables` makes and fills them, `reader` reads them, both over a `connection`. Who fills them, and when, is the business of
`serving/prediction_log.py`. No Dagster here.
"""
