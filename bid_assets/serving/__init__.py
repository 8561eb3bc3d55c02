"""The prediction service: features online, models, explanations, HTTP. No Dagster and no training library here.

`bid_requests` and `online_features` make features as training does; `models/` loads and swaps models as the deployment history says;
`prediction_service` puts these together; `middleware/`, `routes`, `schemas` and `app` are the HTTP around.
"""
