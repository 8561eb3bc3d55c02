"""The asset graph: thin assets, one module per stage. What computes lives in the pure packages."""
