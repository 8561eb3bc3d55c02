"""From features to a judged model: dataset, training, evaluation, promotion, backtesting (concept: `docs/concepts/model.md`).

Pure: tables in, tables and figures out. No Dagster here; what runs it as assets is in `orchestration/assets/`.
"""
