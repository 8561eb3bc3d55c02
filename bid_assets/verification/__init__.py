"""Damage of the store and of the deployment history: found by reading everything, and repaired from what else there is.

Stands above `version_store/` and `deployments/`, since it reads both. What a reader does when it meets damage is in these two.
"""
