"""What the commands of `cli.py` do: each talks to a person (or, as JSON, to a script) about work done elsewhere."""
