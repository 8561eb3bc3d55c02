"""The components of the model, and how they become one: trees, history, text, blend, calibration, threshold."""
