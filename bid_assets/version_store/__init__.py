"""The version store: immutable versions, manifests, a HEAD per window, lineage (concept:
`docs/concepts/versions_and_lineage.md`).

Knows assets by name only: what is in a version is its writer's business. Which model is served is in `deployments/`. No Dagster
here.
"""
