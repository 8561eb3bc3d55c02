"""The prediction service: features online, scoring, swapping, logging, HTTP. No Dagster here: it serves without it.

`requests` and `online` make features as training does; `scorer` is a verified model; `follower` swaps models as the deployment
history says; `prediction_log` remembers; `service` puts these together; `guard`, `keys`, `schemas` and `app` are the HTTP around.
"""
