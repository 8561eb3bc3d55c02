"""The prediction service: online features, serving models, explanations, HTTP API. No Dagster and no training library here.

`online_features` computes features as training does; `models/` hot-reloads the models that the deployment history names;
`prediction_service` puts these together without HTTP; `micro_batching` batches single bids. `app`, `routes`, `schemas` and
`errors` are the HTTP API, `middleware/` holds authentication, rate limit, access log and metrics.
"""
