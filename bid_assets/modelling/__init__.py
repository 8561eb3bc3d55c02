"""From a dataset to a judged model: split, preprocess, train, evaluate, gate, plots. Pure; no Dagster here."""
