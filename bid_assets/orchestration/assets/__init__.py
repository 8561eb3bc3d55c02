"""The asset graph: thin assets, one module per stage. What computes is in the pure packages."""
