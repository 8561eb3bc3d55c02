"""A simulated freelance market with a known truth, for demos and tests."""
