"""The version store: immutable versions, manifests, heads, lineage. No Dagster here."""
