"""From features to a model: dataset, training, evaluation, promotion, backtesting (concept: `docs/concepts/model.md`).

Pure: tables in, tables and metrics out. No Dagster here; what runs it as assets is in `orchestration/assets/`.
"""
