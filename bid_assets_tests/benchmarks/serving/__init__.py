"""`make bench-serving`: the prediction service beside others that do the same, in one run on one machine."""

BOOSTER, NAMES = "BENCH_BOOSTER", "BENCH_NAMES"
"""Environment variables that tell `peers` where the booster is, and the list of its columns."""
