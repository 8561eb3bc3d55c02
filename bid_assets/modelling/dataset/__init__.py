"""The training dataset: features joined to the labels known at a cutoff, split by time, and checked."""
