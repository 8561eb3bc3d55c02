"""The method evaluated on history: one cutoff, a walk forward over many, retraining policies."""
