"""Everything that Dagster runs: assets, IO managers, partitions, jobs, schedules, sensors, and when they refresh and retrain.

Thin: what computes is in the pure packages (concept: `docs/concepts/loop.md`).
"""
