"""How good a model is: metrics with confidence intervals, slices, the report, the forecast, explanations, plots (SVG)."""
