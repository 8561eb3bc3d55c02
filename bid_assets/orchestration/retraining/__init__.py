"""When to retrain: a pure policy, the state that it reads, and whether a decision is still current."""
