"""The method judged on history: one cutoff, a walk forward over many, retraining policies."""
