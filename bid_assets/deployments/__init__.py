"""Deployments: which models are served, as an event-sourced history, the commands that add to it, and requests for a
retraining.

All of it is kept in the version store. The loop's decision is made in `modelling/promotion/`; serving follows the history. No
Dagster here.
"""
