"""Whether a model may serve: acceptance rules, and the comparison of champion and challenger. Facts in, a decision out."""
