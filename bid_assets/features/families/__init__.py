"""One module per feature family. What several of them share is in `features/`; text encoders are in `features/embeddings/`."""
